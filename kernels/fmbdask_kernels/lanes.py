"""The stages of the fused pass over one tile: pixels are SIMD lanes, time is the outer loop.
 Scratch arrays are flat, one row of ``LANES`` values a read. Time is taken in chunks of whole rows
through one slice, and the inner loops over lanes have a constant trip count: so the compiler vectorises
over lanes, unrolls over the rows of a chunk, keeps running values in registers and has few addresses to
tell apart. Rows are padded to whole chunks with values that change nothing, which keeps the order of
every sum a function of the number of reads alone.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from .jit import kernel, stage

#: Pixels of one tile: 450 reads need three quarters of a megabyte of scratch, in the second-level cache.
LANES = 128
#: Rows of a chunk; rows are padded to multiples of it.
CHUNK = 8
#: Largest value of a lane of int16.
LAST = 32767
#: Zero of differences from their mean in 8 bits, and the largest mean distance whose brackets fit there.
ORIGIN, NARROW = 126, 122

f4, i2, i4, u1, u2 = np.float32, np.int16, np.int32, np.uint8, np.uint16


@kernel
def padded(rows):
    """Rows rounded up to whole chunks."""
    return (rows + CHUNK - 1) // CHUNK * CHUNK


@stage
def load(data, used, y, x0, lanes, x):
    """Copy a tile as int16 (offset binary), zeros beyond the block; padding repeats the read in mid-ramp."""
    n = used.size
    for t in range(n):
        source = data[used[t], y, x0 : x0 + lanes]
        target = x[t * LANES : (t + 1) * LANES]
        if lanes == LANES:
            for j in range(LANES):
                target[j] = i2(source[j] ^ np.uint16(32768))
        else:
            for j in range(lanes):
                target[j] = i2(source[j] ^ np.uint16(32768))
            for j in range(lanes, LANES):
                target[j] = i2(0)
    for t in range(n, padded(n) + 1):
        for j in range(LANES):
            x[t * LANES + j] = x[n // 2 * LANES + j]


@stage
def extremes(x, n, low, high):
    """Smallest and largest read."""
    for j in range(LANES):
        low[j] = x[j]
        high[j] = x[j]
    for t in range(0, n, CHUNK):
        a = x[t * LANES : (t + CHUNK) * LANES]
        for j in range(LANES):
            lo, hi = low[j], high[j]
            for k in range(CHUNK):
                lo = min(lo, a[j + k * LANES])
                hi = max(hi, a[j + k * LANES])
            low[j] = lo
            high[j] = hi


@stage
def moments(x, n, centred, shift, s1, s2, st):
    """Sums of reads (exact), of their squares and over centred time, less that in mid-ramp (``shift``)."""
    for j in range(LANES):
        shift[j] = x[n // 2 * LANES + j]
        s1[j] = i4(0)
        s2[j] = f4(0)
        st[j] = f4(0)
    for t in range(0, n, CHUNK):
        a = x[t * LANES : (t + CHUNK) * LANES]
        c = centred[t : t + CHUNK]
        for j in range(LANES):
            z = i4(shift[j])
            p, q, r = s1[j], s2[j], st[j]
            for k in range(CHUNK):
                v = i4(i4(a[j + k * LANES]) - z)
                p = i4(p + v)
                q += f4(v) * f4(v)
                r += c[k] * f4(v)
            s1[j] = p
            s2[j] = q
            st[j] = r


@stage
def differences(x, m, centre, d, total, peak, where):
    """Differences (modulo 2^16), the sum of their distances from ``centre``, the largest ``|d|`` and its
    index.

    ``centre`` is their rounded mean, and what the padding is filled with; the first index counts on a
    tie. Pixels with a difference beyond 14 bits are left to the masked path.
    """
    for j in range(LANES):
        a = (f4(x[m * LANES + j]) - f4(x[j])) / f4(m)
        centre[j] = i2(i4(max(min(a, f4(32766)), f4(-32766)) + f4(32768.5)) - 32768)
        total[j] = i4(0)
        peak[j] = i2(-1)
        where[j] = i2(0)
    for t in range(0, m, CHUNK):
        a = x[t * LANES : (t + CHUNK + 1) * LANES]
        b = d[t * LANES : (t + CHUNK) * LANES]
        for j in range(LANES):
            for k in range(CHUNK):
                b[j + k * LANES] = i2(a[j + (k + 1) * LANES] - a[j + k * LANES])
        for k in range(max(m - t, 0), CHUNK):
            for j in range(LANES):
                b[j + k * LANES] = centre[j]
        for j in range(LANES):
            best, at = peak[j], where[j]
            for k in range(CHUNK):
                v = b[j + k * LANES]
                v = max(v, i2(-v))
                at = i2(t + k) if v > best else at
                best = max(v, best)
            peak[j] = best
            where[j] = at
        for j in range(LANES):
            s, z = total[j], centre[j]
            for k in range(0, CHUNK, 2):
                v = i2(b[j + k * LANES] - z)
                w = i2(b[j + (k + 1) * LANES] - z)
                s = i4(s + i4(u2(u2(max(v, i2(-v))) + u2(max(w, i2(-w))))))
            total[j] = s


@stage
def narrow(d, m, centre, distance, upper, origin, e, most):
    """Put ``v - origin`` into 8 bits, clipped, where ``v`` is the difference from ``centre``, or its
    distance.

    With ``upper`` the upper byte of ``v`` takes its place. The largest ``v`` goes to ``most``.
    """
    for j in range(LANES):
        most[j] = i2(-LAST)
    for t in range(0, m, CHUNK):
        a = d[t * LANES : (t + CHUNK) * LANES]
        b = e[t * LANES : (t + CHUNK) * LANES]
        if upper:
            for j in range(LANES):
                z, o, w = centre[j], origin[j], most[j]
                for k in range(CHUNK):
                    v = i2(a[j + k * LANES] - z)
                    v = max(v, i2(-v)) if distance else v
                    w = max(v, w)
                    b[j + k * LANES] = u1((v >> 8) - o)
                most[j] = w
        else:
            for j in range(LANES):
                z, o, w = centre[j], origin[j], most[j]
                for k in range(CHUNK):
                    v = i2(a[j + k * LANES] - z)
                    v = max(v, i2(-v)) if distance else v
                    w = max(v, w)
                    b[j + k * LANES] = u1(max(min(i2(v - o), i2(255)), i2(0)))
                most[j] = w
    for j in range(m * LANES, padded(m) * LANES):
        e[j] = u1(255)


@stage
def select(e, m, low, high, probe, step, middle, partial, count):
    """Leave in ``high`` the median of each lane of 8-bit values, which must lie in (low, high].

    Counts the values up to ``probe`` and up to ``step`` beside it, then bisects what is left of the bracket.
    Returns without a look at values at 255: they may be clipped or padding.
    """
    rank = (m + 1) // 2
    looks = 0
    while True:
        width = i2(0)
        for j in range(LANES):
            width = max(width, i2(high[j] - low[j]))
        if width <= 1:
            return
        for j in range(LANES):
            half = i2((low[j] + high[j]) >> 1)
            middle[j] = u1(half if looks > 1 else max(min(probe[j], i2(high[j] - 1)), i2(low[j] + 1)))
            count[j] = i2(0)
        for start in range(0, m, 240):
            for j in range(LANES):
                partial[j] = u1(0)
            for t in range(start, min(start + 240, m), CHUNK):
                a = e[t * LANES : (t + CHUNK) * LANES]
                for j in range(LANES):
                    c = partial[j]
                    for k in range(CHUNK):
                        c = u1(c + u1(a[j + k * LANES] <= middle[j]))
                    partial[j] = c
            for j in range(LANES):
                count[j] = i2(count[j] + i2(partial[j]))
        for j in range(LANES):
            q, z = count[j] >= rank, i2(middle[j])
            probe[j] = i2(z - step[j]) if q else i2(z + step[j])
            high[j] = z if q else high[j]
            low[j] = low[j] if q else z
        looks += 1


@stage
def appearance(x, n, limit, shift, first, above, flips):
    """Reads above a limit: the first, how many, and how often the state changes."""
    m = n - 1
    for j in range(LANES):
        q = x[j] > limit[j]
        first[j] = i2(0) if q else i2(LAST)
        above[j] = i2(q)
        flips[j] = i2(0)
    for t in range(0, m, CHUNK):
        a = x[t * LANES : (t + CHUNK + 1) * LANES]
        for j in range(LANES):
            z, at, b, c = limit[j], i2(LAST), above[j], flips[j]
            after = a[j + CHUNK * LANES] > z
            for back in range(CHUNK):
                k = CHUNK - back
                before = a[j + (k - 1) * LANES] > z
                at = i2(t + k) if after else at
                b = i2(b + i2(after))
                c = i2(c + i2(after != before))
                after = before
            first[j] = min(first[j], at)
            above[j] = b
            flips[j] = c
    rest = i2(padded(m) - m)  # padding repeats the read in mid-ramp
    if rest > 0:
        for j in range(LANES):
            q = shift[j] > limit[j]
            above[j] = i2(above[j] - rest) if q else above[j]
            flips[j] = i2(flips[j] - i2(q != (x[m * LANES + j] > limit[j])))


@stage
def winsorise(d, column, row, m, weight, interval, median, reach, j):
    """Weighted sum, sum, weight and time of the differences of lane ``j`` beyond ``reach``."""
    weighted, plain, inside, time = f4(0), f4(0), f4(0), f4(0)
    for t in range(m):
        raw = d[t * LANES + j]
        if abs(i4(raw) - i4(median)) > reach:
            v = f4(raw) - (column[t * LANES + j] + row[t])
            weighted += weight[t] * v
            plain += v
            inside += weight[t] * interval[t]
            time += interval[t]
    return weighted, plain, inside, time


@stage
def forward(d, column, c, f, m, state, square, rate):
    """Solve the first triangle, f = L^-1 d, for corrected differences.

    ``c`` holds row offset, gain, link and slope weight of each difference; ``square`` becomes d' C^-1 d and
    ``rate`` dt' C^-1 d.
    """
    for j in range(LANES):
        state[j] = f4(0)
        square[j] = f4(0)
        rate[j] = f4(0)
    for t in range(0, padded(m), 4):
        a = d[t * LANES : (t + 4) * LANES]
        b = column[t * LANES : (t + 4) * LANES]
        g = f[t * LANES : (t + 4) * LANES]
        w = c[t * 4 : (t + 4) * 4]
        for j in range(LANES):
            p, s, r = state[j], square[j], rate[j]
            for k in range(4):
                v = f4(a[j + k * LANES]) - (b[j + k * LANES] + w[4 * k])
                p = v * w[4 * k + 1] + p * w[4 * k + 2]
                g[j + k * LANES] = p
                s += p * p
                r += v * w[4 * k + 3]
            state[j] = p
            square[j] = s
            rate[j] = r


@stage
def backward(f, c, m, rate, state, high, high_at, low, square):
    """Solve the second triangle; the largest and smallest step statistic and the sum of squares on the way.

    ``c`` holds gain, link and slope of each difference, all in units of the step statistic.
    """
    for j in range(LANES):
        state[j] = f4(0)
        high[j] = f4(-1e30)
        low[j] = f4(1e30)
        high_at[j] = i4(0)
        square[j] = f4(0)
    for t in range(padded(m) - 4, -1, -4):
        a = f[t * LANES : (t + 4) * LANES]
        w = c[t * 4 : (t + 4) * 4]
        for j in range(LANES):
            p, slope, hi, at, lo, s = state[j], rate[j], high[j], high_at[j], low[j], square[j]
            for back in range(4):
                k = 3 - back
                p = a[j + k * LANES] * w[4 * k] + p * w[4 * k + 1]
                z = p - slope * w[4 * k + 2]
                at = i4(t + k) if z >= hi else at
                hi = z if z >= hi else hi
                lo = z if z < lo else lo
                s += z * z
            state[j] = p
            high[j] = hi
            high_at[j] = at
            low[j] = lo
            square[j] = s
