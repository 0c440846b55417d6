"""Grouping of a sparse list of steps: what touches in (frame, y, x) belongs together.

No volume is built: points are sorted by pixel and frame, and for each offset to a neighbouring column of
frames the matching stretch of the list moves forward only, so a sweep over n points costs O(n). Union-find
joins what touches (Galler and Fischer 1964).
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .jit import exact

Int = NDArray[np.int64]

#: Rounds in which events that have grown up to a stronger one at the same time join it.
TURNS = 4


@exact
def _root(parent, i):
    """Root of ``i``, with the path to it halved on the way."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@exact
def _join(row, frame, step, reach, parent):
    """Join points whose ``row`` differs by exactly ``step`` and whose ``frame`` by at most their ``reach``.

    Points are sorted by (row, frame), rows being pixels numbered so that a neighbour is a fixed step away.
    """
    low = 0
    for i in range(row.size):
        wanted, first, last = row[i] - step, frame[i] - reach[i], frame[i] + reach[i]
        while low < i and (row[low] < wanted or (row[low] == wanted and frame[low] < first)):
            low += 1
        j = low
        while j < i and row[j] == wanted and frame[j] <= last:
            a, b = _root(parent, i), _root(parent, j)
            if a < b:
                parent[b] = a
            elif b < a:
                parent[a] = b
            j += 1


def group_steps(
    frame: ArrayLike,
    y: ArrayLike,
    x: ArrayLike,
    strong: ArrayLike,
    frame_reach: int = 1,
    weak_reach: int | None = None,
) -> NDArray[np.int32]:
    """Label the groups of steps that touch each other, strong and weak ones apart.

    Parameters
    ----------
    frame, y, x : (n,) int arrays
        Where the steps are, in any order; several per pixel and repeated ones are allowed. Integrations are
        kept apart by the caller, for example by adding more than ``frame_reach`` empty frames between them.
    strong : (n,) bool array
        Steps join only steps of their own kind: weak ones scatter in time and would chain events together.
    frame_reach, weak_reach : int
        Steps of the same or of the eight neighbouring pixels join when their frames differ by at most this;
        weak ones by ``weak_reach`` where it is given.

    Returns
    -------
    (n,) int32 array
        Labels from 0, numbered by the smallest (frame, y, x) of each group, strong before weak where equal:
        the order of the input does not matter.
    """
    frames, ys, xs = (np.asarray(v, np.int64) for v in (frame, y, x))
    weak = ~np.asarray(strong, np.bool_)
    if frames.size == 0:
        return np.zeros(0, np.int32)
    frames, ys, xs = frames - frames.min(), ys - ys.min(), xs - xs.min()
    # one empty column and two empty rows keep neighbours across borders and kinds apart
    width, height = int(xs.max()) + 2, int(ys.max()) + 3
    row = (weak * height + ys) * width + xs
    order = np.lexsort((frames, row))
    row_sorted, frame_sorted = row[order], frames[order]
    parent = np.arange(frames.size)
    reach = np.where(weak, frame_reach if weak_reach is None else weak_reach, frame_reach)[order]
    for step in (0, 1, width - 1, width, width + 1):
        _join(row_sorted, frame_sorted, step, reach, parent)
    roots = np.empty_like(parent)
    roots[order] = _roots(parent)
    by_place = np.lexsort((weak, xs, ys, frames))
    seen, first, inverse = np.unique(roots[by_place], return_index=True, return_inverse=True)
    number = np.empty(seen.size, np.int32)
    number[np.argsort(first)] = np.arange(seen.size, dtype=np.int32)
    labels = np.empty(frames.size, np.int32)
    labels[by_place] = number[inverse]
    return labels


@exact
def _roots(parent):
    """Root of every point."""
    out = np.empty_like(parent)
    for i in range(parent.size):
        out[i] = _root(parent, i)
    return out


@exact
def _absorb(order, start, row, by_row, lead_row, lead_group, frame, reach, gap, seed, rank, width, into):
    """The loop behind :func:`absorb_groups`."""
    settled = into >= 0
    widest = 0
    for g in order:
        widest = max(widest, gap[g])
    lines = 2 * widest + 1
    begin = np.empty((row.size, lines), np.int64)
    for line in range(lines):
        shift, i = (line - widest) * width - widest, 0
        for e in by_row:
            while i < lead_row.size and lead_row[i] < row[e] + shift:
                i += 1
            begin[e, line] = i
    for turn in range(TURNS):
        moved = False
        for g in order:
            # at first all that are not settled; then events, which stronger ones may have grown up to
            if settled[g] or (turn and into[g] != g):
                continue
            target = -1
            for e in range(start[g], start[g + 1]):
                for line in range(widest - gap[g], widest + gap[g] + 1):
                    middle, i = row[e] + (line - widest) * width, begin[e, line]
                    while i < lead_row.size and lead_row[i] <= middle + gap[g]:
                        if lead_row[i] < middle - gap[g]:
                            i += 1
                            continue
                        h = lead_group[i]
                        event = into[h]
                        i += 1
                        if event < 0 or (turn and rank[event] >= rank[g]):
                            continue
                        late = max(abs(frame[h] - frame[g]), abs(frame[event] - frame[g]))
                        if late <= reach[g] and (target < 0 or rank[event] < rank[target]):
                            target = event
            if target >= 0:
                if turn:
                    for h in range(into.size):
                        if into[h] == g:
                            into[h] = target
                into[g] = target
                moved = True
            elif seed[g]:
                into[g] = g
        if not moved:
            break


def absorb_groups(
    row: Int,
    start: Int,
    width: int,
    frame: Int,
    reach: Int,
    gap: Int,
    seed: NDArray[np.bool_],
    order: Int,
    into: Int,
) -> Int:
    """Let strong groups take in what lies within a few pixels of them and a few frames.

    A group joins the strongest event of which some group is that near, and whose founder is at the same time.
    Then events join stronger ones that have grown up to them.

    Parameters
    ----------
    row : (n,) int64 array
        Pixel numbers ``y * width + x`` of all groups one after the other; ``width`` leaves as many
        columns empty as the largest gap.
    start : (g + 1,) int64 array
        Where each group starts in ``row``.
    frame, reach : (g,) int64 arrays
        Frame of each group and by how many frames it may differ from a group that takes it in, and from the
        one that founded the event.
    gap : (g,) int64 array
        By how many rows and columns its nearest pixel may lie away.
    seed : (g,) bool array
        Groups that are events of their own when nothing takes them in; the others are dropped then.
    order : (g,) int64 array
        Groups in the order in which they are looked at: strongest first.
    into : (g,) int64 array
        Event of the groups that are settled already, -1 for the others.

    Returns
    -------
    (g,) int64 array
        Event of each group, named by the group that founded it, -1 for none.
    """
    out = into.copy()
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    owner = np.repeat(np.arange(order.size), np.diff(start))
    by_row = np.argsort(row, kind="stable")
    leading = by_row[(seed | (into >= 0))[owner[by_row]]]
    lead_row, lead_group = row[leading], owner[leading]
    _absorb(order, start, row, by_row, lead_row, lead_group, frame, reach, gap, seed, rank, width, out)
    return out
