"""The temporal features of pixels that need a mask, one pixel at a time: any dtype, any set of usable reads.

The definitions are those of :mod:`.temporal`; the covariance factors are made for the reads of each pixel.
Median, deviation and largest difference are taken over reads that follow each other directly.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from . import temporal as t_
from .covariance import factor, solve, timing
from .jit import kernel
from .noise import rho_bin, standardise

f4 = np.float32
#: Differences beyond this may have wrapped in the 16-bit arithmetic of the fused pass.
WRAP = 16383


def masked_pixels(
    data: NDArray[np.uint16],
    used: NDArray[np.int64],
    features: NDArray[np.float32],
    saturation: NDArray[np.float32],
    usable: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows and columns of the pixels of a uint16 block whose features the fused pass cannot give."""
    maximum = features[t_.MAXIMUM]
    doubtful = maximum >= saturation
    wide = maximum - features[t_.MINIMUM] > WRAP
    if wide.any():
        rows, columns = np.nonzero(wide)
        ramps = data[used][:, rows, columns].astype(np.int32)
        doubtful[rows, columns] |= np.abs(np.diff(ramps, axis=0)).max(axis=0) > WRAP
    if usable is not None:
        doubtful |= ~usable[used].all(axis=0)
    rows, columns = np.nonzero(doubtful)
    return rows, columns


@kernel
def masked_features(  # type: ignore[no-untyped-def]
    data,
    used,
    rows,
    columns,
    usable,
    saturation,
    integer,
    offsets,
    pattern,
    tables,
    prior,
    rho_floor,
    appearance_sigma,
    out,
):
    """Fill ``out`` (planes, ny, nx) at the pixels (rows, columns); see :func:`.temporal.temporal_features`."""
    size = used.size
    value, corrected, d, x = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    where = np.empty(size, np.int64)
    model = np.empty((5, size))
    weight, link, unit, scale, sorted_ = (
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty(size),
    )
    for p in range(rows.size):
        y, c = rows[p], columns[p]
        n = 0
        offset = 0.0
        stop = False
        for i in range(size):
            if i > 0:
                offset += (
                    offsets.column[i - 1, c]
                    + offsets.height[y] * offsets.gradient[i - 1, c]
                    + offsets.row[i - 1, y]
                )
            v = float(data[used[i], y, c])
            stop = stop or v >= saturation[y, c]
            good = not stop and math.isfinite(v) and (usable.size == 0 or usable[used[i], y, c])
            if good:
                value[n] = v
                corrected[n] = v - offset
                where[n] = i
                n += 1
        for k in range(out.shape[0]):
            out[k, y, c] = np.nan
        out[t_.READS, y, c] = n
        if n < 4:
            continue
        m = n - 1
        low, high, total, square = value[0], value[0], 0.0, 0.0
        for i in range(n):
            low = min(low, value[i])
            high = max(high, value[i])
            total += value[i] - value[0]
            square += (value[i] - value[0]) ** 2
        neighbours = 0
        peak, peak_at = -1.0, 0
        for i in range(m):
            if where[i + 1] - where[i] == 1:
                e = value[i + 1] - value[i]
                sorted_[neighbours] = e
                neighbours += 1
                if abs(e) > peak:
                    peak = abs(e)
                    peak_at = i
        if neighbours == 0:
            continue
        rank = (neighbours + 1) // 2 - 1
        s = np.sort(sorted_[:neighbours])
        median = s[rank]
        for i in range(neighbours):
            s[i] = abs(s[i] - median)
        s = np.sort(s)
        mad = s[rank]
        spread = max(mad, 1.0) if integer else max(mad, 1e-6)
        limit = value[0] + (
            math.floor(appearance_sigma * t_.MAD_SIGMA * spread)
            if integer
            else appearance_sigma * t_.MAD_SIGMA * spread
        )
        first, above, flips, before = -1, 0, 0, value[0] > limit
        for i in range(n):
            now = value[i] > limit
            if now:
                above += 1
                if first < 0:
                    first = used[where[i]]
            if now != before:
                flips += 1
            before = now
        timing(pattern, where[:n], model)
        centre = 0.0
        for i in range(n):
            centre += pattern[0, where[i]]
        centre /= n
        power, suffix = 0.0, 0.0
        for i in range(n):
            power += (pattern[0, where[i]] - centre) ** 2
        weighted, kept, time, inside = 0.0, 0.0, 0.0, 0.0
        reach = t_.WINSOR * t_.MAD_SIGMA * spread
        for i in range(m - 1, -1, -1):
            suffix += (pattern[0, where[i + 1]] - centre) / power
            d[i] = corrected[i + 1] - corrected[i]
            raw = value[i + 1] - value[i]
            if abs(raw - median * (where[i + 1] - where[i])) <= reach:
                weighted += suffix * d[i]
                kept += d[i]
                time += model[0, i]
            else:
                inside += suffix * model[0, i]
        slope = weighted + (inside * kept / time if time > 0 else 0.0)
        r = rho_bin(f4(slope), prior.poisson[c], prior.rho_variance[c], tables.edges)
        all_ = factor(model, m, float(tables.rho[r]), weight, link, unit, scale)
        rss = solve(d, m, weight, link, x)
        rate = 0.0
        for i in range(m):
            rate += model[0, i] * x[i]
        rate /= all_
        rss -= rate * rate * all_
        best, best_at, worst, sum_ = -1e30, 0, 1e30, 0.0
        for i in range(m):
            z = (x[i] - rate * unit[i]) * scale[i]
            sum_ += z * z
            if z > best:
                best = z
                best_at = i
            worst = min(worst, z)
        v, q = prior.variance[c], prior.noisy[c]
        z, variance = standardise(f4(best), f4(rss), m, v, prior.dof[c], q)
        w, _ = standardise(f4(worst), f4(rss), m, v, prior.dof[c], q)
        out[t_.SLOPE, y, c] = slope
        out[t_.MINIMUM, y, c] = low
        out[t_.MAXIMUM, y, c] = high
        out[t_.MEDIAN, y, c] = median
        out[t_.MAD, y, c] = mad
        out[t_.LARGEST, y, c] = peak
        out[t_.LARGEST_FRAME, y, c] = used[where[peak_at + 1]]
        out[t_.FIRST, y, c] = first
        out[t_.PERSISTENCE, y, c] = above
        out[t_.MAX_INTENSITY, y, c] = high - value[0]
        out[t_.VARIANCE, y, c] = max(square / n - (total / n) ** 2, 0.0)
        out[t_.TRANSITIONS, y, c] = flips
        out[t_.STEP_FRAME, y, c] = used[where[best_at + 1]]
        out[t_.STEP_AMPLITUDE, y, c] = best * scale[best_at]
        out[t_.STEP_SIGNIFICANCE, y, c] = z
        out[t_.STEP_R2, y, c] = best * best / max(rss, 1e-6)
        out[t_.DROP_SIGNIFICANCE, y, c] = w
        out[t_.READ_VARIANCE, y, c] = rss / (m - 1)
        out[t_.NOISE, y, c] = math.sqrt(variance)
        out[t_.ROUGHNESS, y, c] = sum_ / m
        out[t_.RATE, y, c] = rate
        out[t_.RHO_BIN, y, c] = r
