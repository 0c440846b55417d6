"""What a network proposes that looks at a whole exposure, beside the lines that the rules propose to it.

The exposure goes through the network block by block, and a block leaves only the pixels that look like a hit,
each with the read from which on it does. These are few: they are joined over the whole exposure, so that no
group ends at the border of a block, and become proposals of the same kind as lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from fmbdask_kernels.tracks import HALVES, MARGIN
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ...regions import Region
from ..prepare import Prepared
from ..surroundings import ReadBlock
from .evidence import READS
from .inputs import CHANNELS, Float, channels, limits_without
from .proposals import BLOCK, FRAMES, LATE, PIXELS, Proposals, Stack, apart, blocks_of
from .threads import Report, in_threads
from .windows import PATCH

if TYPE_CHECKING:
    from ...models.handles import OpenNetwork
    from ...models.patches import Box, Shape


#: Reads, rows and columns that neighbouring patches share.
OVERLAP = (16, 4, 4)
#: Edge of the blocks that go through the network; steps of the grid of patches fill it [pixel].
EDGE = 8 * (PATCH[1] - OVERLAP[1])
#: A voxel looks like a hit where that is at least as probable as all else: there its log-odds, which are what
#: counts as evidence, are not negative. (The most probable of four classes may be much less probable.)
PROBABLE = 0.5
#: A proposal has pixels up to so far from its most probable one: as far as lines reach [pixel].
REACH = HALVES[-1]
#: Rows whose channels are made together: bounds the memory.
_ROWS = 16

#: A pixel that looks like a hit: the read (of those in use but the first) from which on it does, and its mean
#: probability over the reads that count as evidence.
PIXEL = np.dtype([("y", np.int64), ("x", np.int64), ("read", np.int64), ("probability", np.float64)])


def propose_everywhere(
    lines: Proposals,
    network: OpenNetwork,
    code: int,
    prepared: Sequence[Prepared],
    read: ReadBlock,
    unusable: NDArray[np.bool_],
    taken: NDArray[np.bool_],
    events: NDArray[Any],
    progress: Report | None = None,
    threads: int = 1,
) -> Proposals:
    """Add what the network finds in the whole exposure to the lines that are proposed to it.

    Parameters
    ----------
    lines : Proposals
        They stay as they are, and what is found at the place of one of them is that line.
    network : OpenNetwork
    code : int
        Which of its classes hits are.
    prepared : sequence of Prepared
        One an integration.
    read : callable
        Reads a region, (T, ny, nx); is called by several threads.
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
        The same for any chunks and threads. Each of the network's own has the steps of its pixels, after the
        read at which they rise most together, and of the best line through the most significant one of them;
        the significance of that line may be less than that of any line that is proposed.

    Notes
    -----
    Confidence is calibrated on lines. A group without its line is made of voxels that the network took for a
    hit, so what it says of them is no surprise: it would be far too sure of itself.

    Each thread holds the inputs and probabilities of one block of :data:`EDGE` pixels and all reads.
    """
    groups: list[NDArray[Any]] = []
    score: list[float] = []
    blocks = [(p, block) for p in prepared for block in looked_at(p)]

    def look(block: tuple[Prepared, Region]) -> NDArray[Any]:
        return probable_pixels(network, code, *block, read, unusable, taken)

    found = in_threads(look, blocks, threads, progress, "blocks that the network sees")
    for p in prepared:
        own = [pixels for pixels, (q, _) in zip(found, blocks, strict=True) if q is p]
        for group, significance in _stepping(p, joined(np.concatenate(own), p.used), read, unusable, taken):
            groups.append(group)
            score.append(significance)
    kept = apart(groups, events)
    groups, score = [groups[k] for k in kept], [score[k] for k in kept]
    more = distinct(lines, groups, score)
    every = [lines.group(k) for k in range(len(lines))] + [groups[k] for k in more]
    return Proposals.of(every, [*lines.score.tolist(), *(score[k] for k in more)])


def looked_at(p: Prepared) -> Iterator[Region]:
    """Blocks of an integration that go through the network, the same whatever chunks it is kept in."""
    rows, columns = p.detector.active
    for y in range(rows.start, rows.stop, EDGE):
        for x in range(columns.start, columns.stop, EDGE):
            yield Region(p.integration, y, min(y + EDGE, rows.stop), x, min(x + EDGE, columns.stop))


def probable_pixels(
    network: OpenNetwork,
    code: int,
    p: Prepared,
    block: Region,
    read: ReadBlock,
    unusable: NDArray[np.bool_],
    taken: NDArray[np.bool_],
) -> NDArray[Any]:
    """Pixels of a block that look like a hit after some read, and belong to no event: (n,) :data:`PIXEL`."""
    from ...models.patches import Grid, segment

    rows, columns = p.detector.active
    reads = p.used.size - 1
    sizes = reads, rows.stop - rows.start, columns.stop - columns.start
    # what is smaller than a patch is filled up with voxels that are not valid, as it was for the training
    time, tall, wide = (max(size, patch) for size, patch in zip(sizes, PATCH, strict=True))
    grid = Grid((time, tall, wide), PATCH, OVERLAP)
    core = (
        slice(0, reads),
        slice(block.y0 - rows.start, block.y1 - rows.start),
        slice(block.x0 - columns.start, block.x1 - columns.start),
    )
    values, origin = _inputs(p, grid.needed(core), read, unusable)
    probability = segment(network, values, core=core, origin=origin, grid=grid)[code]
    looks = probability >= PROBABLE
    here = p.integration, block.y, block.x
    looks &= ~(unusable[here] | taken[here])
    y, x = np.nonzero(looks.any(axis=0))
    out = np.zeros(y.size, PIXEL)
    out["y"], out["x"], out["read"] = y + block.y0, x + block.x0, looks[:, y, x].argmax(axis=0)
    after = np.minimum(out["read"] + np.arange(READS)[:, None], reads - 1)
    out["probability"] = probability[after, y, x].mean(axis=0, dtype=np.float64)
    return out


def _inputs(p: Prepared, box: Box, read: ReadBlock, unusable: NDArray[np.bool_]) -> tuple[Float, Shape]:
    """What the network sees of a box, counted from the first pixel that sees light, and where that begins."""
    rows, columns = p.detector.active
    values = np.zeros((len(CHANNELS), *(span.stop - span.start for span in box)), np.float32)
    seen = Region(
        p.integration, rows.start + box[1].start, min(rows.start + box[1].stop, rows.stop),
        columns.start + box[2].start, min(columns.start + box[2].stop, columns.stop),
    )  # fmt: skip
    data = read(seen)
    for first in range(0, seen.shape[0], _ROWS):
        last = min(first + _ROWS, seen.shape[0])
        own = Region(p.integration, seen.y0 + first, seen.y0 + last, seen.x0, seen.x1)
        part = np.ascontiguousarray(data[:, first:last])
        made = channels(part, p, own, limits_without(p, own, unusable))
        values[:, : made.shape[1], first:last, : seen.shape[1]] = made
    return values, (box[0].start, box[1].start, box[2].start)


def joined(pixels: NDArray[Any], used: NDArray[np.int64]) -> list[NDArray[Any]]:
    """Groups of pixels that are neighbours and begin to look like a hit within :data:`LATE` frames.

    Parameters
    ----------
    pixels : (n,) array of dtype :data:`PIXEL`
        Of an integration, in any order.
    used : (N,) array
        Frames in use.

    Returns
    -------
    list of arrays of dtype :data:`PIXEL`
        Of each group what is within :data:`REACH` of its most probable pixel, which is the first one.
    """
    if not pixels.size:
        return []
    pixels = pixels[np.lexsort((pixels["x"], pixels["y"]))]
    frame = used[1:][pixels["read"]]
    width = int(pixels["x"].max()) + 2  # a row ends with a column that holds nothing
    place = pixels["y"] * width + pixels["x"]
    first, second = [], []
    for step in (1, width - 1, width, width + 1):
        beside = np.minimum(np.searchsorted(place, place + step), place.size - 1)
        there = np.flatnonzero((place[beside] == place + step) & (np.abs(frame[beside] - frame) <= LATE))
        first.append(there)
        second.append(beside[there])
    one, other = np.concatenate(first), np.concatenate(second)
    links = coo_array((np.ones(one.size, np.bool_), (one, other)), shape=(place.size, place.size))
    count, label = connected_components(links, directed=False)
    order = np.lexsort((-pixels["probability"], label))
    found = []
    for group in np.split(pixels[order], np.searchsorted(label[order], np.arange(1, count))):
        near = np.maximum(np.abs(group["y"] - group["y"][0]), np.abs(group["x"] - group["x"][0])) <= REACH
        found.append(group[near])
    return found


def _stepping(
    p: Prepared,
    groups: Sequence[NDArray[Any]],
    read: ReadBlock,
    unusable: NDArray[np.bool_],
    taken: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[Any], float]]:
    """Steps of each group that rises at all, and the significance of its best line."""
    rows, columns = p.detector.active
    after = p.used[1:]
    own: dict[tuple[int, int], list[NDArray[Any]]] = {}
    for group in groups:
        place = (int(group["y"][0]) - rows.start) // BLOCK, (int(group["x"][0]) - columns.start) // BLOCK
        own.setdefault(place, []).append(group)
    for block in blocks_of(p):
        held = own.get(((block.y0 - rows.start) // BLOCK, (block.x0 - columns.start) // BLOCK))
        if held is None:
            continue
        stack = Stack.of(p, block, read, unusable, taken, REACH + MARGIN)
        for group in held:
            y, x, frame = group["y"], group["x"], after[group["read"]]
            first = int(np.searchsorted(after, frame.min() - LATE))
            last = int(np.searchsorted(after, frame.max() + LATE, side="right"))
            near = stack.images[first:last, y - stack.y0, x - stack.x0]
            t = first + int(near.sum(axis=1, dtype=np.float64).argmax())
            steps = stack.group(t, y, x)
            if steps.size:
                *line, significance = stack.line(t, int(steps["y"][0]), int(steps["x"][0]))
                every = np.unique(np.concatenate([np.stack([y, x]), np.stack(line)], axis=1), axis=1)
                yield stack.group(t, every[0], every[1]), significance


def distinct(lines: Proposals, groups: Sequence[NDArray[Any]], score: Sequence[float]) -> list[int]:
    """Groups without a step within :data:`FRAMES` and :data:`PIXELS` of a line or of a group of more score.

    Parameters
    ----------
    lines : Proposals
    groups : sequence of arrays of dtype :data:`~fmbdask.ramps.network.proposals.PROPOSED_STEP`
    score : sequence of float
        Of the groups [sigma].

    Returns
    -------
    list of int
        In the order of the groups.
    """
    if not len(groups):
        return []
    steps = np.concatenate([lines.steps, *groups])
    sizes = [len(lines.steps), *(len(group) for group in groups)]
    owner, start = np.repeat(np.arange(len(sizes)), sizes), np.cumsum(sizes)
    axes = (steps["frame"] / FRAMES, steps["y"] / PIXELS, steps["x"] / PIXELS, 10.0 * steps["integration"])
    places = np.stack(axes, axis=1)
    tree = cKDTree(places)
    stays = np.zeros(len(sizes), np.bool_)
    stays[0] = True  # lines
    for k in np.argsort(-np.asarray(score), kind="stable").tolist():
        around = tree.query_ball_point(places[start[k] : start[k + 1]], 1 + 1e-9, p=np.inf)
        near = np.concatenate([np.asarray(own, np.int64) for own in around])
        stays[k + 1] = not stays[owner[near]].any()
    return np.flatnonzero(stays[1:]).tolist()
