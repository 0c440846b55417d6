"""Two levels in one ramp: the most likely path between them, its refit, and what it costs.

The path is found by the Viterbi algorithm (Viterbi 1967) on two hypotheses per read, each carrying its own
Kalman estimate of level and slope, so that Poisson noise and drifts do not count as flips. Amplitude and rate
are refitted to the path by generalised least squares under the exact covariance of the differences, and the
two are alternated. A path pays for its flips with a code length (Rissanen 1978): that of a two-state Markov
chain with the transition probabilities it has itself, and half a logarithm for every parameter.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np

from .jit import ZERO, stage
from .projection import DECAY, SOLVED, UNIT, WEIGHT

#: Rows of the work array of reads, each over the reads of a ramp.
LEVEL, TIME, READ, GAIN, DRIFT_GAIN, HALF, SHAPE = range(7)
READ_ROWS = 7

#: Degrees of freedom beyond which no prior of the variance is believed.
DOF_LIMIT = 300.0

#: Degrees of freedom of the variance of pixels that do not follow the prior, and the log of their share.
NOISY_DOF, NOISY_LOG = 2.0, math.log(1e-2)

#: Evidence per difference below which no other start is tried, nor all paths summed.
HOPELESS = -0.3

#: Most rounds of path and refit from one start.
TURNS = 4

#: Prior amplitude [sigma] that sets how well the slope is known before the first path.
SLOPE_AMPLITUDE = 6.0


@stage
def gains(model, n, rho, reads):
    """Kalman gains of level and slope, equal for every path: they depend on times and noise only."""
    span = reads[TIME, n - 1]
    level, cross = 1e6, 0.0
    slope = (SLOPE_AMPLITUDE / span) ** 2
    for i in range(n):
        if i:
            dt = model[0, i - 1]
            level += dt * (2 * cross + dt * slope + rho)
            cross += dt * slope
        total = level + reads[READ, i]
        reads[GAIN, i], reads[DRIFT_GAIN, i], reads[HALF, i] = level / total, cross / total, 0.5 / total
        slope -= cross * cross / total
        cross -= cross * level / total
        level -= level * level / total


@stage
def viterbi(reads, n, amplitude, slope, model, cost, back, path):
    """Most likely path of states; ``cost`` = (stay low, go up, stay high, go down)."""
    y, gain, drift, half = reads[LEVEL], reads[GAIN], reads[DRIFT_GAIN], reads[HALF]
    stay_low, up, stay_high, down = cost
    # both hypotheses carry the low level; the one in the high state sees it through the amplitude
    low_level, high_level = y[0], y[0] - amplitude
    low_slope = high_slope = slope
    low_cost = high_cost = 0.0
    for i in range(1, n):
        dt, h = model[0, i - 1], half[i]
        low_ahead = low_level + low_slope * dt
        high_ahead = high_level + high_slope * dt
        from_low = y[i] - low_ahead
        from_high = y[i] - high_ahead
        low_to_high = from_low - amplitude
        high_to_high = from_high - amplitude
        a = low_cost + (stay_low + h * from_low * from_low)
        b = high_cost + (down + h * from_high * from_high)
        c = low_cost + (up + h * low_to_high * low_to_high)
        e = high_cost + (stay_high + h * high_to_high * high_to_high)
        fell, rose = b < a, c < e
        back[i] = (1 if fell else 0) | (2 if rose else 0)
        g, s = gain[i], drift[i]
        old_low_slope = low_slope
        low_cost = b if fell else a
        low_level = high_ahead + g * from_high if fell else low_ahead + g * from_low
        low_slope = high_slope + s * from_high if fell else low_slope + s * from_low
        high_cost = c if rose else e
        high_level = low_ahead + g * low_to_high if rose else high_ahead + g * high_to_high
        high_slope = old_low_slope + s * low_to_high if rose else high_slope + s * high_to_high
    state = 0 if low_cost <= high_cost else 1
    for i in range(n - 1, -1, -1):
        path[i] = state
        state ^= (back[i] >> state) & 1 if i else 0


@stage
def refit(path, m, total, work):
    """Regress the differences on the flips of a path beside the slope.

    Returns (amplitude, information on it, share of the slope): chi^2 falls by amplitude^2 times information,
    the slope by amplitude times share.
    """
    decay, weight, unit, solved = work[DECAY], work[WEIGHT], work[UNIT], work[SOLVED]
    carried, square, along, product = 0.0, 0.0, 0.0, 0.0
    for i in range(m):
        flip = float(path[i + 1] - path[i])
        carried = flip + (decay[i - 1] * carried if i else 0.0)
        square += carried * carried * weight[i]
        along += flip * unit[i]
        product += flip * solved[i]
    information = square - along * along / total
    if information <= 1e-9 * square or square == 0:
        return 0.0, 0.0, 0.0
    return product / information, information, along / total


@stage
def census(path, n):
    """Returns (reads in the low and high state that have a successor, flips up, flips down)."""
    low, high, ups, downs = 0, 0, 0, 0
    for i in range(n - 1):
        if path[i]:
            high += 1
            downs += 1 - path[i + 1]
        else:
            low += 1
            ups += path[i + 1]
    return low, high, ups, downs


@stage
def entropy(flips, stays):
    """Code length of a state's exits and stays with the probability they have."""
    if flips == 0 or stays == 0:
        return 0.0
    total = flips + stays
    return -flips * math.log(flips / total) - stays * math.log(stays / total)


@stage
def prices(low, high, ups, downs):
    """Costs of the four transitions, from counts that are kept away from certainty."""
    up = min(0.6, (ups + 0.5) / (low + 1.0))
    down = min(0.6, (downs + 0.5) / (high + 1.0))
    return -math.log(1 - up), -math.log(up), -math.log(1 - down), -math.log(down)


@stage
def log_sum(a, b):
    """Logarithm of the sum of two exponentials."""
    return max(a, b) + math.log1p(math.exp(-abs(a - b)))


@stage
def student(rss, m, dof):
    """Log of the Student density of ``m`` differences with ``rss`` [read variances], less a constant."""
    return (
        math.lgamma(0.5 * (m + dof))
        - math.lgamma(0.5 * dof)
        + 0.5 * dof * math.log(dof)
        - 0.5 * (m + dof) * math.log(max(rss, 0.0) + dof)
    )


@stage
def likelihood(rss, m, dof):
    """Log-likelihood of ``m`` differences that leave ``rss`` [read variances] behind.

    The variance is the prior one within its uncertainty or, with a small probability, that of a pixel which
    is far noisier than its neighbours.
    """
    known = student(rss, m, min(max(dof, NOISY_DOF), DOF_LIMIT))
    noisy = student(rss, m, NOISY_DOF) + NOISY_LOG
    return log_sum(known, noisy)


@stage
def search(reads, model, m, total, work, slope, rss, dof, starts, known, back, path, best):
    """Alternate path and refit from each start; ``best`` is the best path; returns its evidence and fit.

    Where ``known``, ``path`` holds one to begin with, before the amplitudes of ``starts``.
    """
    n = m + 1
    base = likelihood(rss, m, dof)
    found, found_at = (-np.inf, 0.0, 0.0, 0.0), ZERO
    enough = m + 1.5 * math.sqrt(2.0 * m)
    for k in range(len(starts) + 1):
        given = k == 0
        if (given and not known) or rss - found[1] * found[1] * found[2] < enough:
            continue
        if -np.inf < found[0] < HOPELESS * m:
            break
        amplitude, b, last = starts[max(k - 1, 0)], slope, -1.0
        cost = (0.1, 2.4, 0.1, 2.4)
        for turn in range(TURNS):
            if turn or not given:
                viterbi(reads, n, amplitude, b, model, cost, back, path)
            amplitude, information, share = refit(path, m, total, work)
            gain = amplitude * amplitude * information
            if abs(gain - last) < 1e-3 * gain or gain == 0:
                break
            if abs(amplitude) == found[1] and information == found[2] and found_at <= turn:
                break  # the best path so far, followed as far before
            last = gain
            if amplitude < 0:
                for i in range(n):
                    path[i] = 1 - path[i]
                amplitude, share = -amplitude, -share
            low, high, ups, downs = census(path, n)
            code = entropy(ups, low - ups) + entropy(downs, high - downs) + 1.5 * math.log(m) + math.log(2.0)
            evidence = likelihood(rss - gain, m, dof) - base - code
            if evidence > found[0]:
                found, found_at = (evidence, amplitude, information, share), turn
                for i in range(n):
                    best[i] = path[i]
            if amplitude < 0.5:
                break
            b = slope - amplitude * share
            cost = prices(low, high, ups, downs)
    return found


@stage
def quiet(m):
    """Chi^2 of ``m`` differences below which no path of three flips could pay for itself."""
    half = 0.5 * m
    code = entropy(ZERO + 2, half) + entropy(ZERO + 1, half) + 1.5 * math.log(m) + math.log(2.0)
    return m + 2 * code - 2 * math.sqrt(2.0 * m)
