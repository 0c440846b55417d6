"""Inputs that end their workers, hang or need too much memory, among others that are done all the same."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from fmbdask.store.run.units import REDUCE, Unit
from fmbdask.survey.reporting.failures import failures
from fmbdask.survey.running.run import run

from .medians import DEADLY, HANGING, HUNGRY
from .whole import executions, exposure, files, nothing_done_again, planned, records

#: What goes wrong with which exposure.
TRUNCATED, FIFO, HANGS, HUNGERS, KILLS = BAD = 2, 3, 5, 8, 11
COUNT = 14


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on two processes: an exposure is cut off, one a FIFO, one hangs, one is too large, one kills."""
    folder = tmp_path_factory.mktemp("faults")
    marks = {HUNGERS: HUNGRY, KILLS: DEADLY, HANGS: HANGING}
    inputs = [exposure(folder / f"x{i:02}.fits", i, marks.get(i, 0)) for i in range(COUNT)]
    path = folder / "run"
    plan = planned(inputs, path, memory="450MB", region_deadline=5, attempts=2)
    os.truncate(inputs[TRUNCATED], 30000)
    inputs[FIFO].unlink()
    os.mkfifo(inputs[FIFO])  # whoever opens it waits for ever
    with pytest.MonkeyPatch.context() as patch:
        small = SimpleNamespace(available=1.4e9)  # what a worker may have beyond its share stays little
        patch.setattr("fmbdask.cluster.local.psutil.virtual_memory", lambda: small)
        found = run(plan, cluster="local", workers=2)
    assert (found.done, found.failed, found.complete, found.stopped) == (COUNT - 5, 5, True, "")
    return path


def failed(run: Path) -> pd.DataFrame:
    return failures(run).set_index("item")


def test_each_failure_has_its_reason(done: Path) -> None:
    found = failed(done)
    reasons = {TRUNCATED: "data", FIFO: "data", HANGS: "deadline", HUNGERS: "memory", KILLS: "lost"}
    assert dict(found["cause"]) == reasons
    assert "x02" in found["error"][TRUNCATED]
    assert "5 s" in found["error"][HANGS]
    assert "memory" in found["error"][HUNGERS]
    assert dict(found["attempts"]) == {TRUNCATED: 1, FIFO: 1, HANGS: 2, HUNGERS: 2, KILLS: 2}


def test_memory_is_tried_once_more_with_more_of_it(done: Path) -> None:
    allowances = [r.extra["allowance"] for r in records(done) if (r.kind, r.cause) == ("failed", "memory")]
    assert len(allowances) == 2
    assert allowances[1] > allowances[0]


def test_others_are_done_and_nothing_is_done_again(done: Path) -> None:
    nothing_done_again(done)
    assert all(record.unit.item in BAD for record in records(done) if record.kind in ("failed", "lost"))
    whole = {unit.item for unit in executions(done) if unit.region == REDUCE}
    assert whole == set(range(-1, COUNT)) - set(BAD)
    assert executions(done)[Unit(0, -1, REDUCE)] == 1


def test_the_bits_are_those_of_a_run_without_trouble(done: Path, tmp_path: Path) -> None:
    good = [i for i in range(COUNT) if i not in BAD]
    inputs = [exposure(tmp_path / f"x{i:02}.fits", i) for i in good]
    assert run(planned(inputs, tmp_path / "run"), cluster="threads", workers=2).complete
    ours, theirs = files(done), files(tmp_path / "run")
    assert {n: b for n, b in ours.items() if n.startswith("products") and n.endswith("/0")} == {
        n: b for n, b in theirs.items() if n.startswith("products") and n.endswith("/0")
    }
