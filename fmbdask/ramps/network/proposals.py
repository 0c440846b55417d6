"""What the rules propose to the network: pixels along a line that step together, none of them far enough.

A hit that spreads its charge along a track may lift none of its pixels beyond the threshold of a lone pixel.
Its pixels step in the same frame all the same, side by side: the significances of a step, after each read,
are summed along short lines in all directions, and the peaks of these sums are the proposals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fmbdask_kernels.tracks import COLUMNS, MARGIN, brightest_lines, level_rows, line_pixels, peaks
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ...regions import Region
from ..prepare import Prepared
from ..surroundings import ReadBlock
from .inputs import Float, Ramps, limits_without
from .threads import Report, in_threads

#: Least significance of a line [sigma].
LEAST = 5.25
#: Significances of single pixels are cut here [sigma]: what is beyond was judged by the rules.
CUT = 5.0
#: A pixel that falls so far at any read is no pixel of a faint hit: it drifts, fades or switches [sigma].
FALL = -4.2
#: A proposal is the largest sum within so many frames and pixels.
FRAMES, PIXELS = 6, 4
#: What is so near to a step of an event, in frames and pixels, is a part of that event.
LATE, NEAR = 3, 3.0
#: Edge of the blocks that an exposure is cut into, and pixels around each that are read as well.
BLOCK = COLUMNS - 2 * PIXELS
_AROUND = MARGIN + PIXELS
#: Rows whose ramps are looked at together: bounds the memory.
_ROWS = 16
#: A pixel of a proposal: where and when it steps, by how much, and how significant that is.
PROPOSED_STEP = np.dtype(
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
    """Groups of steps.

    Attributes
    ----------
    steps : array of dtype :data:`PROPOSED_STEP`
        Those of all groups, group by group, the most significant one of each first.
    start : (g + 1,) int64
        Where each group begins in ``steps``, and the end.
    score : (g,) float64
        Significance of the sum along the line of a group [sigma].
    """

    steps: NDArray[Any]
    start: NDArray[np.int64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)

    def group(self, number: int) -> NDArray[Any]:
        """Steps of one group."""
        return self.steps[self.start[number] : self.start[number + 1]]

    @classmethod
    def of(cls, groups: Sequence[NDArray[Any]], score: Sequence[float]) -> Proposals:
        """Put groups together, sorted by integration, frame, row and column of their first steps."""
        heads = np.array([g[0] for g in groups], PROPOSED_STEP)
        order = np.lexsort(tuple(heads[name] for name in ("x", "y", "frame", "integration")))
        steps = np.concatenate([np.zeros(0, PROPOSED_STEP), *(groups[k] for k in order)])
        start = np.cumsum([0, *(len(groups[k]) for k in order)]).astype(np.int64)
        return cls(steps, start, np.asarray(score, np.float64)[order])


def propose(
    prepared: Sequence[Prepared],
    read: ReadBlock,
    unusable: NDArray[np.bool_],
    taken: NDArray[np.bool_],
    events: NDArray[Any],
    progress: Report | None = None,
    threads: int = 1,
) -> Proposals:
    """Find lines of pixels that step together beside the events that are found.

    Parameters
    ----------
    prepared : sequence of Prepared
        One an integration.
    read : callable
        Reads a region, (T, ny, nx).
    unusable : (integrations, y, x) bool
        Pixels that no read of may be used.
    taken : (integrations, y, x) bool
        Pixels of events.
    events : array with fields ``integration``, ``frame``, ``y`` and ``x``
        Steps of events: what is near to one of them is a part of it.
    progress : callable, optional
        Called with (blocks done, blocks, text).
    threads : int
        That look at blocks at the same time.

    Returns
    -------
    Proposals
        The same for any chunks: blocks of an exposure are the same whatever it is kept in.
    """
    blocks = [(p, block) for p in prepared for block in blocks_of(p)]
    groups: list[NDArray[Any]] = []
    score: list[float] = []

    def look(block: tuple[Prepared, Region]) -> list[tuple[NDArray[Any], float]]:
        return list(_lines(Stack.of(*block, read, unusable, taken)))

    for lines in in_threads(look, blocks, threads, progress, "blocks searched for lines"):
        for group, own in lines:
            groups.append(group)
            score.append(own)
    kept = apart(groups, events)
    return Proposals.of([groups[k] for k in kept], [score[k] for k in kept])


def blocks_of(p: Prepared) -> Iterator[Region]:
    """Blocks of an integration, the same whatever chunks it is kept in."""
    rows, columns = p.detector.active
    for y in range(rows.start, rows.stop, BLOCK):
        for x in range(columns.start, columns.stop, BLOCK):
            yield Region(p.integration, y, min(y + BLOCK, rows.stop), x, min(x + BLOCK, columns.stop))


@dataclass(frozen=True)
class Stack:
    """Significances of steps in a block and around it: an image for each read, whose lines are summed.

    Attributes
    ----------
    p : Prepared
    images : (M, ny, nx) float32 array
        After each read in use but the first, without pixels of events; 0 where there are none.
    y0, x0 : int
        First row and column, which may lie beyond the pixels that see light.
    seen : Region
        Those of the pixels that do.
    errors : callable
        Errors of the amplitudes of steps after a read, of rows and columns of ``seen``.
    """

    p: Prepared
    images: Float
    y0: int
    x0: int
    seen: Region
    errors: Callable[[int, NDArray[Any], NDArray[Any]], Float]

    @classmethod
    def of(
        cls,
        p: Prepared,
        block: Region,
        read: ReadBlock,
        unusable: NDArray[np.bool_],
        taken: NDArray[np.bool_],
        around: int = _AROUND,
    ) -> Stack:
        """Take them of a block and so many pixels around it."""
        rows, columns = p.detector.active
        y0, x0 = block.y0 - around, block.x0 - around
        seen = Region(
            p.integration, max(y0, rows.start), min(block.y1 + around, rows.stop),
            max(x0, columns.start), min(block.x1 + around, columns.stop),
        )  # fmt: skip
        steps, errors = _significances(p, seen, read, unusable)
        steps[:, taken[p.integration, seen.y, seen.x]] = 0
        steps[:, steps.min(axis=0) < FALL] = 0
        np.clip(steps, -CUT, CUT, out=steps)
        amplifier = p.detector.amplifier[seen.x]
        level_rows(steps, np.flatnonzero(np.diff(amplifier, prepend=-1, append=-1)))
        images = np.zeros((len(steps), *(size + 2 * around for size in block.shape)), np.float32)
        top, left = seen.y0 - y0, seen.x0 - x0
        images[:, top : top + steps.shape[1], left : left + steps.shape[2]] = steps
        return cls(p, images, y0, x0, seen, errors)

    def line(self, t: int, y: int, x: int) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
        """Rows and columns of the best line through a pixel after a read, and its significance."""
        own_y, own_x, significance = line_pixels(self.images[t], y - self.y0 - MARGIN, x - self.x0 - MARGIN)
        return own_y + self.y0 + MARGIN, own_x + self.x0 + MARGIN, significance

    def group(self, t: int, y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[Any]:
        """Steps of those of some pixels that rise after a read, the most significant one first."""
        values = self.images[t, y - self.y0, x - self.x0]
        up = values > 0
        group = np.zeros(np.count_nonzero(up), PROPOSED_STEP)
        group["integration"], group["frame"] = self.p.integration, self.p.used[t + 1]
        group["y"], group["x"] = y[up], x[up]
        group["significance"] = values[up]
        group["amplitude"] = values[up] * self.errors(t, group["y"] - self.seen.y0, group["x"] - self.seen.x0)
        return group[np.lexsort((group["x"], group["y"], -group["significance"]))]


def _lines(stack: Stack) -> Iterator[tuple[NDArray[Any], float]]:
    """Steps and significance of each line with its middle in a block."""
    images = stack.images
    for t, y, x in peaks(brightest_lines(images), LEAST, FRAMES, PIXELS).tolist():
        inside = PIXELS <= y < images.shape[1] - 2 * MARGIN - PIXELS
        inside &= PIXELS <= x < images.shape[2] - 2 * MARGIN - PIXELS
        if not inside:  # another block's
            continue
        rows, columns, significance = stack.line(t, y + stack.y0 + MARGIN, x + stack.x0 + MARGIN)
        yield stack.group(t, rows, columns), significance


def _significances(
    p: Prepared, region: Region, read: ReadBlock, unusable: NDArray[np.bool_]
) -> tuple[Float, Callable[[int, NDArray[Any], NDArray[Any]], Float]]:
    """Significances (M, ny, nx) of steps, 0 where there are none, and errors of the amplitudes of some."""
    data = read(region)
    out = np.empty((p.used.size - 1, *region.shape), np.float32)
    noise, bins = np.empty(region.shape, np.float32), np.empty(region.shape, np.int64)
    widths: Float = np.zeros((0, 0), np.float32)
    for first in range(0, region.shape[0], _ROWS):
        last = min(first + _ROWS, region.shape[0])
        own = Region(region.integration, region.y0 + first, region.y0 + last, region.x0, region.x1)
        part = np.ascontiguousarray(data[:, first:last])
        ramps = Ramps.of(part, p, own, limits_without(p, own, unusable))
        steps = np.where(ramps.good, ramps.significances(), 0)
        out[:, first:last] = steps.T.reshape(-1, *own.shape)
        noise[first:last] = (ramps.noise * ramps.scale).reshape(own.shape)
        bins[first:last] = ramps.bins.reshape(own.shape)
        widths = ramps.tables.scale
    return out, lambda t, y, x: np.asarray(widths[bins[y, x], t] * noise[y, x], np.float32)


def apart(groups: Sequence[NDArray[Any]], events: NDArray[Any]) -> list[int]:
    """Groups that are not near to a step of an event."""
    if not len(events):
        return list(range(len(groups)))
    places: dict[int, tuple[cKDTree, NDArray[Any]]] = {}
    for integration in np.unique(events["integration"]):
        own = events[events["integration"] == integration]
        places[int(integration)] = cKDTree(np.stack([own["y"], own["x"]], axis=1)), own["frame"]
    kept = []
    for number, group in enumerate(groups):
        place = places.get(int(group["integration"][0]))
        if place is not None:
            tree, frames = place
            around = tree.query_ball_point(np.stack([group["y"], group["x"]], axis=1), NEAR)
            near = np.unique(np.concatenate([np.asarray(a, np.int64) for a in around]))
            if (np.abs(frames[near].astype(np.int64) - int(group["frame"][0])) <= LATE).any():
                continue
        kept.append(number)
    return kept
