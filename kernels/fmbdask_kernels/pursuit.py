"""The pursuit of one ramp: what explains most is taken next, be it a step or something smooth."""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

from .jit import ZERO, stage
from .projection import SOLVED, add, copy, gaussian, joint, moderated, strongest, tables
from .smooth import (
    BRIGHT,
    FIRST_DECAY,
    SHAPE,
    SHAPES,
    STEP,
    add_smooth,
    best_smooth,
    informations,
    make_shapes,
    products,
    refined,
    shrink,
)

#: Steps that may be added below the threshold before one passes: two large hits hide each other's variance.
LOOK_AHEAD = 2

#: Smooth terms are looked at from this share of the threshold's chi^2 on.
WORTH_BENDING = 0.3


#: Ratios of variances are rounded to a grid, floor times this to the power of the bin, whose tables are kept.
#: Half a bin off costs at most 0.25 % of significance.
RHO_RATIO, RHO_BINS = 1.5, 35

#: Rows of the tables of a bin: those of :func:`.projection.tables`, then the information on shapes and kinks.
KEPT = 6
KEPT_ROWS = KEPT + 2

#: Rows of the array of smooth terms: scratch, moments and information of shapes (S) and of kinks (K).
SCRATCH, SCRATCH_K, MOMENT_S, MOMENT_K, FREE_S, FREE_K, WHOLE_S, WHOLE_K = range(8)
SMOOTH_ROWS = 8


@stage
def bin_of(rho, floor):
    """Bin of a ratio of variances."""
    if rho <= floor:
        return 0
    return min(int(math.log(rho / floor) / math.log(RHO_RATIO) + 0.5), RHO_BINS - 1)


@stage
def load(at, m, rho, model, work, kept, totals):
    """Put the tables of bin ``at`` in place, computing them at first use; returns ``dt' C^-1 dt``."""
    if totals[0, at] > 0:
        for row in range(KEPT):
            copy(kept[at, row], m, work[row])
    else:
        totals[0, at] = tables(model, m, rho, work)
        for row in range(KEPT):
            copy(work[row], m, kept[at, row])
    return totals[0, at]


@stage
def load_smooth(at, m, dt, total, work, smooth, shapes, kept, totals):
    """Put the information on every smooth term in place, computed at first use; returns how many shapes."""
    if totals[2, 0] == 0:
        totals[2, 0] = make_shapes(dt, m, shapes)
    shape_count = int(totals[2, 0])
    if totals[1, at] == 0:
        informations(
            dt, m, total, work, shapes, shape_count, smooth[SCRATCH], kept[at, KEPT], kept[at, KEPT + 1]
        )
        totals[1, at] = 1.0
    for row in range(2):
        size = m if row else shape_count
        copy(kept[at, KEPT + row], size, smooth[WHOLE_S + row])
        copy(kept[at, KEPT + row], size, smooth[FREE_S + row])
    return shape_count


@stage
def extend(kind, which, count, dt, m, total, work, smooth, shapes, basis, cross, terms, where, kinds):
    """Take a step or a smooth term into the model; returns by how much chi^2 falls."""
    kinds[count], where[count] = kind, which
    if kind == STEP:
        return add(which, count, m, total, work, basis, cross, terms, where)
    return add_smooth(kind, which, count, dt, m, total, work, shapes, smooth[SCRATCH], basis, cross, terms)


@stage
def forward(
    m, total, slope, rss, variance, dof, threshold, most_smooth, dt, at, work, smooth, shapes,
    kept_tables, totals, basis, cross, terms, where, kinds, inverse,
):  # fmt: skip
    """Add steps and smooth terms while one passes the threshold, looking a little ahead.

    Returns (number of terms, chi^2, whether ``work`` holds what these leave over). What explains most is
    taken, smooth or not.
    """
    count, kept, kept_rss, limit, smooths = ZERO, 0, rss, basis.shape[0], 0
    span = 0.0
    for i in range(m):
        span += dt[i]
    # regressors whose share of the smooth terms is known; -1 before anything is
    shape_count, followed = ZERO, ZERO - 1
    while count - smooths < limit - most_smooth and count - kept <= LOOK_AHEAD:
        free = m - 2 - count
        if free < 1:  # with nothing left over, every place explains the ramp equally well
            break
        which, gain = strongest(m, work)
        kind = STEP
        if smooths < most_smooth and gain > threshold * threshold * variance * WORTH_BENDING:
            if followed < 0:
                shape_count = load_smooth(at, m, dt, total, work, smooth, shapes, kept_tables, totals)
                followed = 0
            while followed < count:
                shrink(
                    followed, dt, m, cross, basis, shapes, shape_count, smooth[SCRATCH], smooth[SCRATCH_K],
                    smooth[FREE_S], smooth[FREE_K],
                )  # fmt: skip
                followed += 1
            change, _ = joint(count, total, cross, inverse, terms)
            bright = (slope + change) * span > BRIGHT * math.sqrt(variance)
            products(work[SOLVED], dt, m, shapes, shape_count, smooth[MOMENT_S], smooth[MOMENT_K])
            other, term, more, price = best_smooth(
                m, bright, shape_count, smooth[MOMENT_S], smooth[MOMENT_K], smooth[FREE_S], smooth[FREE_K],
                smooth[WHOLE_S], smooth[WHOLE_K],
            )  # fmt: skip
            if more - price * variance > gain:
                kind, which, gain = other, term, more
                if kind == SHAPE and which >= FIRST_DECAY:
                    which = SHAPES + smooths
                    refined(term, which, count, dt, m, total, work, shapes, smooth[SCRATCH], basis, cross)
        scatter = moderated(rss - gain, free, variance, dof)
        if which < 0 or scatter <= 0:
            break
        passed = gaussian(math.sqrt(gain / scatter), free + dof) >= threshold
        if not passed and (gain < threshold * threshold * variance or count - kept == LOOK_AHEAD):
            break
        rss -= extend(
            kind, which, count, dt, m, total, work, smooth, shapes, basis, cross, terms, where, kinds
        )
        count += 1
        smooths += kind != STEP
        if passed:
            kept, kept_rss = count, rss
    return kept, kept_rss, count == kept
