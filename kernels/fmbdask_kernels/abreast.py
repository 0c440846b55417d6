"""Ramps side by side: what :mod:`.stepped` does with the differences of many at a time.

The recursions that factor a covariance wait for themselves, so each SIMD lane has a ramp of its own here. No
lane sees another: neither the order of its sums nor its result depends on them. With 450 reads and 16 lanes
``record`` takes 400 kB, within a second-level cache.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np

from .jit import ZERO, exact_stage, stage

#: Minors of a matrix are scaled where they are smaller than this, or larger than its inverse.
TINY = 1e-100
#: Ramps that are fitted together, the lanes of two SIMD registers: the recursion of one waits for itself.
LANES = 16
#: Rounds in which the limits of a median are halved before the values between them are taken one by one.
BISECTIONS = 9
#: Differences that are counted together.
CHUNK = 8

#: What is kept of a difference, ``LANES`` numbers each: whether it tells something (1 or 0), data, flip
#: between two levels; then factors and ``C^-1`` times time and levels.
LIVE, DATA, LEVELS, INVERSE, REACH, SHARE, TILT = range(7)
WIDTH = 7 * LANES
#: Running values and sums of the lanes.
(
    LAST, BEFORE, MINOR, CHANGE, ALONG, OWN, LEVEL, TRACE, TIME_TIME, TIME_DATA, DATA_DATA, TIME_LEVEL,
    LEVEL_LEVEL, DATA_LEVEL, LIVED, RATIO, LEAN, REACH_NEXT, SHARE_NOISE, LEVEL_NOISE, LOW, MIDDLE, HIGH,
    SPREAD, COUNT, RANK, STATES,
) = range(27)  # fmt: skip


@stage
def collect(order, start, used, shape, index, reads):
    """Ramps from ``start`` on that are fitted together: how many, and whether one of them has two levels.

    ``index`` becomes the reads of the first. The others use the same ones, as far as they go.
    """
    n, levels, lanes = ZERO, False, ZERO
    p = order[start]
    for i in range(used.shape[1]):
        if used[p, i]:
            index[n] = i
            n += 1
    while lanes < LANES and start + lanes < order.size:
        p, own, alike = order[start + lanes], ZERO, True
        for i in range(used.shape[1]):
            if used[p, i]:
                alike &= own < n and index[min(own, n - 1)] == i
                levels |= shape[p, i] != shape[p, index[0]]
                own += 1
        if not alike:
            break
        reads[lanes] = own
        lanes += 1
    return n, lanes, levels


@stage
def load(ramps, shape, begins, chosen, lanes, reads, index, rows, model, record, free):
    """Put the differences of ramps into the lanes, and count those that tell something, less one.

    A difference that holds a step tells nothing, nor do those that a shorter ramp does not have.
    """
    for j in range(LANES):
        free[j] = -1.0
    for i in range(rows):
        a, b, first = index[i], index[i + 1], i * WIDTH
        for j in range(LANES):
            live, difference, flip, quotient = 0.0, 0.0, 0.0, np.inf
            if j < lanes and i < reads[j] - 1:
                p = chosen[j]
                parted = False
                for k in range(a + 1, b + 1):
                    parted |= begins[p, k]
                difference = np.float64(ramps[p, b]) - np.float64(ramps[p, a])
                quotient = difference / model[0, i]
                live = 0.0 if parted else 1.0
                flip = (np.float64(shape[p, b]) - np.float64(shape[p, a])) * live
                difference = 0.0 if parted else difference
                free[j] += live
            record[first + LIVE * LANES + j] = live
            record[first + DATA * LANES + j] = difference
            record[first + LEVELS * LANES + j] = flip
            record[first + SHARE * LANES + j] = quotient


@exact_stage
def count(record, rows, s):
    """Quotients up to ``MIDDLE`` of each lane."""
    for j in range(LANES):
        s[COUNT * LANES + j] = 0.0
    for i in range(0, rows, CHUNK):
        a = record[i * WIDTH : (i + CHUNK) * WIDTH]
        for j in range(LANES):
            count, middle = s[COUNT * LANES + j], s[MIDDLE * LANES + j]
            for k in range(CHUNK):
                count += 1.0 if a[k * WIDTH + SHARE * LANES + j] <= middle else 0.0
            s[COUNT * LANES + j] = count


@exact_stage
def medians(record, rows, s):
    """Leave in ``MIDDLE`` the k-th smallest quotient of each lane, k = (size + 1) // 2.

    Bisection from where it must lie, no further from the mean than the standard deviation, and then from one
    value to the next.
    """
    for j in range(LANES):
        s[COUNT * LANES + j] = s[MIDDLE * LANES + j] = s[SPREAD * LANES + j] = 0.0
        for i in range(rows, (rows + CHUNK - 1) // CHUNK * CHUNK):
            record[i * WIDTH + SHARE * LANES + j] = np.inf
    for i in range(rows):
        a = record[i * WIDTH : (i + 1) * WIDTH]
        for j in range(LANES):
            value = a[SHARE * LANES + j]
            inside = value < np.inf
            s[MIDDLE * LANES + j] += value if inside else 0.0
            s[COUNT * LANES + j] += 1.0 if inside else 0.0
    for j in range(LANES):
        s[MIDDLE * LANES + j] = s[MIDDLE * LANES + j] / max(s[COUNT * LANES + j], 1.0)
        s[RANK * LANES + j] = math.floor((s[COUNT * LANES + j] + 1.0) * 0.5)
    for i in range(rows):
        a = record[i * WIDTH : (i + 1) * WIDTH]
        for j in range(LANES):
            value = a[SHARE * LANES + j]
            away = value - s[MIDDLE * LANES + j] if value < np.inf else 0.0
            s[SPREAD * LANES + j] += away * away
    for j in range(LANES):
        mean = s[MIDDLE * LANES + j]
        away = 1.001 * math.sqrt(s[SPREAD * LANES + j] / max(s[COUNT * LANES + j], 1.0)) + 1e-9 * abs(mean)
        s[LOW * LANES + j], s[HIGH * LANES + j] = mean - away, mean + away
    for _ in range(BISECTIONS):
        for j in range(LANES):
            s[MIDDLE * LANES + j] = 0.5 * (s[LOW * LANES + j] + s[HIGH * LANES + j])
        count(record, rows, s)
        for j in range(LANES):
            enough, middle = s[COUNT * LANES + j] >= s[RANK * LANES + j], s[MIDDLE * LANES + j]
            s[HIGH * LANES + j] = middle if enough else s[HIGH * LANES + j]
            s[LOW * LANES + j] = s[LOW * LANES + j] if enough else middle
    short = True
    while short:
        for j in range(LANES):
            s[MIDDLE * LANES + j] = np.inf
        for i in range(0, rows, CHUNK):
            a = record[i * WIDTH : (i + CHUNK) * WIDTH]
            for j in range(LANES):
                next_, low = s[MIDDLE * LANES + j], s[LOW * LANES + j]
                for k in range(CHUNK):
                    value = a[k * WIDTH + SHARE * LANES + j]
                    next_ = value if (value > low) & (value < next_) else next_
                s[MIDDLE * LANES + j] = next_
        count(record, rows, s)
        short = False
        for j in range(LANES):
            if s[COUNT * LANES + j] < s[RANK * LANES + j] and s[MIDDLE * LANES + j] < np.inf:
                s[LOW * LANES + j] = s[MIDDLE * LANES + j]
                short = True


@exact_stage
def forward(record, rows, model, state):
    """Factor ``C = R + rho Q`` of every lane, and sum the products of time, data and levels with ``C^-1``.

    Pivots are ratios of successive leading minors, which follow from each other without a division to wait
    for. The trace is the derivative of the logarithm of the determinant, see :func:`trace_of_inverse`.
    """
    for k in range(RATIO):
        for j in range(LANES):
            state[k * LANES + j] = 0.0
    for j in range(LANES):
        state[MINOR * LANES + j] = 1.0
    s = state
    for i in range(rows):
        a = record[i * WIDTH : (i + 1) * WIDTH]
        interval, read, photons = model[0, i], model[1, i] - 1.0, model[2, i]
        tied, tied_photons = (model[3, i - 1], model[4, i - 1]) if i else (0.0, 0.0)
        for j in range(LANES):
            live, ratio = a[LIVE * LANES + j], s[RATIO * LANES + j]
            both = live * s[LIVED * LANES + j]
            s[LIVED * LANES + j] = live
            cross, photon = both * tied_photons, live * photons
            link = -(both * tied + ratio * cross)
            reach = link * s[LAST * LANES + j]
            own_minor = (1.0 + live * read + ratio * photon) * s[MINOR * LANES + j]
            minor = own_minor - link * link * s[BEFORE * LANES + j]
            before = s[MINOR * LANES + j]
            inverse = before / minor
            # an infinity is as far off as a number that is too large
            wild = (minor <= TINY) | (minor >= 1.0 / TINY)
            s[BEFORE * LANES + j] = inverse if wild else before
            s[MINOR * LANES + j] = 1.0 if wild else minor
            s[LAST * LANES + j] = inverse
            change = photon + reach * (2.0 * cross + reach * s[CHANGE * LANES + j])
            s[CHANGE * LANES + j] = change
            s[TRACE * LANES + j] += change * inverse
            along = live * interval + reach * s[ALONG * LANES + j]
            own = a[DATA * LANES + j] + reach * s[OWN * LANES + j]
            level = a[LEVELS * LANES + j] + reach * s[LEVEL * LANES + j]
            s[ALONG * LANES + j], s[OWN * LANES + j], s[LEVEL * LANES + j] = along, own, level
            a[INVERSE * LANES + j] = inverse
            a[REACH * LANES + j] = reach
            a[SHARE * LANES + j] = along * inverse
            a[TILT * LANES + j] = level * inverse
            s[TIME_TIME * LANES + j] += along * along * inverse
            s[TIME_DATA * LANES + j] += along * own * inverse
            s[DATA_DATA * LANES + j] += own * own * inverse
            s[TIME_LEVEL * LANES + j] += along * level * inverse
            s[LEVEL_LEVEL * LANES + j] += level * level * inverse
            s[DATA_LEVEL * LANES + j] += own * level * inverse


@exact_stage
def backward(record, rows, model, state, levels):
    """Finish ``C^-1`` times time and levels, the latter taken out of the former; sum their Poisson noise."""
    s = state
    for j in range(LANES):
        s[LEAN * LANES + j] = (
            s[TIME_LEVEL * LANES + j] / s[LEVEL_LEVEL * LANES + j]
            if s[LEVEL_LEVEL * LANES + j] > 0.0
            else 0.0
        )
        s[ALONG * LANES + j] = s[LEVEL * LANES + j] = s[REACH_NEXT * LANES + j] = s[LIVED * LANES + j] = 0.0
        s[SHARE_NOISE * LANES + j] = s[LEVEL_NOISE * LANES + j] = 0.0
    for back in range(rows):
        i = rows - 1 - back
        a = record[i * WIDTH : (i + 1) * WIDTH]
        photons, tied_photons = model[2, i], model[4, i]
        for j in range(LANES):
            share, live = a[SHARE * LANES + j], a[LIVE * LANES + j]
            photon, cross = live * photons, 2.0 * (live * s[LIVED * LANES + j]) * tied_photons
            s[LIVED * LANES + j] = live
            if levels:
                share -= s[LEAN * LANES + j] * a[TILT * LANES + j]
            share += s[REACH_NEXT * LANES + j] * s[ALONG * LANES + j]
            s[SHARE_NOISE * LANES + j] += share * (share * photon + cross * s[ALONG * LANES + j])
            if levels:
                tilt = a[TILT * LANES + j] + s[REACH_NEXT * LANES + j] * s[LEVEL * LANES + j]
                s[LEVEL_NOISE * LANES + j] += tilt * (tilt * photon + cross * s[LEVEL * LANES + j])
                s[LEVEL * LANES + j] = tilt
            s[ALONG * LANES + j] = share
            s[REACH_NEXT * LANES + j] = a[REACH * LANES + j]
            a[SHARE * LANES + j] = share


@stage
def drift_of_rate(record, lane, n, index, span, pink, sums):
    """1/f variance of the sum of differences that makes the rate of a lane."""
    for k in range(sums.size):
        sums[k] = 0.0
    last = 0.0
    for i in range(n):
        # what reads of one span weigh together is what enters less what leaves
        weight = record[i * WIDTH + SHARE * LANES + lane] if i < n - 1 else 0.0
        sums[span[index[i]]] += last - weight
        last = weight
    total = 0.0
    for k in range(sums.size):
        along = 0.0
        for j in range(k):
            along += sums[j] * pink[k, j]
        total += sums[k] * (2.0 * along + sums[k] * pink[k, k])
    return max(total, 0.0)
