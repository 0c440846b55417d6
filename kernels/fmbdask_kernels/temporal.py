"""One fused pass over a block of a ramp: every temporal feature and the first scan for a step.

The block is uint16, frames first. Tiles of neighbouring pixels of one row are copied into scratch that stays in
the second-level cache (see :mod:`.lanes`), so a pixel's bits depend neither on its place in a tile nor on how
the exposure was cut. Median and median absolute deviation of the differences are exact, by counting bisection
between proven brackets (``|median - mean| <= E|d - c|``, ``MAD <= 2 E|d - c|``). The step statistic is the
generalised likelihood ratio of one step under read and Poisson noise (see :mod:`.covariance`): one recursion
forward, one backward, for all pixels of a tile that share a bin of ``rho``.

Pixels that need a mask (saturated, flagged, a difference beyond 14 bits) and data that are not uint16 are left
to :mod:`.masked`, which computes the same features pixel by pixel.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from . import lanes as tile
from .jit import kernel
from .lanes import LANES, LAST, f4, i2, i4
from .noise import rho_bin, standardise
from .tables import Offsets, Prior, Tables

#: Planes of the result, in order, with their units.
PLANES: dict[str, str] = {
    "slope": "DN / interval",
    "minimum": "DN",
    "maximum": "DN",
    "median_difference": "DN",
    "mad_difference": "DN",
    "largest_difference": "DN",
    "largest_difference_frame": "frame",
    "first_appearance": "frame",
    "persistence_count": "frame",
    "max_intensity": "DN",
    "intensity_variance": "DN^2",
    "transition_count": "1",
    "step_frame": "frame",
    "step_amplitude": "DN",
    "step_significance": "sigma",
    "step_r2": "1",
    "drop_significance": "sigma",
    "read_variance": "DN^2",
    "noise": "DN",
    "roughness": "1",
    "rate": "DN / interval",
    "rho_bin": "1",
    "reads": "frame",
}
(
    SLOPE, MINIMUM, MAXIMUM, MEDIAN, MAD, LARGEST, LARGEST_FRAME, FIRST, PERSISTENCE, MAX_INTENSITY, VARIANCE, TRANSITIONS,
    STEP_FRAME, STEP_AMPLITUDE, STEP_SIGNIFICANCE, STEP_R2, DROP_SIGNIFICANCE, READ_VARIANCE, NOISE, ROUGHNESS,
    RATE, RHO_BIN, READS,
) = range(len(PLANES))  # fmt: skip

#: Differences further than this many (Gaussian) sigma from the median do not enter slope and rho.
WINSOR = 4.5
#: Sigma of a Gaussian in units of its median absolute deviation.
MAD_SIGMA = 1.4826


@kernel
def fused(data, used, offsets, with_gradient, tables, prior, appearance_sigma, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (planes, ny, nx) from ``data`` (T, ny, nx) uint16; see :func:`temporal_features`.

    Columns of ``offsets`` and ``prior`` are padded to a multiple of ``LANES``.
    """
    ny, nx = data.shape[1], data.shape[2]
    n = used.size
    m = n - 1
    x = np.empty((n, LANES), np.int16)
    d = np.empty((m, LANES), np.int16)
    f = np.empty((m, LANES), np.float32)
    combined = np.empty((m if with_gradient else 1, LANES), np.float32)
    short = np.empty((15, LANES), np.int16)
    wide = np.empty((4, LANES), np.int32)
    real = np.empty((10, LANES), np.float32)
    row = np.empty(m, np.float32)
    low, high, median, mad, peak, peak_at = short[0], short[1], short[2], short[3], short[4], short[5]
    limit, first, above, flips, shift = short[6], short[7], short[8], short[9], short[10]
    lo, hi, middle, count = short[11], short[12], short[13], short[14]
    high_at, s1, total, bins = wide[0], wide[1], wide[2], wide[3]
    s2, slope, rss, rate, best, worst = real[0], real[1], real[2], real[3], real[4], real[5]
    square, state, st = real[6], real[7], real[8]
    rank = (m + 1) // 2
    weight = tables.slope_weight
    for y in range(ny):
        for t in range(m):
            row[t] = offsets.row[t, y]
        for x0 in range(0, nx, LANES):
            lanes = min(LANES, nx - x0)
            tile.load(data, used, y, x0, lanes, x)
            tile.differences(x, m, d)
            column, c0 = offsets.column, x0
            if with_gradient:
                tile.combine(offsets, m, y, x0, combined)
                column, c0 = combined, 0
            tile.extremes(x, n, low, high)
            for j in range(LANES):
                a = (f4(x[m, j]) - f4(x[0, j])) / f4(m)
                median[j] = i2(np.rint(max(min(a, f4(32766)), f4(-32766))))
            tile.spread(d, m, median, total, peak, peak_at)
            for j in range(LANES):
                a = (f4(x[m, j]) - f4(x[0, j])) / f4(m)
                s = f4(total[j]) / f4(m)
                lo[j] = i2(max(np.floor(a - s) - f4(2), f4(-32768)))
                hi[j] = i2(min(np.ceil(a + s) + f4(1), f4(LAST)))
            tile.select(d, m, rank, lo, hi, middle, count)
            for j in range(LANES):
                median[j] = hi[j]
                lo[j] = i2(-1)
                hi[j] = i2(min(np.ceil(f4(2) * (f4(total[j]) / f4(m))) + f4(1), f4(LAST)))
            tile.deviation(d, m, median)
            tile.select(d, m, rank, lo, hi, middle, count)
            for j in range(LANES):
                mad[j] = hi[j]
                a = np.floor(appearance_sigma * f4(MAD_SIGMA) * max(f4(mad[j]), f4(1)))
                limit[j] = i2(min(f4(x[0, j]) + a, f4(LAST)))
                shift[j] = x[n // 2, j]
            tile.appearance(x, n, limit, first, above, flips)
            tile.moments(x, n, tables.centred, shift, s1, s2, st)
            lowest, highest = 1 << 30, -1
            for j in range(lanes):
                c = x0 + j
                b = st[j] - (
                    offsets.column_slope[c]
                    + offsets.height[y] * offsets.gradient_slope[c]
                    + offsets.row_slope[y]
                )
                reach = f4(WINSOR * MAD_SIGMA) * max(f4(mad[j]), f4(1))
                if f4(peak[j]) + abs(f4(median[j])) > reach:
                    cut = i2(min(reach, f4(LAST)))
                    weighted, plain, inside, time = tile.winsorise(
                        x, column, c0, row, m, weight, tables.interval, d, cut, j
                    )
                    if f4(0) < time < f4(0.999) * f4(m):
                        whole = f4(i4(x[m, j]) - i4(x[0, j])) - (
                            offsets.column_total[c]
                            + offsets.height[y] * offsets.gradient_total[c]
                            + offsets.row_total[y]
                        )
                        b = b - weighted + inside * (whole - plain) / (f4(m) - time)
                slope[j] = b
                bins[j] = rho_bin(b, prior.poisson[c], prior.rho_variance[c], tables.edges)
                lowest = min(lowest, bins[j])
                highest = max(highest, bins[j])
            # tiles whose pixels share a bin of rho are scanned once, others once a bin
            for r in range(lowest, highest + 1):
                present = r == lowest or r == highest
                if not present:
                    for j in range(lanes):
                        present = present or bins[j] == r
                if not present:
                    continue
                tile.forward(x, column, c0, row, f, m, tables, r, state, rss, rate)
                tile.backward(f, m, tables, r, rate, state, best, high_at, worst, square)
                for j in range(lanes):
                    if bins[j] != r:
                        continue
                    c = x0 + j
                    v = prior.variance[c]
                    z, read_variance = standardise(best[j], rss[j], m, v, prior.dof[c], prior.noisy[c])
                    out[STEP_SIGNIFICANCE, y, c] = z
                    out[READ_VARIANCE, y, c] = rss[j] / f4(m - 1)
                    out[NOISE, y, c] = math.sqrt(read_variance)
                    out[STEP_FRAME, y, c] = f4(used[high_at[j] + 1])
                    out[STEP_AMPLITUDE, y, c] = best[j] * tables.scale[r, high_at[j]]
                    out[STEP_R2, y, c] = best[j] * best[j] / max(rss[j], f4(1e-6))
                    z, read_variance = standardise(worst[j], rss[j], m, v, prior.dof[c], prior.noisy[c])
                    out[DROP_SIGNIFICANCE, y, c] = z
                    out[ROUGHNESS, y, c] = square[j] / f4(m)
                    out[RATE, y, c] = rate[j]
                    out[RHO_BIN, y, c] = f4(r)
            for j in range(lanes):
                c = x0 + j
                out[SLOPE, y, c] = slope[j]
                out[MINIMUM, y, c] = f4(low[j]) + f4(32768)
                out[MAXIMUM, y, c] = f4(high[j]) + f4(32768)
                out[MEDIAN, y, c] = f4(median[j])
                out[MAD, y, c] = f4(mad[j])
                out[LARGEST, y, c] = f4(peak[j])
                out[LARGEST_FRAME, y, c] = f4(used[peak_at[j] + 1])
                out[FIRST, y, c] = f4(used[first[j]]) if above[j] > 0 else f4(-1)
                out[PERSISTENCE, y, c] = f4(above[j])
                out[MAX_INTENSITY, y, c] = f4(high[j]) - f4(x[0, j])
                a = f4(s1[j]) / f4(n)
                out[VARIANCE, y, c] = max(s2[j] / f4(n) - a * a, f4(0))
                out[TRANSITIONS, y, c] = f4(flips[j])
                out[READS, y, c] = f4(n)


def temporal_features(
    data: NDArray[np.generic],
    used: NDArray[np.int64],
    tables: Tables,
    prior: Prior,
    offsets: Offsets,
    *,
    pattern: NDArray[np.float64],
    rho_floor: float,
    usable: NDArray[np.bool_] | None = None,
    saturation: float | NDArray[np.float32] | None = None,
    appearance_sigma: float = 5.0,
) -> NDArray[np.float32]:
    """Temporal features of every pixel of a block, and the strongest step of each.

    Parameters
    ----------
    data : (T, ny, nx) array
        Counts [DN]; uint16 takes the fast path, anything else the masked one.
    used : (N,) int array
        Frames to use, increasing; at least 4.
    tables, prior, offsets
        See :mod:`fmbdask_kernels.tables`; made for the N used frames and this block.
    pattern : (3, N) array
        The used frames, see :func:`fmbdask_kernels.covariance.read_pattern`.
    rho_floor : float
        Smallest ratio of Poisson to read variance that is assumed.
    usable : (T, ny, nx) bool array, optional
        False where a read of a pixel must not be used.
    saturation : float or (ny, nx) array, optional
        Reads from the first one at or above this level [DN] on are not used.
    appearance_sigma : float
        Reads that exceed the first by this many sigma of a difference count as "appeared".

    Returns
    -------
    (planes, ny, nx) float32 array
        In the order of :data:`PLANES`. Pixels with fewer than 4 usable reads are NaN but for ``reads``.
    """
    from .masked import masked_features, masked_pixels

    ny, nx = data.shape[1:]
    out = np.full((len(PLANES), ny, nx), np.nan, np.float32)
    level = np.broadcast_to(np.asarray(np.inf if saturation is None else saturation, np.float32), (ny, nx))
    if data.dtype == np.uint16:
        fused(data, used, offsets, offsets.has_gradient, tables, prior, f4(appearance_sigma), out)
        rows, columns = masked_pixels(data, used, out, level, usable)
    else:
        rows, columns = np.divmod(np.arange(ny * nx), nx)
    if rows.size:
        mask = usable if usable is not None else np.ones((0, 0, 0), np.bool_)
        integer = bool(np.issubdtype(data.dtype, np.integer))
        masked_features(
            data,
            used,
            rows,
            columns,
            mask,
            level,
            integer,
            offsets,
            pattern,
            tables,
            prior,
            rho_floor,
            appearance_sigma,
            out,
        )
    return out
