"""The likelihood of two levels summed over all paths, where the best path leaves the matter open.

A short or faint flip is never certain in time, so a path that names its frame pays too much for it. A filter
whose two states share one level after each read (Ackerson and Fu 1970) sums over all of them instead.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np

from .jit import stage
from .twolevel import DOF_LIMIT, LEVEL, NOISY_DOF, NOISY_LOG, READ, TIME, census, log_sum


@stage
def steady(reads, n, rho, floor, scale):
    """Returns gain of the filter, half the inverse of its variance, and the reads that its level starts with.

    Poisson noise does not grow with the read noise of a noisy pixel.
    """
    read = 0.0
    for i in range(n):
        read += reads[READ, i] / n
    drift = max(rho / scale, floor)
    spread = 0.5 * (drift + math.sqrt(drift * drift + 4 * drift * read))
    gain = spread / (spread + read)
    return gain, 0.5 / (spread + read), min(n, int(1.5 / gain) + 1)


@stage
def filtered_flat(reads, n, slope, rho, floor, scale):
    """:func:`filtered` for one level."""
    y, time = reads[LEVEL], reads[TIME]
    gain, half, window = steady(reads, n, rho, floor, scale)
    level = 0.0
    for i in range(window):
        level += (y[i] - slope * time[i]) / window
    squares, before = 0.0, 0.0
    for i in range(n):
        level += slope * (time[i] - before)
        before = time[i]
        away = y[i] - level
        squares += 2 * half * away * away
        level += gain * away
    return 0.5 * n * math.log(2 * half) - 0.5 * squares / scale, squares


@stage
def filtered(reads, n, path, amplitude, slope, rho, floor, up, down, scale):
    """Likelihood of two levels summed over all paths, by a filter whose states share one level.

    The level starts where ``path`` has it and is followed with a steady gain. Returns the log-likelihood of
    the reads for read noise of ``scale`` variances, less the constants that all models share, and the
    expected sum of squares [read variances].
    """
    y, time = reads[LEVEL], reads[TIME]
    gain, half, window = steady(reads, n, rho, floor, scale)
    level = 0.0
    for i in range(window):
        level += (y[i] - amplitude * path[i] - slope * time[i]) / window
    total, product, squares, before = 0.5 * n * math.log(2 * half), 1.0, 0.0, 0.0
    high = 0.5
    for i in range(n):
        level += slope * (time[i] - before)
        before = time[i]
        from_low = y[i] - level
        from_high = from_low - amplitude
        low_square, high_square = 2 * half * from_low * from_low, 2 * half * from_high * from_high
        odds = 0.5 * (low_square - high_square) / scale
        less = math.exp(-abs(odds))
        if odds > 0:
            factor = high + (1 - high) * less
            posterior = high / factor
            total -= 0.5 * high_square / scale
        else:
            factor = high * less + (1 - high)
            posterior = high * less / factor
            total -= 0.5 * low_square / scale
        product *= factor
        if i % 8 == 7:
            total += math.log(product)
            product = 1.0
        squares += low_square + posterior * (high_square - low_square)
        level += gain * (from_low - posterior * amplitude)
        high = posterior * (1 - down) + (1 - posterior) * up
    return total + math.log(product), squares


@stage
def weigh(total, m, scale, weight):
    """Log posterior of a variance of ``scale`` with a prior of ``weight`` degrees of freedom, integrated."""
    return (
        total
        - 0.5 * (m + weight) * math.log(scale)
        - 0.5 * weight / scale
        + 0.5 * weight * math.log(0.5 * weight)
        - math.lgamma(0.5 * weight)
        + 0.5 * math.log(4 * math.pi / (m + weight))
    )


@stage
def evidence_of_all_paths(reads, n, path, fit, slope, rss, rho, floor, dof):
    """Evidence of two levels with the sum over all paths in place of the best one and its code length.

    What a short or faint flip loses by being uncertain in time, it wins back here; amplitude and transition
    probabilities stay those of the best path.
    """
    m = n - 1
    _, amplitude, information, share = fit
    gain = amplitude * amplitude * information
    low, high, ups, downs = census(path, n)
    up, down = min(0.6, (ups + 0.5) / (low + 1.0)), min(0.6, (downs + 0.5) / (high + 1.0))
    tight = min(max(dof, NOISY_DOF), DOF_LIMIT)
    b = slope - amplitude * share
    one = two = -np.inf
    for weight, log_share in ((tight, 0.0), (NOISY_DOF, NOISY_LOG)):
        scale = (rss + weight) / (m + weight)
        _, squares = filtered_flat(reads, n, slope, rho, floor, scale)
        scale = (squares + weight) / (m + weight)
        total, squares = filtered_flat(reads, n, slope, rho, floor, scale)
        one = log_sum(one, weigh(total, m, scale, weight) + log_share)
        scale = (rss - gain + weight) / (m + weight)
        _, squares = filtered(reads, n, path, amplitude, b, rho, floor, up, down, scale)
        scale = (squares + weight) / (m + weight)
        total, squares = filtered(reads, n, path, amplitude, b, rho, floor, up, down, scale)
        two = log_sum(two, weigh(total, m, scale, weight) + log_share)
    return two - one - 1.5 * math.log(m)
