"""Coordinators killed at any moment and at every place that matters: nothing is lost, nothing repeated."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fmbdask.errors import LockedError
from fmbdask.ramps.simulation.config import SimulationConfig
from fmbdask.survey.exposures.simulate import simulate_survey
from fmbdask.survey.planning.plan import Plan
from fmbdask.survey.planning.plan import plan as make_plan
from fmbdask.survey.reporting.status import status
from fmbdask.survey.running.run import resume, run

from .medians import SLOW
from .whole import (
    PIPELINE,
    ROOT,
    elsewhere,
    executions,
    exposure,
    files,
    nothing_done_again,
    planned,
    records,
)

COMMAND = [sys.executable, "-c", "from fmbdask.cli.app import main; main()", "survey"]
#: Longest time of one process of a test [s].
PATIENCE = 300.0


@pytest.fixture(scope="module")
def exposures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty simulated exposures of 30 frames of 128 x 128 pixels."""
    settings = SimulationConfig(image_shape=(128, 128), num_frames=30, snowballs_per_exp_range=(0, 1))
    folder = tmp_path_factory.mktemp("exposures")
    found = simulate_survey(settings, folder, end_index=19, seed=5, workers=2)
    return sorted(p for p in found if p.suffix == ".fits")


@pytest.fixture(scope="module")
def plan(exposures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Plan:
    config = {
        "inputs": [str(p) for p in exposures],
        "output": str(tmp_path_factory.mktemp("plan")),
        "edge": 64,
    }
    return make_plan(config | {"span_seconds": 0.5, "memory": "2GB"}, workers=2)


@pytest.fixture(scope="module")
def whole(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted, on threads."""
    path = tmp_path_factory.mktemp("whole") / "run"
    assert run(elsewhere(plan, path), cluster="threads", workers=2).complete
    return path


def ended(run: Path) -> int:
    return sum(path.read_bytes().count(b'"kind":"ended"') for path in (run / "journal").glob("*/*.jsonl"))


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
def test_killed_at_random_moments(plan: Plan, whole: Path, tmp_path: Path, kills: int) -> None:
    path = tmp_path / "run"
    elsewhere(plan, path).save()
    draw = random.Random(kills)
    total = ended(whole)
    moments = sorted(draw.randrange(total) for _ in range(kills))
    for moment in moments:
        process = subprocess.Popen([*COMMAND, "resume", str(path), "--cluster", "local", "--workers", "2"])
        until = time.monotonic() + PATIENCE
        while ended(path) <= moment and process.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.05))
        process.kill()
        assert process.wait() in (-signal.SIGKILL, 0)
    assert resume(path, cluster="local", workers=2).complete
    nothing_done_again(path)
    assert files(path) == files(whole)
    tables = [pd.read_parquet(p / "catalog") for p in (path, whole)]
    assert len(tables[0]) > 100
    pd.testing.assert_frame_equal(*tables)
    assert sum(n - 1 for n in executions(path).values()) <= 2 * kills  # what two workers had in hand


PLACES = [
    ("in planning", 1), ("between result and mark", 2), ("between mark and answer", 3), ("in the index", 3),
    ("in a reduction", 1), ("between product and mark", 2), ("between result and mark", 4),
    ("in the catalogue", 1), ("between catalogue and mark", 1),
]  # fmt: skip


def test_killed_at_every_place_that_matters(tmp_path: Path) -> None:
    inputs = [exposure(tmp_path / f"x{i}.fits", i) for i in range(8)]
    whole, path = tmp_path / "whole", tmp_path / "run"
    assert run(planned(inputs, whole), cluster="threads", workers=1).complete
    config = tmp_path / "run.yaml"
    given = {"pipeline": PIPELINE, "inputs": [str(p) for p in inputs], "output": str(path), "edge": 32}
    config.write_text(yaml.safe_dump(given))
    for place, number in PLACES:
        planning = place == "in planning"
        command = ["run", str(config)] if planning else ["resume", str(path)]
        arguments = ["survey", *command, "--cluster", "threads", "--workers", "1"]
        done = subprocess.run(
            [sys.executable, "-m", "tests.survey.dying", place, str(number), *arguments],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, (place, done.stderr)
        if planning:
            assert not (path / "run.json").exists()
            planned(inputs, path).save()
    assert resume(path, cluster="threads", workers=1).complete
    nothing_done_again(path)
    assert files(path) == files(whole)
    assert sum(n - 1 for n in executions(path).values()) <= len(PLACES)
    epochs = {record.epoch for record in records(path) if record.kind == "ended"}
    assert len(epochs) > 3


def slow_run(tmp_path: Path) -> tuple[Path, subprocess.Popen[str]]:
    """A run whose last inputs take seconds, begun by another process that has done some of it."""
    inputs = [exposure(tmp_path / f"x{i}.fits", i, SLOW * (i > 3)) for i in range(6)]
    path = tmp_path / "run"
    planned(inputs, path, span_seconds=0.05).save()
    arguments = ["resume", str(path), "--cluster", "threads", "--workers", "1"]
    process = subprocess.Popen(
        [*COMMAND, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    until = time.monotonic() + PATIENCE
    while ended(path) < 10:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    return path, process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_units_in_hand(tmp_path: Path, number: int) -> None:
    path, process = slow_run(tmp_path)
    process.send_signal(number)
    said = "".join(process.communicate(timeout=PATIENCE))
    assert process.returncode == 1
    assert f"fmbdask survey resume {path}" in said
    assert "Traceback" not in said
    kinds = [record.kind for record in records(path)]
    assert kinds.count("started") == kinds.count("ended")
    assert "stopped" in status(path).state
    assert resume(path, cluster="threads", workers=2).complete
    nothing_done_again(path)
    assert set(executions(path).values()) == {1}


def test_a_coordinator_that_was_frozen_finds_that_another_took_over(tmp_path: Path) -> None:
    path, process = slow_run(tmp_path)
    process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(LockedError, match=str(process.pid)):
            resume(path, cluster="threads")
        os.utime(path / "epochs" / "00001.json", (0, 0))  # as if it had been silent for long
        assert resume(path, cluster="threads", workers=2).complete
    finally:
        process.send_signal(signal.SIGCONT)
    said = "".join(process.communicate(timeout=PATIENCE))
    assert process.returncode == 1
    assert "has taken over" in said
    results = files(path)
    (path / "ledger.sqlite").unlink()
    assert resume(path, cluster="threads").complete
    assert files(path) == results
    first = min(record.time for record in records(path) if record.epoch == 2)
    held = [r for r in records(path) if r.epoch == 1 and r.kind == "ended" and r.time > first]
    assert len(held) <= 1  # the unit in hand, no more
