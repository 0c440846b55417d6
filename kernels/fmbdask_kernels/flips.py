"""What the steps of a ramp say of its flips: which are hits, and the path that the others make."""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np

from .jit import stage
from .projection import DIFFERENCE, differences, restart
from .twolevel import LEVEL, READ, TIME, likelihood, quiet, search

#: A positive step is a hit, not a flip, when it exceeds this many sigma and this many times any flip.
#: More of them than this are a staircase laid over a curve, and stay in the ramp.
HIT_SIGMA, HIT_RATIO, MOST_HITS = 8.0, 1.8, 3

#: Log-likelihood that a rise among other rises must bring as a hit, beyond its price, not to count as a flip.
CERTAIN_HIT = 3.0

#: Amplitudes [sigma] the search starts from, besides the path of the steps found.
STARTS = (3.0, 6.0)


@stage
def dwarfing(amplitude, steps, sigma, rss, n):
    """Bits of the positive steps that dwarf all flips: hits, if the flips were resolved into steps."""
    deepest = 0.0
    for i in range(steps):
        deepest = max(deepest, -amplitude[i])
    # what was not resolved shows in what is left over: two levels differ by two deviations
    left = 2 * math.sqrt(rss / (n - 1))
    limit = max(HIT_SIGMA * sigma, HIT_RATIO * max(deepest, left))
    hits, large = 0, 0
    for i in range(steps):
        if amplitude[i] > limit:
            hits |= 1 << i
            large += 1
    return hits if large <= MOST_HITS else 0


@stage
def crowded(amplitude, steps, hits):
    """Bits of the rises, hits left out, that follow a rise or are followed by one; 0 where nothing falls."""
    bits, last, falls = 0, -1, False
    for i in range(steps):
        if (hits >> i) & 1:
            continue
        falls |= amplitude[i] < 0
        if amplitude[i] > 0 and last >= 0 and amplitude[last] > 0:
            bits |= (1 << i) | (1 << last)
        last = i
    return bits if falls else 0


@stage
def prepare(ramp, used, index, sigma, pattern, frame, amplitude, steps, hits, work, reads):
    """Put a ramp without its hits in units of sigma; returns how many hits these are.

    A hit stays in the ramp for ever and dwarfs the flips; taking it out leaves them as they were.
    """
    d, y, time = work[DIFFERENCE], reads[LEVEL], reads[TIME]
    n = differences(ramp, used, index, d)
    k, taken = 0, 0
    for i in range(steps):
        if (hits >> i) & 1:
            while k < n - 2 and index[k + 1] < frame[i]:
                k += 1
            d[k] -= amplitude[i]
            taken += 1
    inverse = 1.0 / sigma
    y[0] = time[0] = 0.0
    reads[READ, 0] = pattern[2, index[0]]
    for i in range(n - 1):
        d[i] *= inverse
        y[i + 1] = y[i] + d[i]
        time[i + 1] = pattern[0, index[i + 1]] - pattern[0, index[0]]
        reads[READ, i + 1] = pattern[2, index[i + 1]]
    return taken


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
def worth(
    ramp, used, index, n, sigma, pattern, frame, amplitude, steps, hits, model, total, dof, work, reads,
    back, path, best,
):  # fmt: skip
    """Log-likelihood of a ramp with ``hits`` and two levels, or one where a second does not pay."""
    m = n - 1
    taken = prepare(ramp, used, index, sigma, pattern, frame, amplitude, steps, hits, work, reads)
    slope, rss = restart(m, total, work)
    value = likelihood(rss, m, dof) - 1.5 * taken * math.log(m)
    if rss < quiet(m):
        return value
    known = alternating(index, n, frame, amplitude, steps, hits, path) > 1
    fit = search(reads, model, m, total, work, slope, rss, dof, STARTS, known, back, path, best)
    return value + max(fit[0], 0.0)


@stage
def choose_hits(
    ramp, used, index, n, sigma, pattern, frame, amplitude, steps, rss, model, total, dof, work, reads,
    back, path, best,
):  # fmt: skip
    """Which steps are hits and no flips: bits of all of them, and of those chosen because flips alternate."""
    hits, sure, value = dwarfing(amplitude, steps, sigma, rss, n), 0, -np.inf
    if hits:
        # they may be flips of a pixel whose others were not resolved into steps
        value = worth(
            ramp, used, index, n, sigma, pattern, frame, amplitude, steps, hits, model, total, dof, work,
            reads, back, path, best,
        )  # fmt: skip
        without = worth(
            ramp, used, index, n, sigma, pattern, frame, amplitude, steps, 0, model, total, dof, work,
            reads, back, path, best,
        )  # fmt: skip
        if without > value:
            hits, value = 0, without
    for _ in range(MOST_HITS):
        others = crowded(amplitude, steps, hits)
        if others == 0:
            break
        if value == -np.inf:
            value = worth(
                ramp, used, index, n, sigma, pattern, frame, amplitude, steps, hits, model, total, dof,
                work, reads, back, path, best,
            )  # fmt: skip
        one, most = 0, value + CERTAIN_HIT
        for i in range(steps):
            if (others >> i) & 1:
                trial = worth(
                    ramp, used, index, n, sigma, pattern, frame, amplitude, steps, hits | (1 << i), model,
                    total, dof, work, reads, back, path, best,
                )  # fmt: skip
                if trial > most:
                    one, most = 1 << i, trial
        if one == 0:
            break
        hits, sure, value = hits | one, sure | one, most
    return hits, sure
