"""Ranks of any number of scores, sorted on disk where they are many.

Scores are first divided into classes that follow one another and are small enough to be sorted in memory:
what is in memory at a time does not grow with the number of scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Scores that are sorted in memory at once, and that the limits of the classes are chosen from.
ROWS, SAMPLE = 2**21, 2**16

Int = NDArray[np.int64]


def ordered(scores: NDArray[np.float64], scratch: Path, *, rows: int = ROWS) -> Int:
    """Places of the scores, highest first; equal ones in their order, without those that are NaN.

    Parameters
    ----------
    scores : (n,) float64
        In memory, or a file that is mapped.
    scratch : Path
        Folder for the result where there are more than ``rows`` scores.
    rows : int
        Most scores that are sorted at once.

    Returns
    -------
    (m,) int64
        In memory, or mapped.
    """
    n = len(scores)
    if n <= rows:
        found = np.argsort(-np.asarray(scores), kind="stable")
        return found[: n - int(np.isnan(scores).sum())]
    limits = _limits(scores, rows)
    classes = 2 * len(limits) + 2  # below, at and between the limits, and NaN at the end
    counts = np.zeros(classes, np.int64)
    for start in range(0, n, rows):
        counts += np.bincount(_classes(scores[start : start + rows], limits), minlength=classes)
    begins = np.concatenate([[0], np.cumsum(counts)])
    order = mapped(scratch, n, np.int64)
    free = begins[:-1].copy()
    for start in range(0, n, rows):
        own = _classes(scores[start : start + rows], limits)
        sort = np.argsort(own, kind="stable")
        many = np.bincount(own, minlength=classes)
        at = 0
        for number in np.flatnonzero(many).tolist():
            order[free[number] : free[number] + many[number]] = start + sort[at : at + many[number]]
            free[number] += many[number]
            at += many[number]
    for number in range(0, classes - 1, 2):  # those of odd classes are all equal
        part = slice(begins[number], begins[number + 1])
        places = np.asarray(order[part])
        order[part] = places[np.argsort(-scores[places], kind="stable")]
    return order[: begins[-2]]


def ranks(order: Int, count: int, scratch: Path, *, rows: int = ROWS) -> Int:
    """Rank of each of ``count`` objects, 1 for the first of an order; 0 for those that are not in it."""
    found = np.zeros(count, np.int64) if count <= rows else mapped(scratch, count, np.int64)
    for start in range(0, len(order), rows):
        places = order[start : start + rows]
        found[places] = np.arange(start + 1, start + len(places) + 1)
    return found


def shares(
    scores: NDArray[np.float64], order: Int, scratch: Path, *, rows: int = ROWS
) -> NDArray[np.float64]:
    """What :func:`fmbdask.anomaly.fusion.share_of_rank` says, for any number of scores.

    (N - rank + 1) / N, where equal scores share their mean rank; NaN for those that are not in the order.
    """
    n, count = len(scores), len(order)
    keys = np.zeros(count) if count <= rows else mapped(scratch, count, np.float64)
    out = np.zeros(n) if n <= rows else mapped(scratch, n, np.float64)
    for start in range(0, count, rows):
        keys[start : start + rows] = -scores[order[start : start + rows]]
    for start in range(0, n, rows):
        part = np.asarray(scores[start : start + rows])
        lower = np.searchsorted(keys, -part, "left")
        upper = np.searchsorted(keys, -part, "right")
        found = (count - (lower + upper + 1) / 2 + 1) / max(count, 1)
        found[(upper == lower) | np.isnan(part)] = np.nan
        out[start : start + rows] = found
    return out


def mapped(folder: Path, count: int, kind: Any) -> NDArray[Any]:
    """An array in a new file of a folder, zeros at first: the system may take its pages from memory."""
    number = sum(1 for _ in folder.iterdir())
    return np.lib.format.open_memmap(folder / f"{number}.npy", "w+", np.dtype(kind), (max(count, 1),))[:count]


def _limits(scores: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
    """Negative scores between which there are about half of ``rows`` each, from an evenly spaced sample."""
    sample = np.asarray(scores[:: max(1, len(scores) // SAMPLE)])
    sample = np.sort(-sample[~np.isnan(sample)])
    step = max(1, len(sample) * rows // (2 * len(scores)))
    return np.unique(sample[step::step])


def _classes(scores: NDArray[np.float64], limits: NDArray[np.float64]) -> Int:
    """Class of each score: 2k between limits, 2k + 1 at one of them, the last one for NaN."""
    keys = -np.asarray(scores)
    found = np.searchsorted(limits, keys, "left") + np.searchsorted(limits, keys, "right")
    found[np.isnan(keys)] = 2 * len(limits) + 1
    return found.astype(np.int64)
