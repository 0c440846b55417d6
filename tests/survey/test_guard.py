"""The memory guard: who needs too much is named and ended, also in kernels; files are no memory."""

from __future__ import annotations

import mmap
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from fmbdask.store.run.journal import read_journal
from fmbdask.store.run.units import PREPARE, Record, Unit
from fmbdask.survey.worker import guard
from fmbdask.survey.worker.guard import EXIT_STATUS, Watch, anonymous_memory

from .hungry import SIZE
from .small import SmallRun

ROOT = Path(__file__).resolve().parents[2]


def run_hungry(folder: Path, how: str, *, tasks: int = 1, path: str = "") -> tuple[int, list[Record]]:
    """Let a process do the regions 0 and 1 of items, one task each; its status and all records."""
    run = SmallRun(folder / "run", items=tasks, regions=3)
    run.items = {i: replace(item, path=path) for i, item in run.items.items()}
    (folder / "tasks").write_bytes(pickle.dumps([run.task(run.units(i)[:3]) for i in range(tasks)]))
    done = subprocess.run(
        [sys.executable, "-m", "tests.survey.hungry", how, folder / "tasks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    run.reign.release()
    assert done.returncode in (0, EXIT_STATUS), done.stderr
    return done.returncode, [r for p in run.folder.journal.rglob("*.jsonl") for r in read_journal(p)[0]]


@pytest.mark.parametrize("how", ["in_numpy", "in_a_kernel"])
def test_a_process_that_needs_too_much_is_ended_and_says_why(tmp_path: Path, how: str) -> None:
    status, records = run_hungry(tmp_path, how)
    assert status == EXIT_STATUS
    assert [(r.kind, r.unit.region) for r in records if r.kind != "started"] == [
        ("ended", PREPARE), ("ended", 0), ("failed", 1)
    ]  # fmt: skip
    failed = records[-1]
    assert (failed.cause, failed.final, failed.counted) == ("memory", False, True)
    assert failed.peak == failed.extra["used"] > failed.extra["allowance"] > 100_000_000
    assert f"more than {failed.extra['allowance'] / 1e6:.0f} MB of anonymous memory" in failed.note
    assert f"{failed.peak / 1e6:.0f} MB" in failed.note
    assert failed.seconds > 0


def test_of_two_units_in_one_process_neither_is_blamed(tmp_path: Path) -> None:
    status, records = run_hungry(tmp_path, "in_two_threads", tasks=2)
    assert status == EXIT_STATUS
    failed = [r for r in records if r.kind == "failed"]
    assert {r.unit for r in failed} == {Unit(0, 0, 1), Unit(0, 1, 1)}
    assert {(r.cause, r.counted) for r in failed} == {("memory", False)}


def test_files_that_are_mapped_or_cached_are_no_memory(tmp_path: Path) -> None:
    block = np.ones(2**20, np.uint8).tobytes()
    with (tmp_path / "large").open("wb") as file:
        for _ in range(SIZE // len(block)):
            file.write(block)
    status, records = run_hungry(tmp_path, "of_a_file", path=str(tmp_path / "large"))
    assert status == 0
    assert [r.unit.region for r in records if r.kind == "ended"] == [PREPARE, 0, 1]
    begin, end = (r.peak for r in records if r.kind == "ended" and r.unit.region != 0)
    assert end - begin < 50_000_000


def test_the_peak_is_that_of_the_unit() -> None:
    with Watch(0, lambda used, alone: None) as watch:
        assert watch.begin()
        small = watch.end()
        assert watch.begin()
        # a mapping of its own: memory that earlier tests gave back to the heap would be taken first
        held = np.frombuffer(mmap.mmap(-1, 2**26, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
        held[:] = 1
        large = watch.end()
        assert large - small > 0.9 * held.nbytes
        del held
        assert watch.begin()
        assert watch.end() < large - 0.5 * 2**26


def test_memory_that_was_there_before_is_not_the_units_fault() -> None:
    with Watch(0, lambda used, alone: None) as watch:  # a process that has done something
        watch.begin()
        watch.end()
    with Watch(anonymous_memory() // 2, lambda used, alone: None) as watch:
        assert not watch.begin()


def test_without_the_numbers_of_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    right = anonymous_memory()
    monkeypatch.setattr(guard.sys, "platform", "darwin")
    # elsewhere libraries may count as well, so it is an upper limit
    assert 0.9 * right <= anonymous_memory() <= psutil.Process().memory_info().rss
