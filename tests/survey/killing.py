"""Runs a task again and again, each time killed one step later, and checks what is left; see its test.

A step is a call of the interpreter that can change the file system: the process is killed before it is made.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fmbdask.store.run.ledger import Ledger
from fmbdask.store.run.parts import folder_checksum, read_part
from fmbdask.store.run.units import REDUCE, Part, Unit
from fmbdask.survey.worker.task import run_task

from .small import SmallPipeline, SmallRun, install

STEPS = {"write", "fsync", "rename", "replace", "mkdir", "open", "unlink", "rmdir", "close", "ftruncate"}


def killed_at(step: int, work: Callable[[], Any]) -> bool:
    """Do some work in a process of its own that is killed before its n-th step; whether it was."""
    child = os.fork()
    if child == 0:
        count = 0

        def watch(frame: Any, event: str, function: Any) -> None:
            nonlocal count
            if event == "c_call" and getattr(function, "__name__", "") in STEPS:
                count += 1
                if count == step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(watch)
        try:
            work()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WIFSIGNALED(status)


def check(run: SmallRun) -> dict[Unit, Part]:
    """All that is recorded is there, and no product is there in part; returns what is recorded."""
    known: dict[Unit, Part] = {}
    with Ledger.snapshot(run.folder) as ledger:
        for ended in ledger.ended():
            assert ended.part is not None
            if ended.unit.region == REDUCE:
                path = run.folder.path / ended.part.path
                assert folder_checksum(path) == (ended.part.length, ended.part.checksum)
            else:
                read_part(run.folder, ended.part)
            known[ended.unit] = ended.part
        # only what was in hand when it was killed is done again
        assert sum(n - 1 for n in ledger.executions().values()) <= 1
    product = run.folder.products / "item0"
    if product.exists():
        assert json.loads((product / "numbers.json").read_text())["total"] == [0, 8, 32]
        assert sorted(p.name for p in product.iterdir()) == ["maps", "numbers.json"]
        assert len((product / "maps" / "map.bin").read_bytes()) == 4096
    return known


def main(folder: Path, first: int, stride: int) -> None:
    """Kill at every n-th step, until the task is done before it."""
    pipeline = SmallPipeline()
    install(pipeline)
    step, checksums, partly = first, set(), 0
    while True:
        run = SmallRun(folder / f"run{step}", pipeline, regions=3)
        run.reign.release()
        first_task = run.task(run.units())
        killed = killed_at(step, lambda task=first_task: run_task(task))
        run.known = check(run)
        partly += 0 < len(run.known) < 5
        left = [unit for unit in run.units() if unit not in run.known]
        if left:
            assert killed
            rest = run.task(left)
            assert not killed_at(0, lambda task=rest: run_task(task))
        known = check(run)
        assert set(known) == set(run.units())
        checksums.add(known[run.units()[-1]].checksum)
        run.folder.sweep()
        assert [p.name for p in run.folder.products.iterdir()] == ["item0"]
        if not killed:
            break
        step += stride
    assert len(checksums) == 1
    print(json.dumps({"steps": step, "partly": partly}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
