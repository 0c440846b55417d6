"""What bends a ramp without a step: curvature, decaying currents, and kinks where a neighbour fills up.

Bright ramps fall short of a straight line as the well fills (non-linearity), charge trapped by an earlier
exposure comes out as a decaying current (persistence), and the share of its signal that a pixel gives to its
neighbours (inter-pixel capacitance) stops growing when it saturates. A detector that knows steps only builds
staircases on all of them. Each is one regressor here, chosen by matching pursuit (Mallat and Zhang 1993)
beside the steps.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

from .covariance import solve
from .jit import stage
from .projection import (
    ALONG,
    DECAY,
    DIAGONAL,
    LINK,
    SOLVED,
    UNIT,
    WEIGHT,
    copy,
    take,
)

#: Kinds of regressors.
STEP, KINK, SHAPE = range(3)

#: Shapes of the rate: linear and quadratic in time, then decays of 2, 5, 12.5, ... mean intervals.
LINEAR, QUADRATIC, FIRST_DECAY = range(3)
FIRST_LASTING, LASTING_RATIO, SHAPES = 2.0, 2.5, 9

#: Halvings of the interval in which a decay time is tuned.
REFINEMENTS = 4

#: Differences that a kink leaves on either side: nearer to the ends it is a step.
KINK_MARGIN = 4

#: Curvature and kinks are shares of the signal: they need a ramp that rises by so many sigma.
BRIGHT = 30.0

#: Chi^2 that a term must gain over a step when it makes the rate rise; in nature rates fall.
RISING_PRICE = 12.0

#: Chi^2 by which a step must beat a falling rate: what is nearly as well explained by one mostly is one.
FALLING_CREDIT = 2.0

#: Share of its information below which a term is taken as already explained.
EXPLAINED = 1e-5


@stage
def decay_shape(dt, m, lasting, out):
    """Fill ``out`` with a current that decays within ``lasting``, free of a mean rate."""
    before, span, last, factor = 1.0, 0.0, -1.0, 1.0
    for i in range(m):
        if dt[i] != last:
            last, factor = dt[i], math.exp(-dt[i] / lasting)
        left = before * factor
        out[i] = before - left
        before = left
        span += dt[i]
    total = 1.0 - before
    for i in range(m):
        out[i] -= total / span * dt[i]


@stage
def make_shapes(dt, m, shapes):
    """Fill ``shapes`` with rates times intervals, free of a mean rate; returns their number."""
    span = 0.0
    for i in range(m):
        span += dt[i]
    time, square = 0.0, 0.0
    for i in range(m):
        middle = 2 * (time + 0.5 * dt[i]) / span - 1
        time += dt[i]
        shapes[LINEAR, i] = middle * dt[i]
        shapes[QUADRATIC, i] = middle * middle * dt[i]
        square += shapes[QUADRATIC, i]
    for i in range(m):
        shapes[QUADRATIC, i] -= square / span * dt[i]
    count = FIRST_DECAY
    while count < SHAPES and lasting_of(count) < 0.6 * span:
        decay_shape(dt, m, lasting_of(count), shapes[count])
        count += 1
    return count


@stage
def lasting_of(shape):
    """Decay time of a shape [mean interval]."""
    return FIRST_LASTING * LASTING_RATIO ** (shape - FIRST_DECAY)


@stage
def products(w, dt, m, shapes, count, with_shapes, with_kinks):
    """Products of ``w`` with every shape, and with a rate that starts at each difference."""
    for s in range(count):
        value = 0.0
        for i in range(m):
            value += shapes[s, i] * w[i]
        with_shapes[s] = value
    value = 0.0
    for i in range(m - 1, -1, -1):
        value += w[i] * dt[i]
        with_kinks[i] = value


@stage
def informations(dt, m, total, work, shapes, count, scratch, of_shapes, of_kinks):
    """Information on every shape and kink with the slope projected out, O(N) each."""
    unit, decay = work[UNIT], work[DECAY]
    for s in range(count):
        square = solve(shapes[s], m, work[WEIGHT], work[LINK], scratch)
        along = 0.0
        for i in range(m):
            along += unit[i] * shapes[s, i]
        of_shapes[s] = max(square - along * along / total, 0.0)
    square, beyond, along, diagonal = 0.0, 0.0, 0.0, 0.0
    for k in range(m - 1, -1, -1):
        if k < m - 1:  # sum over j > k of [C^-1]_kj dt_j
            beyond = decay[k] * (diagonal * dt[k + 1] + beyond)
        diagonal = work[DIAGONAL, k]
        square += dt[k] * (dt[k] * diagonal + 2 * beyond)
        along += unit[k] * dt[k]
        of_kinks[k] = max(square - along * along / total, 0.0)


@stage
def best_smooth(m, bright, count, moment_shape, moment_kink, free_shape, free_kink, whole_shape, whole_kink):
    """Smooth term that explains most beyond its price: (kind, which, fall of chi^2, price)."""
    kind, which, best, paid = -1, -1, 0.0, 0.0
    for s in range(0 if bright else FIRST_DECAY, count):
        if free_shape[s] <= EXPLAINED * whole_shape[s]:
            continue
        gain = moment_shape[s] * moment_shape[s] / free_shape[s]
        falls = moment_shape[s] > 0 if s >= FIRST_DECAY else s == LINEAR and moment_shape[s] < 0
        price = -FALLING_CREDIT if falls else RISING_PRICE
        if gain - price > best - paid:
            kind, which, best, paid = SHAPE, s, gain, price
    if bright:
        for k in range(KINK_MARGIN, m - KINK_MARGIN + 1):
            if free_kink[k] <= EXPLAINED * whole_kink[k]:
                continue
            gain = moment_kink[k] * moment_kink[k] / free_kink[k]
            price = -FALLING_CREDIT if moment_kink[k] < 0 else RISING_PRICE
            if gain - price > best - paid:
                kind, which, best, paid = KINK, k, gain, price
    return kind, which, best, paid


@stage
def refined(which, into, count, dt, m, total, work, shapes, scratch, basis, cross):
    """Tune the decay time of a chosen shape to the data; puts the tuned one in row ``into`` of ``shapes``."""
    unit, solved, g = work[UNIT], work[SOLVED], shapes[into]
    centre, best, best_at, factor = lasting_of(which), 0.0, lasting_of(which), math.sqrt(LASTING_RATIO)
    for turn in range(2 * REFINEMENTS + 1):
        trial = centre * (1.0 if turn == 0 else factor if turn % 2 else 1 / factor)
        decay_shape(dt, m, trial, g)
        information = solve(g, m, work[WEIGHT], work[LINK], scratch)
        along, moment = 0.0, 0.0
        for i in range(m):
            along += unit[i] * g[i]
            moment += g[i] * solved[i]
        whole = information - along * along / total
        information = whole
        for i in range(count):
            value = 0.0
            for j in range(m):
                value += g[j] * basis[i, j]
            information -= value * value / cross[i, i]
        if information > EXPLAINED * whole and moment * moment > best * information:
            best, best_at = moment * moment / information, trial
        if turn and turn % 2 == 0:
            centre, factor = best_at, math.sqrt(factor)
    decay_shape(dt, m, best_at, g)


@stage
def add_smooth(kind, which, count, dt, m, total, work, shapes, scratch, basis, cross, terms):
    """Take a smooth term into the model as regressor ``count``; returns by how much chi^2 falls."""
    g, w, unit = scratch, basis[count], work[UNIT]
    if kind == SHAPE:
        copy(shapes[which], m, g)
    else:
        span, after = 0.0, 0.0
        for i in range(m):
            span += dt[i]
            after += dt[i] if i >= which else 0.0
        for i in range(m):
            g[i] = dt[i] * ((1.0 if i >= which else 0.0) - after / span)
    square = solve(g, m, work[WEIGHT], work[LINK], w)
    along, moment = 0.0, 0.0
    for i in range(m):
        along += unit[i] * g[i]
        moment += g[i] * work[SOLVED, i]
    for i in range(m):
        w[i] -= along / total * unit[i]
    for i in range(count):
        value = 0.0
        for j in range(m):
            value += g[j] * basis[i, j]
        cross[i, count] = value
    terms[ALONG, count] = along
    return take(count, moment, square - along * along / total, m, work, basis, cross, terms)


@stage
def shrink(count, dt, m, cross, basis, shapes, shape_count, scratch, scratch_kink, free_shape, free_kink):
    """Take what regressor ``count`` explains off the information on every smooth term."""
    products(basis[count], dt, m, shapes, shape_count, scratch, scratch_kink)
    inverse = 1.0 / cross[count, count]
    for s in range(shape_count):
        free_shape[s] -= scratch[s] * scratch[s] * inverse
    for i in range(m):
        free_kink[i] -= scratch_kink[i] * scratch_kink[i] * inverse
