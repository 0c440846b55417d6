"""What the rules propose to the network: neighbours that step together, none of them far enough to count.

A hit that spreads its charge over many pixels may lift none of them beyond the threshold of a lone pixel. Its
pixels step in the same frame all the same, which chance brings together far more rarely than single steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Steps from this significance on may be part of a proposal [sigma].
LOOSE = 2.5
#: Frames by which the steps of neighbours may differ: faint ones scatter in time.
REACH = 2
#: Pairs of pixels that count as neighbours (rows, columns): tracks skip pixels.
BESIDE = ((0, 1), (1, -1), (1, 0), (1, 1), (0, 2), (2, 0))
#: Fewest pixels of a proposal, and the least sum of their significances over the root of their number.
FEWEST, LEAST = 2, 4.5

#: The strongest step of one pixel that is looked at: where, when, and how significant it is.
LOOSE_STEP = np.dtype(
    [
        ("integration", np.int32),
        ("frame", np.int32),
        ("y", np.int32),
        ("x", np.int32),
        ("significance", np.float32),
        ("amplitude", np.float32),
    ]
)


@dataclass(frozen=True)
class Proposals:
    """Groups of loose steps.

    Attributes
    ----------
    steps : array of dtype :data:`LOOSE_STEP`
        Those of all groups, group by group, the most significant one of each first.
    start : (g + 1,) int64
        Where each group begins in ``steps``, and the end.
    score : (g,) float64
        Sum of the significances of a group over the root of their number [sigma].
    """

    steps: NDArray[Any]
    start: NDArray[np.int64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)

    def group(self, number: int) -> NDArray[Any]:
        """Steps of one group."""
        return self.steps[self.start[number] : self.start[number + 1]]


def propose(steps: NDArray[Any], taken: NDArray[np.bool_]) -> Proposals:
    """Group loose steps that touch in space and time, and leave out those of events that are found.

    Parameters
    ----------
    steps : array of dtype :data:`LOOSE_STEP`
        Of the whole exposure, in any order; one a pixel and integration.
    taken : (integrations, y, x) bool
        Pixels of events.

    Returns
    -------
    Proposals
        Sorted by integration, frame, row and column of their most significant steps.
    """
    steps = np.sort(steps, order=["integration", "y", "x"])
    place = np.full(taken.shape, -1, np.int64)
    at = steps["integration"], steps["y"], steps["x"]
    place[at] = np.arange(len(steps))
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for dy, dx in BESIDE:
        y, x = steps["y"] + dy, steps["x"] + dx
        inside = (y < taken.shape[1]) & (x >= 0) & (x < taken.shape[2])
        one = np.flatnonzero(inside)
        other = place[steps["integration"][one], y[one], x[one]]
        one, other = one[other >= 0], other[other >= 0]
        together = np.abs(steps["frame"][one].astype(np.int64) - steps["frame"][other]) <= REACH
        first.append(one[together])
        second.append(other[together])
    edges = np.concatenate(first), np.concatenate(second)
    graph = coo_array((np.ones(len(edges[0]), np.int8), edges), shape=(len(steps), len(steps)))
    count, label = connected_components(graph, directed=False)
    size = np.bincount(label, minlength=count)
    score = np.bincount(label, steps["significance"], count) / np.sqrt(np.maximum(size, 1))
    known = np.bincount(label, taken[at], count) > 0
    keep = (size >= FEWEST) & (score >= LEAST) & ~known
    own = np.flatnonzero(keep[label])
    order = own[np.lexsort((-steps["significance"][own], label[own]))]
    heads = np.flatnonzero(np.r_[True, np.diff(label[order]) != 0]) if len(order) else np.zeros(0, np.int64)
    groups = np.split(order, heads[1:]) if len(order) else []
    ranks = np.lexsort(tuple(steps[name][order[heads]] for name in ("x", "y", "frame", "integration")))
    groups = [groups[k] for k in ranks]
    start = np.cumsum([0, *map(len, groups)]).astype(np.int64)
    flat = np.concatenate([*groups, np.zeros(0, np.int64)])
    return Proposals(steps[flat], start, score[label[order[heads]]][ranks])
