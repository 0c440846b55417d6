"""The stages of the fused pass over one tile: pixels are SIMD lanes, time is the outer loop.

Every inner loop has the constant trip count ``LANES``, and touches few enough arrays for the compiler to
vectorise it; time is unrolled by four or eight so that running values stay in registers. Sums are taken in an
order that depends on the number of reads alone.
"""

from __future__ import annotations

import numpy as np

from .jit import kernel

#: Pixels of one tile: four 512-bit registers of int16, eight of float32; 450 reads need half a megabyte of scratch.
LANES = 128
#: Largest value of a lane of int16.
LAST = 32767

f4, i2, i4 = np.float32, np.int16, np.int32


@kernel
def load(data, used, y, x0, lanes, x):  # type: ignore[no-untyped-def]
    """Copy a tile as int16 (offset binary); lanes beyond the block hold zeros."""
    for t in range(used.size):
        source = data[used[t], y, x0 : x0 + lanes]
        target = x[t]
        if lanes == LANES:
            for j in range(LANES):
                target[j] = i2(source[j] ^ np.uint16(32768))
        else:
            for j in range(lanes):
                target[j] = i2(source[j] ^ np.uint16(32768))
            for j in range(lanes, LANES):
                target[j] = i2(0)


@kernel
def differences(x, m, d):  # type: ignore[no-untyped-def]
    """Differences modulo 2^16; pixels with one beyond 14 bits are left to the masked path."""
    for t in range(m):
        a, b, out = x[t], x[t + 1], d[t]
        for j in range(LANES):
            out[j] = i2(b[j] - a[j])


@kernel
def combine(offsets, m, y, x0, c):  # type: ignore[no-untyped-def]
    """Column offsets and gradient of one row, where there is a gradient."""
    h = offsets.height[y]
    for t in range(m):
        a, g, out = offsets.column[t, x0 : x0 + LANES], offsets.gradient[t, x0 : x0 + LANES], c[t]
        for j in range(LANES):
            out[j] = a[j] + h * g[j]


@kernel
def extremes(x, n, low, high):  # type: ignore[no-untyped-def]
    """Smallest and largest read."""
    for j in range(LANES):
        low[j] = x[0, j]
        high[j] = x[0, j]
    whole = n - (n % 8)
    for t in range(0, whole, 8):
        a, b, c, e = x[t], x[t + 1], x[t + 2], x[t + 3]
        g, h, u, v = x[t + 4], x[t + 5], x[t + 6], x[t + 7]
        for j in range(LANES):
            lo = min(min(min(a[j], b[j]), min(c[j], e[j])), min(min(g[j], h[j]), min(u[j], v[j])))
            hi = max(max(max(a[j], b[j]), max(c[j], e[j])), max(max(g[j], h[j]), max(u[j], v[j])))
            low[j] = min(low[j], lo)
            high[j] = max(high[j], hi)
    for t in range(whole, n):
        a = x[t]
        for j in range(LANES):
            low[j] = min(low[j], a[j])
            high[j] = max(high[j], a[j])


@kernel
def spread(d, m, centre, total, peak, where):  # type: ignore[no-untyped-def]
    """Sum of ``|d - centre|``, the largest ``|d|`` and its index (the first, on a tie)."""
    for j in range(LANES):
        total[j] = i4(0)
        peak[j] = i2(-1)
        where[j] = i2(0)
    whole = m - (m % 4)
    for t in range(0, whole, 4):
        a, b, c, e = d[t], d[t + 1], d[t + 2], d[t + 3]
        t0, t1, t2, t3 = i2(t), i2(t + 1), i2(t + 2), i2(t + 3)
        for j in range(LANES):
            va = max(a[j], i2(-a[j]))
            vb = max(b[j], i2(-b[j]))
            vc = max(c[j], i2(-c[j]))
            ve = max(e[j], i2(-e[j]))
            q = vb > va
            m1 = vb if q else va
            k1 = t1 if q else t0
            q = ve > vc
            m2 = ve if q else vc
            k2 = t3 if q else t2
            q = m2 > m1
            best = m2 if q else m1
            at = k2 if q else k1
            q = best > peak[j]
            peak[j] = best if q else peak[j]
            where[j] = at if q else where[j]
        for j in range(LANES):
            z = i4(centre[j])
            total[j] += abs(i4(a[j]) - z) + abs(i4(b[j]) - z) + abs(i4(c[j]) - z) + abs(i4(e[j]) - z)
    for t in range(whole, m):
        a = d[t]
        for j in range(LANES):
            va = max(a[j], i2(-a[j]))
            q = va > peak[j]
            peak[j] = va if q else peak[j]
            where[j] = i2(t) if q else where[j]
            total[j] += abs(i4(a[j]) - i4(centre[j]))


@kernel
def tally(d, m, middle, count):  # type: ignore[no-untyped-def]
    for j in range(LANES):
        count[j] = i2(0)
    whole = m - (m % 8)
    for t in range(0, whole, 8):
        a0, a1, a2, a3 = d[t], d[t + 1], d[t + 2], d[t + 3]
        a4, a5, a6, a7 = d[t + 4], d[t + 5], d[t + 6], d[t + 7]
        for j in range(LANES):
            z = middle[j]
            c = i2(a0[j] <= z) + i2(a1[j] <= z) + i2(a2[j] <= z) + i2(a3[j] <= z)
            c += i2(a4[j] <= z) + i2(a5[j] <= z) + i2(a6[j] <= z) + i2(a7[j] <= z)
            count[j] = i2(count[j] + c)
    for t in range(whole, m):
        a0 = d[t]
        for j in range(LANES):
            count[j] = i2(count[j] + i2(a0[j] <= middle[j]))


@kernel
def select(d, m, k, low, high, middle, count):  # type: ignore[no-untyped-def]
    """Leave in ``high`` the k-th smallest (1-based) of each lane; it must lie in (low, high]."""
    while True:
        width = i4(0)
        for j in range(LANES):
            width = max(width, i4(high[j]) - i4(low[j]))
        if width <= 1:
            return
        for j in range(LANES):
            middle[j] = i2((i4(low[j]) + i4(high[j])) >> 1)
        tally(d, m, middle, count)
        for j in range(LANES):
            q = count[j] >= k
            high[j] = middle[j] if q else high[j]
            low[j] = low[j] if q else middle[j]


@kernel
def deviation(d, m, centre):  # type: ignore[no-untyped-def]
    """Replace the differences by their distance from ``centre`` (lanes where that overflows are masked ones)."""
    for t in range(m):
        a = d[t]
        for j in range(LANES):
            v = i2(a[j] - centre[j])
            a[j] = max(v, i2(-v))


@kernel
def appearance(x, n, limit, first, above, flips):  # type: ignore[no-untyped-def]
    """Reads above a limit: the first, how many, and how often the state changes."""
    for j in range(LANES):
        q = x[0, j] > limit[j]
        first[j] = i2(0) if q else i2(LAST)
        above[j] = i2(q)
        flips[j] = i2(0)
    whole = 1 + (n - 1) // 4 * 4
    for t in range(1, whole, 4):
        p, a, b, c, e = x[t - 1], x[t], x[t + 1], x[t + 2], x[t + 3]
        now = i2(t)
        for j in range(LANES):
            z = limit[j]
            q0, q1, q2, q3, q4 = p[j] > z, a[j] > z, b[j] > z, c[j] > z, e[j] > z
            above[j] = i2(above[j] + i2(q1) + i2(q2) + i2(q3) + i2(q4))
            flips[j] = i2(flips[j] + i2(q0 != q1) + i2(q1 != q2) + i2(q2 != q3) + i2(q3 != q4))
            at = i2(now + i2(3)) if q4 else i2(LAST)
            at = i2(now + i2(2)) if q3 else at
            at = i2(now + i2(1)) if q2 else at
            at = now if q1 else at
            first[j] = min(first[j], at)
    for t in range(whole, n):
        a, b, now = x[t - 1], x[t], i2(t)
        for j in range(LANES):
            q0, q1 = a[j] > limit[j], b[j] > limit[j]
            above[j] = i2(above[j] + i2(q1))
            flips[j] = i2(flips[j] + i2(q0 != q1))
            first[j] = min(first[j], now if q1 else i2(LAST))


@kernel
def moments(x, n, centred, shift, s1, s2, st):  # type: ignore[no-untyped-def]
    """Sum (exact) and sum of squares of the reads, counted from ``shift``, and their sum over centred time."""
    for j in range(LANES):
        s1[j] = i4(0)
        s2[j] = f4(0)
        st[j] = f4(0)
    whole = n - (n % 4)
    for t in range(0, whole, 4):
        a, b, c, e = x[t], x[t + 1], x[t + 2], x[t + 3]
        t0, t1, t2, t3 = centred[t], centred[t + 1], centred[t + 2], centred[t + 3]
        for j in range(LANES):
            z = i4(shift[j])
            va, vb, vc, ve = i4(a[j]) - z, i4(b[j]) - z, i4(c[j]) - z, i4(e[j]) - z
            s1[j] += (va + vb) + (vc + ve)
            fa, fb, fc, fe = f4(va), f4(vb), f4(vc), f4(ve)
            s2[j] += (fa * fa + fb * fb) + (fc * fc + fe * fe)
            st[j] += (t0 * fa + t1 * fb) + (t2 * fc + t3 * fe)
    for t in range(whole, n):
        a = x[t]
        for j in range(LANES):
            v = i4(a[j]) - i4(shift[j])
            s1[j] += v
            s2[j] += f4(v) * f4(v)
            st[j] += centred[t] * f4(v)


@kernel
def winsorise(x, column, c0, row, m, weight, interval, deviation, reach, j):  # type: ignore[no-untyped-def]
    """What the differences of lane ``j`` beyond ``reach`` put into its slope: weighted sum, sum, weight and time."""
    weighted, plain, inside, time = f4(0), f4(0), f4(0), f4(0)
    for t in range(m):
        if deviation[t, j] > reach:
            v = f4(i4(x[t + 1, j]) - i4(x[t, j])) - (column[t, c0 + j] + row[t])
            weighted += weight[t] * v
            plain += v
            inside += weight[t] * interval[t]
            time += interval[t]
    return weighted, plain, inside, time


@kernel
def forward(x, column, c0, row, f, m, tables, r, state, rss, rate):  # type: ignore[no-untyped-def]
    """f_i = q_i = (d_i + link_{i-1} q_{i-1}) weight_i from the corrected differences d; d'C^-1 d and the slope on the way."""
    w, iw, u = tables.weight[r], tables.inverse_weight[r], tables.unit[r]
    link = tables.link[r]
    for j in range(LANES):
        v = f4(i4(x[1, j]) - i4(x[0, j])) - (column[0, c0 + j] + row[0])
        q = v * w[0]
        f[0, j] = q
        state[j] = q
        rss[j] = q * v
        rate[j] = v * u[0]
    whole = 1 + (m - 1) // 4 * 4
    for t in range(1, whole, 4):
        x0, x1, x2, x3, x4 = x[t], x[t + 1], x[t + 2], x[t + 3], x[t + 4]
        ca, cb = column[t, c0 : c0 + LANES], column[t + 1, c0 : c0 + LANES]
        cc, ce = column[t + 2, c0 : c0 + LANES], column[t + 3, c0 : c0 + LANES]
        a, b, c, e = f[t], f[t + 1], f[t + 2], f[t + 3]
        ra, rb, rc, re = row[t], row[t + 1], row[t + 2], row[t + 3]
        w0, w1, w2, w3 = w[t], w[t + 1], w[t + 2], w[t + 3]
        l0, l1, l2, l3 = link[t - 1], link[t], link[t + 1], link[t + 2]
        i0, i1, i2_, i3 = iw[t], iw[t + 1], iw[t + 2], iw[t + 3]
        u0, u1, u2, u3 = u[t], u[t + 1], u[t + 2], u[t + 3]
        for j in range(LANES):
            v0, v1, v2, v3, v4 = i4(x0[j]), i4(x1[j]), i4(x2[j]), i4(x3[j]), i4(x4[j])
            va = f4(v1 - v0) - (ca[j] + ra)
            vb = f4(v2 - v1) - (cb[j] + rb)
            vc = f4(v3 - v2) - (cc[j] + rc)
            ve = f4(v4 - v3) - (ce[j] + re)
            q0 = (va + l0 * state[j]) * w0
            q1 = (vb + l1 * q0) * w1
            q2 = (vc + l2 * q1) * w2
            q3 = (ve + l3 * q2) * w3
            state[j] = q3
            a[j] = q0
            b[j] = q1
            c[j] = q2
            e[j] = q3
            rss[j] += (q0 * q0 * i0 + q1 * q1 * i1) + (q2 * q2 * i2_ + q3 * q3 * i3)
            rate[j] += (va * u0 + vb * u1) + (vc * u2 + ve * u3)
    for t in range(whole, m):
        a, out, ct = x[t], f[t], column[t, c0 : c0 + LANES]
        b = x[t + 1]
        rt, wt, lt, it, ut = row[t], w[t], link[t - 1], iw[t], u[t]
        for j in range(LANES):
            v = f4(i4(b[j]) - i4(a[j])) - (ct[j] + rt)
            q = (v + lt * state[j]) * wt
            state[j] = q
            out[j] = q
            rss[j] += q * q * it
            rate[j] += v * ut
    total = tables.total[r]
    for j in range(LANES):
        rate[j] = rate[j] / total
        rss[j] = rss[j] - rate[j] * rate[j] * total


@kernel
def backward(g, m, tables, r, rate, x, high, high_at, low, square):  # type: ignore[no-untyped-def]
    """x_i = q_i + carry_i x_{i+1}; the largest and smallest step statistic and the sum of squares on the way."""
    carry, u, s = tables.carry[r], tables.unit[r], tables.scale[r]
    for j in range(LANES):
        x[j] = f4(0)
        high[j] = f4(-1e30)
        low[j] = f4(1e30)
        high_at[j] = i4(0)
        square[j] = f4(0)
    rest = m % 4
    for t in range(m - 4, rest - 1, -4):
        a, b, e, h = g[t], g[t + 1], g[t + 2], g[t + 3]
        c0, c1, c2, c3 = carry[t], carry[t + 1], carry[t + 2], carry[t + 3]
        u0, u1, u2, u3 = u[t], u[t + 1], u[t + 2], u[t + 3]
        s0, s1, s2, s3 = s[t], s[t + 1], s[t + 2], s[t + 3]
        t0, t1, t2, t3 = i4(t), i4(t + 1), i4(t + 2), i4(t + 3)
        for j in range(LANES):
            slope = rate[j]
            x3 = h[j] + c3 * x[j]
            x2 = e[j] + c2 * x3
            x1 = b[j] + c1 * x2
            x0 = a[j] + c0 * x1
            x[j] = x0
            z0 = (x0 - slope * u0) * s0
            z1 = (x1 - slope * u1) * s1
            z2 = (x2 - slope * u2) * s2
            z3 = (x3 - slope * u3) * s3
            q = z1 > z0
            p1 = z1 if q else z0
            k1 = t1 if q else t0
            q = z3 > z2
            p2 = z3 if q else z2
            k2 = t3 if q else t2
            q = p2 > p1
            p = p2 if q else p1
            k = k2 if q else k1
            q = p >= high[j]
            high[j] = p if q else high[j]
            high_at[j] = k if q else high_at[j]
            low[j] = min(low[j], min(min(z0, z1), min(z2, z3)))
            square[j] += (z0 * z0 + z1 * z1) + (z2 * z2 + z3 * z3)
    for t in range(rest - 1, -1, -1):
        a = g[t]
        ct, ut, st, k = carry[t], u[t], s[t], i4(t)
        for j in range(LANES):
            v = a[j] + ct * x[j]
            x[j] = v
            z = (v - rate[j] * ut) * st
            square[j] += z * z
            q = z >= high[j]
            high[j] = z if q else high[j]
            high_at[j] = k if q else high_at[j]
            low[j] = min(low[j], z)
