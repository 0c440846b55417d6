"""What telegraph noise has to beat: positive steps, one bad read, a decaying current."""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np

from .jit import stage
from .projection import (
    AMPLITUDE,
    DECAY,
    DEGENERATE,
    DIAGONAL,
    DIFFERENCE,
    FREE,
    SOLVED,
    UNIT,
    WEIGHT,
    add,
    joint,
    restart,
)
from .twolevel import LEVEL, TIME

#: Decay times of a fading current, in units of the length of the ramp; the best is refined.
DECAYS = (0.03, 0.1, 0.3, 1.0)

#: Log-likelihood gain from which a decaying current is taken out before flips are looked for.
FADING_EVIDENCE = 8.0


@stage
def positive_steps(chosen, m, total, work, basis, cross, terms, where, inverse):
    """Fit steps and a rate none of which may be negative; returns (chi^2, steps kept)."""
    count, amplitude = 0, terms[AMPLITUDE]
    for k in chosen:
        where[count] = k
        count += 1
    free_rate = True
    while True:
        norm = total if free_rate else np.inf
        slope, rss = restart(m, norm, work)
        for i in range(count):
            rss -= add(where[i], i, m, norm, work, basis, cross, terms, where)
        change, _ = joint(count, norm, cross, inverse, terms)
        if free_rate and slope + change < 0:
            free_rate = False
            continue
        worst = -1
        for i in range(count):
            if amplitude[i] < 0 and (worst < 0 or amplitude[i] < amplitude[worst]):
                worst = i
        if worst < 0:
            return rss, count
        for i in range(worst, count - 1):
            where[i] = where[i + 1]
        count -= 1


@stage
def outlier(m, total, work):
    """Largest fall of chi^2 by one bad read."""
    decay, diagonal, unit = work[DECAY], work[DIAGONAL], work[UNIT]
    solved, free, best = work[SOLVED], work[FREE], 0.0
    for i in range(m - 1):
        shared = diagonal[i + 1] * decay[i] - unit[i] * unit[i + 1] / total
        information = free[i] + free[i + 1] - 2 * shared
        change = solved[i] - solved[i + 1]
        if information > DEGENERATE * diagonal[i]:
            best = max(best, change * change / information)
    return best


@stage
def fade(lasting, reads, m, total, work):
    """Fit a current that decays within ``lasting`` on top of the slope; returns (fall of chi^2, size)."""
    decay, weight, unit, solved, time = work[DECAY], work[WEIGHT], work[UNIT], work[SOLVED], reads[TIME]
    carried, square, along, product = 0.0, 0.0, 0.0, 0.0
    left, factor, last_dt = 1.0, 1.0, -1.0
    for i in range(m):
        dt = time[i + 1] - time[i]
        if dt != last_dt:
            factor, last_dt = math.exp(-dt / lasting), dt
        rise = left - left * factor
        left -= rise
        carried = rise + (decay[i - 1] * carried if i else 0.0)
        square += carried * carried * weight[i]
        along += rise * unit[i]
        product += rise * solved[i]
    information = square - along * along / total
    if information <= 1e-6 * square:
        return 0.0, 0.0
    return product * product / information, product / information


@stage
def fading(reads, m, total, work):
    """Decaying current that explains most: returns (fall of chi^2, size, decay time)."""
    best = (0.0, 0.0, 1.0)
    for share in DECAYS:
        lasting = share * reads[TIME, m]
        gain, size = fade(lasting, reads, m, total, work)
        if gain > best[0]:
            best = (gain, size, lasting)
    factor = 1.8
    while best[0] > 2 * FADING_EVIDENCE and factor > 1.01:
        centre = best[2]
        for lasting in (centre / factor, centre * factor):
            gain, size = fade(lasting, reads, m, total, work)
            if gain > best[0]:
                best = (gain, size, lasting)
        factor = math.sqrt(factor)
    return best


@stage
def remove_fading(reads, n, size, lasting, work):
    """Take a decaying current out of the ramp."""
    before = 0.0
    for i in range(1, n):
        risen = size * (1.0 - math.exp(-reads[TIME, i] / lasting))
        work[DIFFERENCE, i - 1] -= risen - before
        reads[LEVEL, i] -= risen
        before = risen
