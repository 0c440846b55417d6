"""One fused pass over a block of a ramp: every temporal feature and the first scan for a step.
 The block is uint16, frames first. Tiles of neighbouring pixels of one row are copied into scratch that
stays in the second-level cache (see :mod:`.lanes`), so a pixel's bits depend neither on its place in a
tile nor on how the exposure was cut. Median and median absolute deviation of the differences are exact,
by counting bisection between proven brackets (``|median - mean| <= E|d - c|``, ``MAD <= 2 E|d - c|``),
mostly in 8 bits. The step statistic is the generalised likelihood ratio of one step under read and
Poisson noise (see :mod:`.covariance`): one recursion forward, one backward, for all pixels of a tile
that share a bin of ``rho``.
 Pixels that need a mask (saturated, flagged, a difference beyond 14 bits) and data that are not uint16
are left to :mod:`.masked`, which computes the same features pixel by pixel. :mod:`.planes` defines each
of them.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import lanes as tile
from . import planes as to
from .arrays import on_gpu
from .jit import exact, kernel, stage
from .lanes import LANES, LAST, f4, i2, i4, padded
from .masked import masked_features, masked_pixels
from .noise import rho_bins, standardise_lanes
from .planes import (
    DROP_SIGNIFICANCE,
    MAD_SIGMA,
    NOISE,
    PLANES,
    RATE,
    READ_VARIANCE,
    READS,
    RHO_BIN,
    ROUGHNESS,
    SLOPE,
    STEP_AMPLITUDE,
    STEP_FRAME,
    STEP_R2,
    STEP_SIGNIFICANCE,
    WINSOR,
)
from .tables import Offsets, Prior, Tables

__all__ = [
    "DROP_SIGNIFICANCE", "LANES", "MAD_SIGMA", "NOISE", "PLANES", "RATE", "READS", "READ_VARIANCE", "RHO_BIN",
    "ROUGHNESS", "SLOPE", "STEP_AMPLITUDE", "STEP_FRAME", "STEP_R2", "STEP_SIGNIFICANCE", "temporal_features",
]  # fmt: skip

#: Where to look first for the deviation of Gaussian differences, in units of their mean distance.
GAUSSIAN_MAD = 0.845
#: Reach of the second look for median and deviation, in units of the mean distance over sqrt(m).
MEDIAN_STEP, MAD_STEP = 4.0, 3.3


@stage
def correction(offsets, m, y, gradient, x0, column):
    """Column offsets of a tile, with those of the gradient along row ``y``; zeros in the padding."""
    for t in range(m):
        target = column[t * LANES : (t + 1) * LANES]
        source = offsets.column[t, x0 : x0 + LANES]
        if gradient:
            h = offsets.height[y]
            slope = offsets.gradient[t, x0 : x0 + LANES]
            for j in range(LANES):
                target[j] = source[j] + h * slope[j]
        else:
            for j in range(LANES):
                target[j] = source[j]


@stage
def medians(d, e, m, total, centre, median, mad, most, short, bytes_):
    """Median of the differences of each lane and median absolute deviation from it, both exact.

    The largest deviation goes to ``most``. Counts are taken in 8 bits about ``centre``. Where the
    brackets of a tile need more (noise above some 100 DN), a first turn finds the upper byte of each,
    and a second the lower one.
    """
    low, high, probe, step, count, origin, zero = (
        short[0], short[1], short[2], short[3], short[4], short[5], short[6],
    )  # fmt: skip
    error = f4(1) / f4(math.sqrt(f4(m)))
    widest = i4(0)
    for j in range(LANES):
        zero[j] = i2(0)
        widest = max(widest, total[j])
    fits = f4(widest) < f4(tile.NARROW) * f4(m)
    for half in range(2):
        base = median if half else (centre if fits else zero)
        for turn in range(1 if fits else 2):
            if fits:
                for j in range(LANES):
                    s = f4(total[j]) / f4(m)
                    reach = i2(i4(s) + 3)
                    origin[j] = i2(0 if half else -tile.ORIGIN)
                    low[j] = i2(-1 if half else tile.ORIGIN - reach)
                    high[j] = i2(i4(f4(2) * s) + 2 if half else tile.ORIGIN + reach)
                    probe[j] = i2(i4(f4(GAUSSIAN_MAD) * s + f4(0.5)) if half else tile.ORIGIN)
                    step[j] = i2(i4(f4(MAD_STEP if half else MEDIAN_STEP) * error * s) + 1)
            else:
                for j in range(LANES):
                    origin[j] = i2(high[j] << 8) if turn else i2(0 if half else -128)
                    low[j] = i2(-1)
                    high[j] = i2(255)
                    probe[j] = i2(127)
                    step[j] = i2(64)
            tile.narrow(d, m, base, half == 1, turn == 0 and not fits, origin, e, most)
            tile.select(e, m, low, high, probe, step, bytes_[0], bytes_[1], count)
            for j in range(LANES):
                high[j] = i2(high[j] + origin[j])
        for j in range(LANES):
            if half:
                mad[j] = high[j]
            else:
                median[j] = i2(high[j] + base[j])


@exact
def slopes(x, d, column, row, m, y, x0, offsets, tables, mad, median, most, slope):
    """Finish the least-squares slopes: take out offsets, and outlying differences where there are any."""
    a, b = offsets.column_slope[x0 : x0 + LANES], offsets.gradient_slope[x0 : x0 + LANES]
    h, flat = offsets.height[y], offsets.row_slope[y]
    for j in range(LANES):
        slope[j] = slope[j] - (a[j] + h * b[j] + flat)
    for j in range(LANES):
        c = x0 + j
        reach = f4(WINSOR * MAD_SIGMA) * max(f4(mad[j]), f4(1))
        if f4(most[j]) <= reach:
            continue
        weighted, plain, inside, time = tile.winsorise(
            d, column, row, m, tables.slope_weight, tables.interval, median[j], reach, j
        )
        if f4(0) < time < f4(0.999) * f4(m):
            whole = f4(i4(x[m * LANES + j]) - i4(x[j])) - (
                offsets.column_total[c] + offsets.height[y] * offsets.gradient_total[c] + offsets.row_total[y]
            )
            slope[j] = slope[j] - weighted + inside * (whole - plain) / (f4(m) - time)


@exact
def keep(bins, r, source, target):
    """Copy the lanes whose bin was scanned."""
    for j in range(LANES):
        target[j] = source[j] if bins[j] == r else target[j]


@exact
def scan(d, column, row, f, m, r, tables, ahead, bins, known, used, real, high_at, plane):
    """Look for a step with the tables of one bin of rho; the lanes of that bin go to their planes."""
    best, worst, rss, rate, square = real[0], real[1], real[2], real[3], real[4]
    up, down, variance, state, spare, other = real[5], real[6], real[7], real[8], real[9], real[10]
    source = tables.ahead[r]
    for i in range(source.size):
        ahead[i] = source[i]
    for t in range(m):
        ahead[4 * t] = row[t]
    tile.forward(d, column, ahead, f, m, state, rss, rate)
    total = tables.total[r]
    for j in range(LANES):
        rate[j] = rate[j] / total
    for j in range(LANES):
        rss[j] = rss[j] - rate[j] * rate[j] * total
    tile.backward(f, tables.back[r], m, rate, state, best, high_at, worst, square)
    standardise_lanes(worst, rss, m, known.variance, known.dof, known.noisy, down, variance, state, spare)
    standardise_lanes(best, rss, m, known.variance, known.dof, known.noisy, up, variance, state, spare)
    scale = tables.scale[r]
    for j in range(LANES):
        k = min(high_at[j], i4(m - 1))
        spare[j] = f4(used[k + 1])
        other[j] = scale[k]
    for j in range(LANES):
        variance[j] = f4(math.sqrt(variance[j]))
        state[j] = best[j] * best[j] / max(rss[j], f4(1e-6))
        best[j] = best[j] * other[j]
        rss[j] = rss[j] / f4(m - 1)
        square[j] = square[j] / f4(m)
    keep(bins, r, up, plane[to.STEP_SIGNIFICANCE])
    keep(bins, r, down, plane[to.DROP_SIGNIFICANCE])
    keep(bins, r, best, plane[to.STEP_AMPLITUDE])
    keep(bins, r, spare, plane[to.STEP_FRAME])
    keep(bins, r, rate, plane[to.RATE])
    keep(bins, r, variance, plane[to.NOISE])
    keep(bins, r, rss, plane[to.READ_VARIANCE])
    keep(bins, r, state, plane[to.STEP_R2])
    keep(bins, r, square, plane[to.ROUGHNESS])


@exact
def simple(x, n, used, s1, s2, short, bins, plane):
    """Planes that need no more than a conversion; the rows of ``short`` are named in :func:`fused`."""
    for j in range(LANES):
        a = f4(s1[j]) / f4(n)
        plane[to.VARIANCE, j] = max(s2[j] / f4(n) - a * a, f4(0))
        plane[to.MAX_INTENSITY, j] = f4(i4(short[1, j]) - i4(x[j]))
    for j in range(LANES):
        plane[to.MINIMUM, j] = f4(short[0, j]) + f4(32768)
        plane[to.MAXIMUM, j] = f4(short[1, j]) + f4(32768)
    for j in range(LANES):
        plane[to.MEDIAN, j] = f4(short[2, j])
        plane[to.MAD, j] = f4(short[3, j])
    for j in range(LANES):
        plane[to.LARGEST, j] = f4(short[4, j])
        plane[to.PERSISTENCE, j] = f4(short[8, j])
        plane[to.TRANSITIONS, j] = f4(short[9, j])
    for j in range(LANES):
        plane[to.RHO_BIN, j] = f4(bins[j])
        plane[to.READS, j] = f4(n)
    for j in range(LANES):
        first = short[7, j]
        plane[to.FIRST, j] = f4(used[first]) if first < n else f4(-1)
        plane[to.LARGEST_FRAME, j] = f4(used[short[5, j] + 1])


@kernel
def fused(data, used, rows, offsets, with_gradient, tables, prior, appearance_sigma, scratch, out):
    """Fill ``out`` (planes, ny, nx) from ``data`` (T, ny, nx) uint16; see :func:`temporal_features`.

    Columns of ``offsets`` and ``prior`` are padded to a multiple of ``LANES``; ``rows`` (ny, M) are row
    offsets.
    """
    ny, nx = data.shape[1], data.shape[2]
    n = used.size
    m = n - 1
    x, d, e, f, column, ahead, short, bytes_, long, real, plane = scratch
    low, high, median, mad, peak, peak_at = short[0], short[1], short[2], short[3], short[4], short[5]
    limit, first, above, flips, shift = short[6], short[7], short[8], short[9], short[10]
    centre, most = short[11], short[12]
    high_at, s1, total, bins, s2, slope = long[0], long[1], long[2], long[3], real[0], plane[to.SLOPE]
    for x0 in range(0, nx, LANES):
        lanes = min(LANES, nx - x0)
        for y in range(ny):
            own = prior.variance[min(y, prior.variance.shape[0] - 1)]
            known = Prior(
                own[x0 : x0 + LANES], prior.dof[x0 : x0 + LANES], prior.noisy[x0 : x0 + LANES],
                prior.poisson[x0 : x0 + LANES], prior.rho_variance[x0 : x0 + LANES],
            )  # fmt: skip
            row = rows[y]
            if with_gradient or y == 0:
                correction(offsets, m, y, with_gradient, x0, column)
            tile.load(data, used, y, x0, lanes, x)
            tile.extremes(x, n, low, high)
            tile.moments(x, n, tables.centred, shift, s1, s2, slope)
            tile.differences(x, m, centre, d, total, peak, peak_at)
            medians(d, e, m, total, centre, median, mad, most, short[13:], bytes_)
            for j in range(LANES):
                a = appearance_sigma * f4(MAD_SIGMA) * max(f4(mad[j]), f4(1))
                limit[j] = i2(min(i4(x[j]) + i4(min(a, f4(65536))), i4(LAST)))
            tile.appearance(x, n, limit, shift, first, above, flips)
            slopes(x, d, column, row, m, y, x0, offsets, tables, mad, median, most, slope)
            last = rho_bins(slope, known.poisson, known.rho_variance, tables.edges, real[1], bins)
            simple(x, n, used, s1, s2, short, bins, plane)
            # tiles whose pixels share a bin of rho are scanned once, others once a bin
            for r in range(last + 1):
                present = False
                for j in range(lanes):
                    present |= bins[j] == r
                if present:
                    scan(d, column, row, f, m, r, tables, ahead, bins, known, used, real, high_at, plane)
            for p in range(to.COUNT):
                source, target = plane[p], out[p, y, x0 : x0 + lanes]
                for j in range(lanes):
                    target[j] = source[j]


class Scratch(NamedTuple):
    """Memory of the fused pass, one row of ``LANES`` values a read or a running value; padding stays zero."""

    x: NDArray[np.int16]
    d: NDArray[np.int16]
    e: NDArray[np.uint8]
    f: NDArray[np.float32]
    column: NDArray[np.float32]
    ahead: NDArray[np.float32]
    short: NDArray[np.int16]
    bytes_: NDArray[np.uint8]
    long: NDArray[np.int32]
    real: NDArray[np.float32]
    plane: NDArray[np.float32]


def make_scratch(n: int) -> Scratch:
    """Scratch for ``n`` reads."""
    size = padded(n - 1)
    return Scratch(
        np.zeros((padded(n) + 1) * LANES, np.int16),
        np.zeros(size * LANES, np.int16),
        np.zeros(size * LANES, np.uint8),
        np.zeros(size * LANES, np.float32),
        np.zeros(size * LANES, np.float32),
        np.zeros(size * 4, np.float32),
        np.zeros((20, LANES), np.int16),
        np.zeros((2, LANES), np.uint8),
        np.zeros((4, LANES), np.int32),
        np.zeros((12, LANES), np.float32),
        np.zeros((len(PLANES), LANES), np.float32),
    )


def temporal_features(
    data: NDArray[Any],
    used: NDArray[np.int64],
    tables: Tables,
    prior: Prior,
    offsets: Offsets,
    *,
    pattern: NDArray[np.float64],
    usable: NDArray[np.bool_] | None = None,
    saturation: float | NDArray[np.float32] | None = None,
    appearance_sigma: float = 5.0,
) -> NDArray[np.float32]:
    """Temporal features of every pixel of a block, and the strongest step of each.

    An array of CuPy is done on its GPU, see :mod:`fmbdask_kernels.cupy.temporal`.

    Parameters
    ----------
    data : (T, ny, nx) array
        Counts [DN]; uint16 takes the fast path, anything else the masked one.
    used : (N,) int array
        Frames to use, increasing; at least 4, at most 32767.
    tables, prior, offsets
        See :mod:`fmbdask_kernels.tables`; made for the N used frames and this block.
    pattern : (3, N) array
        The used frames, see :func:`fmbdask_kernels.covariance.read_pattern`.
    usable : (T, ny, nx) bool array, optional
        False where a read of a pixel must not be used.
    saturation : float or (ny, nx) array, optional
        Reads from the first one at or above this level [DN] on are not used.
    appearance_sigma : float
        Reads that exceed the first by this many sigma of a difference count as "appeared".

    Returns
    -------
    (planes, ny, nx) float32 array
        In the order of :data:`.planes.PLANES`. Pixels with fewer than 4 usable reads are NaN but for
        ``reads``.
    """
    if on_gpu(data):
        from .cupy import temporal as twin

        there: NDArray[np.float32] = twin.temporal_features(
            data, used, tables, prior, offsets, pattern=pattern, usable=usable, saturation=saturation,
            appearance_sigma=appearance_sigma,
        )  # fmt: skip
        return there
    ny, nx = data.shape[1:]
    out = np.empty((len(PLANES), ny, nx), np.float32)
    level = np.broadcast_to(np.asarray(np.inf if saturation is None else saturation, np.float32), (ny, nx))
    if data.dtype == np.uint16:
        block = data.view()
        block.flags.writeable = False  # one type, and so one compilation, for maps and arrays
        fused(
            block, used, np.ascontiguousarray(offsets.row.T), offsets, offsets.has_gradient, tables, prior,
            f4(appearance_sigma), make_scratch(used.size), out,
        )  # fmt: skip
        rows, columns = masked_pixels(data, used, out, level, usable)
    else:
        rows, columns = np.divmod(np.arange(ny * nx), nx)
    if rows.size:
        masked_features(
            data, used, rows, columns, usable, level, offsets, pattern, tables, prior, appearance_sigma, out
        )  # fmt: skip
    return out
