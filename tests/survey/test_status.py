"""How a run goes, from its journals alone."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from fmbdask.errors import RunError
from fmbdask.store.run.epochs import acquire
from fmbdask.store.run.ledger import Ledger
from fmbdask.store.run.units import PREPARE, Record, Unit
from fmbdask.survey.reporting.status import Count, describe, duration, status, volume

from .runs import BEGIN, item_done, make_run, run_done, write


def test_a_planned_run_has_done_nothing(tmp_path: Path) -> None:
    found = status(make_run(tmp_path / "run").path)
    assert found.state == "planned"
    assert found.items == Count(0, 4)
    assert found.regions == Count(0, 12)
    assert math.isnan(found.rate)
    assert "begins it" in describe(found)


def test_what_ended_is_counted_from_the_journals(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write(folder, item_done(0, 1.0) + item_done(2, 10.0)[:4])
    acquire(folder.epochs).release()
    found = status(folder.path)
    assert found.state == "stopped"
    assert found.items == Count(1, 4)
    # one region of the third input: its preparation and its first region had ended
    assert found.regions == Count(4, 12)
    assert found.nbytes == 4000
    assert found.seconds == 7.0
    assert found.updated == BEGIN + 11
    assert "survey resume" in describe(found)


def test_a_coordinator_at_work_is_named(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    reign = acquire(folder.epochs)
    try:
        found = status(folder.path)
        assert found.state == "running"
        assert found.coordinator is not None
        assert str(found.coordinator["pid"]) in describe(found)
    finally:
        reign.release()


def test_a_complete_run_says_whether_inputs_failed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", inputs=2)
    acquire(folder.epochs).release()
    write(folder, [*item_done(0, 1.0), *run_done(9.0)])
    bad = Record(
        "failed", Unit(0, 1, PREPARE), epoch=1, cause="data", final=True, note="x1.fits is cut short"
    )
    again = Record("failed", Unit(0, 1, 0), epoch=1, cause="io", note="stale handle")
    write(folder, [bad, again], "task-0000002")
    found = status(folder.path)
    assert found.state == "complete with failures"
    assert (found.failed, found.retried) == (1, 1)


def test_status_neither_writes_the_ledger_nor_needs_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write(folder, item_done(0, 1.0))
    before = status(folder.path)
    assert not folder.ledger_file.exists()
    Ledger.open(folder).close()
    content = folder.ledger_file.read_bytes()
    write(folder, item_done(1, 8.0), "task-0000002")
    assert status(folder.path).items.done == before.items.done + 1
    assert folder.ledger_file.read_bytes() == content


def test_json_holds_no_nan(tmp_path: Path) -> None:
    found = status(make_run(tmp_path / "run").path)
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["rate"] is None


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        status(tmp_path)


def test_numbers_in_words() -> None:
    assert volume(0) == "0 B"
    assert volume(3.77e9) == "3.77 GB"
    assert duration(45) == "45 s"
    assert duration(600) == "10 min"
    assert duration(36000) == "10 h"
