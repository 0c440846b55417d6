"""What the steps of a ramp say of its flips: which are hits, and the path that the others make."""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np

from .jit import stage
from .projection import DIFFERENCE, restart
from .twolevel import LEVEL, READ, TIME, likelihood, quiet, search

#: A positive step is a hit, not a flip, when it exceeds this many sigma and this many times any flip.
#: More of them than this are a staircase laid over a curve, and stay in the ramp.
HIT_SIGMA, HIT_RATIO, MOST_HITS = 8.0, 1.8, 3

#: Amplitudes [sigma] the search starts from, besides the path of the steps found.
STARTS = (3.0, 6.0)


@stage
def prepare(index, n, sigma, pattern, frame, amplitude, steps, rss, most, work, reads):
    """Put a ramp without its hits, of which there are ``most``, in units of sigma.

    Returns the bits of the steps that are hits, and their number. A hit stays in the ramp for ever and dwarfs
    the flips; taking it out leaves them as they were.
    """
    d, y, time = work[DIFFERENCE], reads[LEVEL], reads[TIME]
    deepest = 0.0
    for i in range(steps):
        deepest = max(deepest, -amplitude[i])
    # flips that were not resolved into steps show in what is left over: two levels differ by two deviations
    left = 2 * math.sqrt(rss / (n - 1))
    limit = max(HIT_SIGMA * sigma, HIT_RATIO * max(deepest, left))
    large = 0
    for i in range(steps):
        large += amplitude[i] > limit
    if large > most:
        limit = np.inf
    k, hits, taken = 0, 0, 0
    for i in range(steps):
        if amplitude[i] > limit:
            while k < n - 2 and index[k + 1] < frame[i]:
                k += 1
            d[k] -= amplitude[i]
            hits |= 1 << i
            taken += 1
    inverse = 1.0 / sigma
    y[0] = time[0] = 0.0
    reads[READ, 0] = pattern[2, index[0]]
    for i in range(n - 1):
        d[i] *= inverse
        y[i + 1] = y[i] + d[i]
        time[i + 1] = pattern[0, index[i + 1]] - pattern[0, index[0]]
        reads[READ, i + 1] = pattern[2, index[i + 1]]
    return hits, taken


@stage
def alternating(index, n, frame, amplitude, steps, hits, path):
    """Path that is high after each rise and low after each fall of the steps that are no hits.

    Returns its flips, 0 where the steps have no fall.
    """
    flips, falls, at, state = 0, False, 0, 0
    for i in range(steps):
        if (hits >> i) & 1:
            continue
        after = 1 if amplitude[i] > 0 else 0
        falls |= after == 0
        if flips == 0:
            state = 1 - after
        while at < n and index[at] < frame[i]:
            path[at] = state
            at += 1
        flips += after != state
        state = after
    while at < n:
        path[at] = state
        at += 1
    return flips if falls else 0


@stage
def worth(reads, model, index, n, total, work, dof, frame, amplitude, steps, hits, back, path, best):
    """Log-likelihood of a ramp with two levels, or with one where a second does not pay."""
    m = n - 1
    slope, rss = restart(m, total, work)
    base = likelihood(rss, m, dof)
    if rss < quiet(m):
        return base
    known = alternating(index, n, frame, amplitude, steps, hits, path) > 1
    fit = search(reads, model, m, total, work, slope, rss, dof, STARTS, known, back, path, best)
    return base + max(fit[0], 0.0)
