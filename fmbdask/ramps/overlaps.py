"""Snowballs that overlap: groups of many touching steps, taken apart into their round cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

#: Pixels of the brightest part of a snowball, and its smallest axis ratio.
CORE_PIXELS, CORE_ROUND = 9, 0.7
#: Ratio of the amplitudes at which groups are cut.
LEVEL_RATIO = 1.4
#: A disk of this radius fits into a snowball and not into a track [pixel].
THICK = 4.0
#: A frame counts as much as so many pixels when a step belongs to one of several cores.
FRAME_PIXELS = 10.0
#: Frames and pixels from the edge of its core in which a faint halo step belongs to a snowball.
HALO_FRAMES, HALO_PIXELS = 6, 40.0

_NEIGHBOURS = np.ones((3, 3), np.bool_)


@dataclass(frozen=True)
class Core:
    """The brightest part of a snowball: its group, frame, centre and radius [pixel]."""

    group: int
    integration: int
    frame: int
    y: float
    x: float
    radius: float


def split_groups(
    steps: NDArray[Any], label: Int, strong: Bool, min_pixels: int
) -> tuple[Int, NDArray[np.intp]]:
    """Give every snowball that touches another one a group of its own.

    Each group of strong steps is cut at a ladder of amplitudes, and wherever two parts of many pixels come
    apart, each is followed on its own (the tree of thresholds of Bertin and Arnouts 1996, A&AS 117 393).
    The round ends of the tree are cores; a step goes to the core whose edge is nearest in space and time.
    Groups of faint steps around several cores are taken apart alike.

    Parameters
    ----------
    steps : (n,) array of dtype ``events.STEP``
    label : (n,) int64 array
        Group of each step, from 0.
    strong : (n,) bool array
        Steps whose frame is exact; the same for all of a group.
    min_pixels : int
        Groups of fewer steps hold no snowball.

    Returns
    -------
    (n,) int64 array, (s,) int array
        New labels from 0, all of them in use; and the labels that are snowballs although the shape of the
        group does not say so.
    """
    large = np.bincount(label) >= max(min_pixels, CORE_PIXELS)
    if not large.any():
        return label, np.zeros(0, np.intp)
    order = np.argsort(label, kind="stable")
    start = np.searchsorted(label[order], np.arange(large.size + 1))
    members = {int(g): order[start[g] : start[g + 1]] for g in np.flatnonzero(large)}
    out, count = label.copy(), large.size
    snowballs: list[int] = []
    cores: list[Core] = []
    for group, member in members.items():
        if strong[member[0]]:
            found, thick = _cores(steps[member], group)
            if len(found) > 1:
                part = _nearest(steps[member], found)
                out[member] = np.where(part > 0, count + part - 1, group)
                snowballs += [group, *range(count, count + len(found) - 1)]
                count += len(found) - 1
                cores += found
            elif found or thick:
                snowballs.append(group)
    for group, member in members.items():
        if cores and not strong[member[0]]:
            own = steps[member]
            near = [c for c in cores if c.integration == own["integration"][0] and _around(own, c).any()]
            if near:
                part = _nearest(own, near)
                out[member] = np.where(part > 0, count + part - 1, group)
                count += len(near) - 1
    used, out = np.unique(out, return_inverse=True)
    return out.astype(np.int64), np.searchsorted(used, np.intersect1d(snowballs, used))


def _around(steps: NDArray[Any], core: Core) -> Bool:
    """Which steps may be of the halo around a core."""
    away = np.hypot(steps["y"] - core.y, steps["x"] - core.x) - core.radius
    late = np.abs(steps["frame"].astype(np.int64) - core.frame)
    return np.asarray((away < HALO_PIXELS) & (late <= HALO_FRAMES))


def _nearest(steps: NDArray[Any], cores: list[Core]) -> NDArray[np.intp]:
    """Core whose edge is nearest to each step."""
    y, x, frame = (steps[k].astype(np.float32) for k in ("y", "x", "frame"))
    nearest, least = np.zeros(steps.size, np.intp), np.full(steps.size, np.inf, np.float32)
    for i, c in enumerate(cores):  # one at a time: a wide group may have a million steps and many cores
        cost = np.sqrt((y - np.float32(c.y)) ** 2 + (x - np.float32(c.x)) ** 2) - np.float32(c.radius)
        cost += np.float32(FRAME_PIXELS) * np.abs(frame - np.float32(c.frame))
        closer = cost < least
        nearest[closer], least[closer] = i, cost[closer]
    return nearest


def _cores(steps: NDArray[Any], group: int) -> tuple[list[Core], bool]:
    """Round cores of a group of touching steps, and whether a disk fits into the group at all."""
    top, left = int(steps["y"].min()), int(steps["x"].min())
    y, x = steps["y"] - top, steps["x"] - left
    shape = int(y.max()) + 3, int(x.max()) + 3
    height = np.zeros(shape)  # one empty line around: what lies outside of the group counts as outside
    np.maximum.at(height, (y + 1, x + 1), np.where(steps["saturating"], np.inf, steps["amplitude"]))
    depth = ndimage.distance_transform_edt(ndimage.binary_closing(height > 0, _NEIGHBOURS))
    if depth.max() < THICK:
        return [], False
    frame = np.zeros(shape, np.int64)
    by_height = np.lexsort((-steps["frame"], np.where(steps["saturating"], np.inf, steps["amplitude"])))
    frame[y[by_height] + 1, x[by_height] + 1] = steps["frame"][by_height]
    cores = []
    for rows, columns in _ends(height, float(np.median(steps["sigma"]))):
        dy, dx = rows - rows.mean(), columns - columns.mean()
        middle, half = (dy @ dy + dx @ dx) / 2, np.hypot((dy @ dy - dx @ dx) / 2, dy @ dx)
        is_round = middle - half > CORE_ROUND**2 * (middle + half)
        if is_round and depth[rows, columns].max() >= THICK:
            place = float(rows.mean() + top - 1), float(columns.mean() + left - 1)
            radius = float(np.sqrt(rows.size / np.pi))
            first = int(np.bincount(frame[rows, columns]).argmax())
            cores.append(Core(group, int(steps["integration"][0]), first, *place, radius))
    return cores, True


def _ends(height: Float, sigma: float) -> list[tuple[NDArray[np.intp], ...]]:
    """Ends of the tree of thresholds: the pixels of each, in row-major order of their first pixel.

    A part counts when it holds ``CORE_PIXELS`` at the next level too: noise does not.
    """
    finite = height[np.isfinite(height)].max(initial=0.0)
    count = int(np.log(max(finite / sigma, 1.0)) / np.log(LEVEL_RATIO)) + 1 if sigma > 0 else 0
    levels = [0.0, *(sigma * LEVEL_RATIO**k for k in range(count)), np.inf]
    parts = [_parts(height >= level if level else height > 0) for level in levels]
    # a part is looked at in its own box only, or many parts of a wide group would take forever
    boxes = [ndimage.find_objects(part) for part in parts]
    ends: list[tuple[NDArray[np.intp], ...]] = []
    waiting = [(0, i) for i in range(len(boxes[0]))]
    while waiting:
        k, i = waiting.pop(0)
        box = boxes[k][i]
        inside = parts[k][box] == i + 1
        children: Int = np.zeros(0, np.int64)
        if k + 1 < len(levels):
            children = np.setdiff1d(parts[k + 1][box][inside], 0) - 1
        # what does not last up to the next level is a crest of noise
        lasting = [c for c in children if k + 2 >= len(levels) or _lasts(parts, boxes, k + 1, c)]
        if lasting:
            waiting += [(k + 1, int(c)) for c in lasting]
        else:
            rows, columns = np.nonzero(inside)
            ends.append((rows + box[0].start, columns + box[1].start))
    return ends


def _lasts(parts: list[NDArray[np.int32]], boxes: list[Any], k: int, i: int) -> bool:
    """Whether a part of level ``k`` holds one of the next level."""
    box = boxes[k][i]
    return bool(parts[k + 1][box][parts[k][box] == i + 1].any())


def _parts(mask: Bool) -> NDArray[np.int32]:
    """Connected parts of at least ``CORE_PIXELS``, numbered from 1 in row-major order."""
    labels, count = ndimage.label(mask, _NEIGHBOURS)
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= CORE_PIXELS
    keep[0] = False
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    return np.asarray(number[labels])
