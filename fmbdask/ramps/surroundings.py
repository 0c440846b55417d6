"""The surroundings of a snowball, read again: what every pixel does at its first frame, and how it grows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from fmbdask_kernels.gather import gather_ramps
from fmbdask_kernels.held import Held, held_steps
from numpy.typing import NDArray

from ..regions import Region
from .prepare import Prepared
from .sample import EDGE

Float = NDArray[np.float32]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
ReadBlock = Callable[[Region], NDArray[Any]]

#: Rows of a block whose ramps are looked at together: bounds the memory.
ROWS = 32
#: Smallest ratio of Poisson to read variance: rates are best under the noise that a pixel has.
RHO_FLOOR = 1e-4
#: Growth is followed over so many reads after the first one of a snowball, and said from so many on.
GROWTH_READS, LEAST_READS = 8, 3
#: Reads before a snowball that its ground is a line through, and fewest that tell a slope.
GROUND_READS, SLOPE_READS = 16, 4
#: The edge of a snowball is where so many times the noise of a read, or half of its largest step, is passed.
EDGE_NOISE, EDGE_SHARE = 30.0, 0.5
#: Share of the pixels of a ring that single hits may lift beyond the edge.
STRAY = 0.05


@dataclass(frozen=True)
class Surroundings:
    """Every pixel of a window, (ny, nx) arrays, at the first frame of a snowball.

    ``amplitude`` of the step and its ``error`` [DN], ``rate`` and ``rate_error`` [DN per mean interval] and
    their ``lean`` on the amplitude, as in :class:`fmbdask_kernels.held.Held`; ``reads`` in use; ``core``, the
    pixels that the snowball filled; ``sigma``, noise of one read [DN]. ``expansion`` is the growth of the
    snowball's radius [pixel/frame].
    """

    amplitude: Float
    error: Float
    rate: Float
    rate_error: Float
    lean: Float
    reads: NDArray[np.int32]
    core: Bool
    sigma: Float
    expansion: float


def look_around(
    read: ReadBlock,
    p: Prepared,
    window: Region,
    frame: int,
    centre: tuple[float, float],
    height: float,
    others: Int | None = None,
) -> Surroundings:
    """Fit a step at ``frame`` to every pixel of a window, and follow the edge of the snowball in time.

    Parameters
    ----------
    read : callable
        Reads a region, (T, ny, nx).
    p : Prepared
        Of the integration of the window.
    window : Region
    frame : int
        First frame of the snowball.
    centre : (float, float)
        Its row and column [pixel].
    height : float
        Its largest step [DN].
    others : (n, 3) int array, optional
        Row, column and first frame of other steps that the pixels of the window are known to have.

    Returns
    -------
    Surroundings
    """
    shape = window.shape
    sigma = np.sqrt(p.noise.pixels(p.detector.amplifier, window)).astype(np.float32)
    out = Held(*np.full((5, *shape), np.nan, np.float32))
    reads, core = np.zeros(shape, np.int32), np.zeros(shape, np.bool_)
    at = int(np.searchsorted(p.used, frame))
    others = np.zeros((0, 3), np.int64) if others is None else others
    growth = _Growth(p, at, min(EDGE_NOISE * float(np.median(sigma)), EDGE_SHARE * height))
    for part, data in _strips(read, window):
        ny, nx = part.shape
        y, x = np.divmod(np.arange(ny * nx), nx)
        if p.levels is None:
            level = np.full(part.shape, p.detector.saturation, np.float32)
        else:
            level = np.ascontiguousarray(p.levels[part.y, part.x])
        ramps, used = gather_ramps(data, p.used, y, x, (part.y0, part.x0), p.correction.parts, level)
        here = np.s_[part.y0 - window.y0 : part.y1 - window.y0, part.x0 - window.x0 : part.x1 - window.x0]
        amplifier = p.detector.amplifier[part.x][x]
        variance = p.noise.pixels(p.detector.amplifier, part).ravel()
        frames = _frames(others, part, p, at)
        held = held_steps(
            ramps, used, variance, p.noise.dof[amplifier], RHO_FLOOR, p.poisson, p.pattern, frames
        )
        for whole, own in zip(out, held, strict=True):
            whole[here] = own.reshape(ny, nx)
        reads[here] = used.sum(axis=1, dtype=np.int32).reshape(ny, nx)
        before, after = (data[p.used[k]] >= level for k in (max(at - 1, 0), at))
        core[here] = after & ~before
        distance = np.hypot(y + part.y0 - centre[0], x + part.x0 - centre[1])
        growth.add(ramps, used, distance)
    return Surroundings(*out, reads, core, sigma, growth.rate())


def _frames(others: Int, part: Region, p: Prepared, at: int) -> Int:
    """Reads in which each pixel of a part steps, (pixels, steps): that of the snowball first; -1 for none."""
    y, x, frame = others.T
    inside = (y >= part.y0) & (y < part.y1) & (x >= part.x0) & (x < part.x1)
    ny, nx = part.shape
    pixel = (y[inside] - part.y0) * nx + x[inside] - part.x0
    order = np.argsort(pixel, kind="stable")
    pixel, read = pixel[order], np.searchsorted(p.used, frame[inside][order])
    rank = np.arange(pixel.size) - np.searchsorted(pixel, pixel)
    frames = np.full((ny * nx, 2 + int(rank.max(initial=-1))), -1, np.int64)
    frames[:, 0] = at
    frames[pixel, 1 + rank] = np.where(read == at, -1, read)
    return frames


class _Growth:
    """Share of the pixels of each ring about a snowball that are beyond its edge, read by read."""

    def __init__(self, p: Prepared, at: int, level: float) -> None:
        self.p, self.at, self.level = p, at, level
        self.stop = min(at + GROWTH_READS + 1, p.used.size)
        self.pixels = np.zeros(0, np.int64)
        self.beyond = np.zeros((self.stop - at, 0), np.int64)

    def add(self, ramps: Float, used: Bool, distance: NDArray[np.float64]) -> None:
        """Count the pixels of some ramps."""
        first = max(self.at - GROUND_READS, 0)
        known = used[:, first : self.at].any(axis=1)
        if not known.any():
            return
        weight = used[known, first : self.at].astype(np.float32)
        count = weight.sum(axis=1, keepdims=True)
        time = (self.p.pattern[0, first : self.stop] - self.p.pattern[0, self.at]).astype(np.float32)
        before, after = time[: self.at - first], time[self.at - first :]
        counts = np.where(weight > 0, ramps[known, first : self.at], np.float32(0))
        middle = (weight * before).sum(axis=1, keepdims=True) / count
        ground = counts.sum(axis=1, keepdims=True) / count
        away = weight * (before - middle)
        power = (away * away).sum(axis=1, keepdims=True)
        # not the rate of the whole ramp: what grows slowly passes for light
        slope = (away * counts).sum(axis=1, keepdims=True) / np.maximum(power, np.float32(1e-9))
        slope = np.where(count >= SLOPE_READS, slope, np.float32(0))
        rise = ramps[known, self.at : self.stop] - (ground + slope * (after - middle))
        # a read that is not used any more is full
        beyond = ~used[known, self.at : self.stop] | (rise >= self.level)
        ring = distance[known].astype(np.int64)
        size = max(self.pixels.size, int(ring.max()) + 1)
        self.pixels = np.bincount(ring, minlength=size) + np.pad(self.pixels, (0, size - self.pixels.size))
        new = np.stack([np.bincount(ring, row, size) for row in beyond.T]).astype(np.int64)
        self.beyond = new + np.pad(self.beyond, ((0, 0), (0, size - self.beyond.shape[1])))

    def rate(self) -> float:
        """Slope of the radius over frames; NaN for too few reads."""
        if self.stop - self.at <= LEAST_READS or not self.pixels.size:
            return float("nan")
        share = self.beyond / np.maximum(self.pixels, 1)
        radius = np.clip((share - STRAY) / (1 - STRAY), 0, 1).sum(axis=1)
        t = self.p.used[self.at : self.stop].astype(np.float64)
        t -= t.mean()
        return float((t * radius).sum() / (t * t).sum())


def _strips(read: ReadBlock, window: Region) -> Iterator[tuple[Region, NDArray[Any]]]:
    """Parts of a window of a few rows each; every chunk is read once, and one at a time is held."""
    ys, xs = (
        [a, *range(a // EDGE * EDGE + EDGE, b, EDGE), b]
        for a, b in ((window.y0, window.y1), (window.x0, window.x1))
    )
    for y0, y1 in pairwise(ys):
        for x0, x1 in pairwise(xs):
            data = read(Region(window.integration, y0, y1, x0, x1))
            for top in range(y0, y1, ROWS):
                part = Region(window.integration, top, min(top + ROWS, y1), x0, x1)
                yield part, np.ascontiguousarray(data[:, top - y0 : part.y1 - y0])
