"""The temporal features of pixels that need a mask, one pixel at a time: any dtype, any set of usable reads.

The definitions are those of :mod:`.planes`; the covariance factors are made for the reads of each pixel.
Median, deviation and largest difference are taken over reads that follow each other directly.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import planes as to
from .covariance import factor, solve, timing
from .jit import ZERO, kernel, stage
from .noise import rho_bin, standardise
from .tables import Offsets, Prior, Tables

f4 = np.float32
#: Differences beyond this may have wrapped in the 16-bit arithmetic of the fused pass.
WRAP = 16000
#: Pixels gathered at a time.
BATCH = 1024


def masked_pixels(
    data: NDArray[np.uint16],
    used: NDArray[np.int64],
    features: NDArray[np.float32],
    saturation: NDArray[np.float32],
    usable: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels of a uint16 block whose features the fused pass cannot give."""
    maximum = features[to.MAXIMUM]
    doubtful = maximum >= saturation
    wide = maximum - features[to.MINIMUM] > WRAP
    if wide.any():
        rows, columns = np.nonzero(wide)
        ramps = data[used[:, None], rows, columns].astype(np.int32)
        doubtful[rows, columns] |= np.abs(np.diff(ramps, axis=0)).max(axis=0) > WRAP
    if usable is not None:
        doubtful |= ~usable[used].all(axis=0)
    rows, columns = np.nonzero(doubtful)
    return np.ascontiguousarray(rows), np.ascontiguousarray(columns)


def masked_features(
    data: NDArray[Any],
    used: NDArray[np.int64],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    usable: NDArray[np.bool_] | None,
    saturation: NDArray[np.float32],
    offsets: Offsets,
    pattern: NDArray[np.float64],
    tables: Tables,
    prior: Prior,
    appearance_sigma: float,
    out: NDArray[np.float32],
) -> None:
    """Fill ``out`` (planes, ny, nx) at the pixels (rows, columns) of a block."""
    integer = bool(np.issubdtype(data.dtype, np.integer))
    for start in range(0, rows.size, BATCH):
        y, x = rows[start : start + BATCH], columns[start : start + BATCH]
        reads = data[used[:, None], y, x].astype(np.float64)
        full = np.logical_or.accumulate(reads >= saturation[y, x], axis=0)
        # some of the reads of an average may be full in the last one below the level
        full[:-1] |= full[1:] & (pattern[2, :-1, None] < 1)
        good = np.isfinite(reads) & ~full
        if usable is not None:
            good &= usable[used[:, None], y, x]
        offset = (
            offsets.column[:, x] + offsets.height[y] * offsets.gradient[:, x] + offsets.row[:, y]
        ).astype(np.float64)
        _fill(
            np.ascontiguousarray(reads.T), np.ascontiguousarray(good.T), np.ascontiguousarray(offset.T),
            used, y, x, integer, pattern, tables, prior, appearance_sigma, out,
        )  # fmt: skip


@stage
def lower_median(a, size):
    """The k-th smallest of the first ``size`` values, k = (size + 1) // 2; leaves them in another order.

    Source: C. A. R. Hoare 1961, Commun. ACM 4 321 (algorithm 65, Find).
    """
    k = (size + 1) // 2 - 1
    left, right = 0, size - 1
    while left < right:
        pivot = a[(left + right) // 2]
        i, j = left, right
        while i <= j:
            while a[i] < pivot:
                i += 1
            while a[j] > pivot:
                j -= 1
            if i <= j:
                a[i], a[j] = a[j], a[i]
                i += 1
                j -= 1
        if k <= j:
            right = j
        elif k >= i:
            left = i
        else:
            break
    return a[k]


@stage
def compress(reads, good, offset, value, corrected, where):
    """Usable reads of a ramp, with and without offset, and their places; returns how many."""
    n, total = 0, 0.0
    for i in range(reads.size):
        if i > 0:
            total += offset[i - 1]
        if good[i]:
            value[n] = reads[i]
            corrected[n] = reads[i] - total
            where[n] = i
            n += 1
    return n


@stage
def spread(value, where, m, work):
    """Differences of reads without a gap: (how many, median, deviation, largest, its index)."""
    count, peak, peak_at = ZERO, -1.0, 0
    for i in range(m):
        if where[i + 1] - where[i] == 1:
            v = value[i + 1] - value[i]
            work[count] = v
            count += 1
            if abs(v) > peak:
                peak = abs(v)
                peak_at = i
    median = lower_median(work, count) if count else 0.0
    for i in range(count):
        work[i] = abs(work[i] - median)
    return count, median, lower_median(work, count) if count else 0.0, peak, peak_at


@stage
def brightness(value, n, limit, used, where, out, y, c):
    """The features of the reads themselves."""
    low, high, total, square = value[0], value[0], 0.0, 0.0
    first, above, flips, before = -1, 0, 0, value[0] > limit
    for i in range(n):
        v = value[i]
        low = min(low, v)
        high = max(high, v)
        total += v - value[0]
        square += (v - value[0]) ** 2
        now = v > limit
        if now:
            above += 1
            if first < 0:
                first = used[where[i]]
        if now != before:
            flips += 1
        before = now
    out[to.MINIMUM, y, c] = low
    out[to.MAXIMUM, y, c] = high
    out[to.FIRST, y, c] = first
    out[to.PERSISTENCE, y, c] = above
    out[to.MAX_INTENSITY, y, c] = high - value[0]
    out[to.VARIANCE, y, c] = max(square / n - (total / n) ** 2, 0.0)
    out[to.TRANSITIONS, y, c] = flips


@stage
def robust_slope(value, d, where, n, pattern, interval, median, reach):
    """Least-squares slope of reads with differences ``d``; outliers are replaced by the mean of the rest."""
    centre, power = 0.0, 0.0
    for i in range(n):
        centre += pattern[0, where[i]]
    centre /= n
    for i in range(n):
        power += (pattern[0, where[i]] - centre) ** 2
    suffix, weighted, kept, time, inside = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(n - 2, -1, -1):
        suffix += (pattern[0, where[i + 1]] - centre) / power
        raw = value[i + 1] - value[i]
        if abs(raw - median * (where[i + 1] - where[i])) <= reach:
            weighted += suffix * d[i]
            kept += d[i]
            time += interval[i]
        else:
            inside += suffix * interval[i]
    return weighted + (inside * kept / time if time > 0 else 0.0)


@kernel
def _fill(reads, good, offset, used, rows, columns, integer, pattern, tables, prior, appearance_sigma, out):
    """Fill ``out`` from ``reads``, ``good`` (K, N) and ``offset`` (K, N - 1), one pixel after the other."""
    size = used.size
    work = np.empty((9, size))
    value, corrected, d, x, weight = work[0], work[1], work[2], work[3], work[4]
    link, unit, scale, other = work[5], work[6], work[7], work[8]
    model = np.empty((5, size))
    where = np.empty(size, np.int64)
    for p in range(rows.size):
        y, c = rows[p], columns[p]
        n = compress(reads[p], good[p], offset[p], value, corrected, where)
        m = n - 1
        for k in range(to.COUNT):
            out[k, y, c] = np.nan
        out[to.READS, y, c] = n
        if n < 4:
            continue
        count, median, mad, peak, peak_at = spread(value, where, m, other)
        if count == 0:
            continue
        sigma = to.MAD_SIGMA * max(mad, 1.0 if integer else 1e-6)
        jump = appearance_sigma * sigma
        brightness(value, n, value[0] + (math.floor(jump) if integer else jump), used, where, out, y, c)
        timing(pattern, where[:n], model)
        for i in range(m):
            d[i] = corrected[i + 1] - corrected[i]
        slope = robust_slope(value, d, where, n, pattern, model[0], median, to.WINSOR * sigma)
        r = rho_bin(f4(slope), prior.poisson[c], prior.rho_variance[c], tables.edges)
        total = factor(model, m, float(tables.rho[r]), weight, link, unit, scale)
        rss = solve(d, m, weight, link, x)
        rate = 0.0
        for i in range(m):
            rate += model[0, i] * x[i]
        rate /= total
        rss -= rate * rate * total
        best, best_at, worst, square = -1e30, 0, 1e30, 0.0
        for i in range(m):
            z = (x[i] - rate * unit[i]) * scale[i]
            square += z * z
            if z > best:
                best = z
                best_at = i
            worst = min(worst, z)
        v = prior.variance[min(rows[p], prior.variance.shape[0] - 1), c]
        dof, noisy = prior.dof[c], prior.noisy[c]
        up, variance = standardise(best, rss, m, v, dof, noisy)
        down, _ = standardise(worst, rss, m, v, dof, noisy)
        out[to.SLOPE, y, c] = slope
        out[to.MEDIAN, y, c] = median
        out[to.MAD, y, c] = mad
        out[to.LARGEST, y, c] = peak
        out[to.LARGEST_FRAME, y, c] = used[where[peak_at + 1]]
        out[to.STEP_FRAME, y, c] = used[where[best_at + 1]]
        out[to.STEP_AMPLITUDE, y, c] = best * scale[best_at]
        out[to.STEP_SIGNIFICANCE, y, c] = up
        out[to.STEP_R2, y, c] = best * best / max(rss, 1e-6)
        out[to.DROP_SIGNIFICANCE, y, c] = down
        out[to.READ_VARIANCE, y, c] = rss / (m - 1)
        out[to.NOISE, y, c] = math.sqrt(variance)
        out[to.ROUGHNESS, y, c] = square / m
        out[to.RATE, y, c] = rate
        out[to.RHO_BIN, y, c] = r
