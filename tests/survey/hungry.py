"""A worker process whose regions need memory of different kinds; see the tests of the guard."""

from __future__ import annotations

import pickle
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np

from fmbdask.store.run.items import Item
from fmbdask.store.run.units import PREPARE
from fmbdask.survey.worker.guard import anonymous_memory, give_back
from fmbdask.survey.worker.task import run_task

from .small import SmallPipeline, SmallStage, install

SIZE = 2**28  # 256 MiB


@numba.njit(nogil=True)
def fill(pages: Any) -> None:
    """Touch an array that was reserved, without ever giving the interpreter a chance."""
    for _ in range(10**9):
        for i in range(0, pages.size, 4096):
            pages[i] += 1


def in_numpy(item: Item, region: int) -> None:
    """Hold more and more."""
    held = []
    while region == 1:
        held.append(np.ones(2**20))


def in_a_kernel(item: Item, region: int) -> None:
    """Fill pages in compiled code that never ends."""
    if region == 1:
        fill(np.empty(SIZE, np.uint8))


def of_a_file(item: Item, region: int) -> None:
    """Read a large file through a map and through the page cache: nothing of it is anonymous."""
    if region == 1:
        path = Path(item.path)
        assert int(np.memmap(path, np.uint8, "r").sum(dtype=np.int64)) == SIZE
        with path.open("rb", buffering=0) as file:
            while file.read(2**20):
                pass


def in_two_threads(item: Item, region: int) -> None:
    """One of two units that run at the same time needs too much."""
    if region == 1:
        BARRIER.wait()
        if item.index == 0:
            in_numpy(item, region)
        time.sleep(600)  # ended by the guard


BARRIER = threading.Barrier(2)


def main(how: str, path: Path) -> None:
    """Do the tasks of a file side by side, with an allowance of 100 MB above what the process has now."""
    install(SmallPipeline([SmallStage(hook=globals()[how])]))
    fill(np.empty(0, np.uint8)) if how == "in_a_kernel" else None
    tasks = pickle.loads(path.read_bytes())
    allowance = give_back() + 100_000_000
    threads = [
        threading.Thread(target=lambda task=task: run_task(replace(task, allowance=allowance)))
        for task in tasks
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(allowance, anonymous_memory(), PREPARE)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
