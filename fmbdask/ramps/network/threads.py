"""Blocks of an exposure side by side, in the threads of one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Block = TypeVar("Block")
Result = TypeVar("Result")
Report = Callable[[int, int, str], Any]


def in_threads(
    look: Callable[[Block], Result], blocks: Sequence[Block], threads: int, progress: Report | None, text: str
) -> list[Result]:
    """Results of a function of each block, in their order, reported one by one.

    Not tasks of dask: a cluster would be sent the network and the exposure, and its tasks are whole regions
    and exposures.
    """
    with ThreadPoolExecutor(threads, thread_name_prefix="blocks") as pool:
        # one thread is the one that calls: a unit of a survey is done by the thread that has it
        results = []
        for done, result in enumerate((pool.map if threads > 1 else map)(look, blocks), 1):
            results.append(result)
            if progress is not None:
                progress(done, len(blocks), text)
    return results
