"""Ramps whose steps are known: amplitude and rate with steps held at given frames, whatever their size.

The step detector decides where steps are; here that is known from elsewhere, as in the halo of a snowball,
where every pixel jumps in the same frame although most jumps are too faint to be found alone. The algebra is
that of :mod:`fmbdask_kernels.projection`, without a selection: the estimate has no bias towards large steps.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .covariance import timing
from .jit import ZERO, kernel, stage
from .projection import (
    ALONG,
    AMPLITUDE,
    DECAY,
    DEGENERATE,
    DIAGONAL,
    DIFFERENCE,
    FREE,
    SPREAD,
    TERM_ROWS,
    UNIT,
    WEIGHT,
    WORK_ROWS,
    add,
    column,
    differences,
    joint,
    moderated,
    recall,
    restart,
)
from .pursuit import KEPT_ROWS, RHO_BINS, RHO_RATIO, bin_of, load
from .steps import spread_over

Float = NDArray[np.float32]

#: Passes in which rho follows the rate.
ROUNDS = 3


class Held(NamedTuple):
    """What :func:`held_steps` gives, each (K,).

    ``amplitude`` of the step asked for and its ``error`` [DN]; ``rate`` and ``rate_error`` [DN per mean
    interval]; ``lean``, by how much the rate changes when the amplitude is held one DN larger.
    """

    amplitude: Float
    error: Float
    rate: Float
    rate_error: Float
    lean: Float


@stage
def between(index, n, frame):
    """Number of the difference that holds the step to ``frame``; -1 where no read lies on one side."""
    for i in range(n - 1):
        if index[i] < frame <= index[i + 1]:
            return i
    return ZERO - 1


@stage
def lean(count, total, cross, inverse, terms):
    """Covariance of slope and first amplitude over the variance of the latter, after :func:`joint`."""
    covariance = 0.0
    for k in range(count):
        entry = 0.0
        for i in range(k + 1):
            entry -= terms[ALONG, i] / total * inverse[i, k]
        covariance += entry * inverse[0, k] / cross[k, k]
    return covariance / terms[SPREAD, 0]


@stage
def _alone(k, m, rho_floor, variance, poisson, d, model, work, kept, totals, steps, result):
    """Fit one step, at difference ``k``, and the slope; returns chi^2, -1 where they cannot be told apart.

    Both are sums over the differences with weights that depend on ``rho`` alone: those of a bin are kept in
    ``steps`` (bins, M), negative at ``k`` before they are known, and chi^2 is needed only in the end. Fills
    ``result``: amplitude, its variance, slope, its variance, and its lean on the amplitude.
    """
    at = 0
    for turn in range(ROUNDS):
        if steps[at, k] < 0.0:
            total = load(at, m, rho_floor * RHO_RATIO**at, model, work, kept, totals)
            column(k, m, total, work, steps[at])
        total, unit, step = totals[0, at], kept[at, UNIT], steps[at]
        if not step[k] > DEGENERATE * kept[at, DIAGONAL, k]:
            return -1.0
        along, moment = 0.0, 0.0
        for i in range(m):
            along += unit[i] * d[i]
            moment += step[i] * d[i]
        amplitude, share = moment / step[k], unit[k] / total
        slope = along / total - amplitude * share
        if not (poisson > 0 and variance > 0) or turn == ROUNDS - 1:
            break
        wanted = bin_of(slope * poisson / variance, rho_floor)
        if wanted == at:
            break
        at = wanted
    weight, decay = kept[at, WEIGHT], kept[at, DECAY]
    own, square = d[0], d[0] * d[0] * weight[0]
    for i in range(1, m):
        own = d[i] + decay[i - 1] * own
        square += own * own * weight[i]
    result[0], result[1] = amplitude, 1.0 / step[k]
    result[2], result[3], result[4] = slope, 1.0 / total + share * share / step[k], -share
    return max(square - along * along / total - moment * amplitude, 0.0)


@kernel
def _held(ramps, used, variance, dof, rho_floor, poisson, pattern, frames, order, out):
    """The loop behind :func:`held_steps`."""
    reads, limit = ramps.shape[1], frames.shape[1]
    work, model = np.zeros((WORK_ROWS, reads)), np.zeros((5, reads))
    kept, totals = np.zeros((RHO_BINS, KEPT_ROWS, reads)), np.zeros((3, RHO_BINS))
    steps, result = np.zeros((RHO_BINS, reads)), np.zeros(5)
    basis, terms = np.zeros((limit, reads)), np.zeros((TERM_ROWS, limit))
    cross, inverse = np.zeros((limit, limit)), np.zeros((limit, limit))
    where = np.zeros(limit, np.int64)
    index, known = np.zeros(reads, np.int64), np.zeros(reads, np.int64)
    n_known, k_known, loaded, total = ZERO, ZERO - 1, -1, 0.0
    for p in order:
        n = differences(ramps[p], used[p], index, work[DIFFERENCE])
        m, first = n - 1, between(index, n, frames[p, 0])
        if m < 3 or not variance[p] >= 0 or first < 0:
            continue
        same = recall(index, known, n, n_known)
        if not same:
            timing(pattern, index[:n], model)
            for i in range(RHO_BINS):
                totals[0, i] = 0.0
            n_known = n
        if not same or first != k_known:
            for i in range(RHO_BINS):
                steps[i, first] = -1.0
            k_known, loaded = first, -1
        count, others = ZERO, False
        for j in range(1, limit):
            others |= frames[p, j] >= 0
        if not others:
            left = _alone(
                first, m, rho_floor, variance[p], poisson[p], work[DIFFERENCE], model, work, kept, totals,
                steps, result,
            )  # fmt: skip
            loaded = -1
            if left >= 0.0:
                scatter = moderated(left, m - 2, variance[p], dof[p])
                out[0, p], out[1, p] = result[0], math.sqrt(result[1] * scatter)
                out[2, p], out[3, p], out[4, p] = result[2], math.sqrt(result[3] * scatter), result[4]
            continue
        at = 0
        for turn in range(ROUNDS):
            if at != loaded:
                total = load(at, m, rho_floor * RHO_RATIO**at, model, work, kept, totals)
                loaded = at
            slope, rss = restart(m, total, work)
            count = ZERO
            for j in range(limit):
                k = between(index, n, frames[p, j]) if frames[p, j] >= 0 else -1
                if k >= 0 and m - 1 - count > 1 and work[FREE, k] > DEGENERATE * work[DIAGONAL, k]:
                    rss -= add(k, count, m, total, work, basis, cross, terms, where)
                    count += 1
                elif j == 0:
                    break
            if count == 0:
                break
            change, spread = joint(count, total, cross, inverse, terms)
            if not (poisson[p] > 0 and variance[p] > 0) or turn == ROUNDS - 1:
                break
            wanted = bin_of((slope + change) * poisson[p] / variance[p], rho_floor)
            if wanted == at:
                break
            at = wanted
        if count == 0:
            continue
        scatter = moderated(rss, m - 1 - count, variance[p], dof[p])
        out[0, p], out[1, p] = terms[AMPLITUDE, 0], math.sqrt(terms[SPREAD, 0] * scatter)
        out[2, p], out[3, p] = slope + change, math.sqrt(spread * scatter)
        out[4, p] = lean(count, total, cross, inverse, terms)


def held_steps(
    ramps: ArrayLike,
    used: ArrayLike,
    variance: ArrayLike,
    dof: ArrayLike,
    rho_floor: float,
    poisson: ArrayLike,
    pattern: ArrayLike,
    frames: ArrayLike,
) -> Held:
    """Fit steps at known frames together with the slope, for every pixel of a window.

    Parameters
    ----------
    ramps, used, variance, dof, rho_floor, poisson, pattern
        As in :func:`fmbdask_kernels.steps.fit_steps`; rho follows the rate that is left beside the steps.
    frames : int or (K, S) int array
        Reads, counted in ``ramps``, that are the first to hold the level of a step; the step of the first
        column is the one asked for, those of the others are fitted beside it, -1 where there is none.

    Returns
    -------
    Held
        NaN where no read in use lies on one side of the step asked for, or fewer than four are in use.
    """
    data = np.ascontiguousarray(ramps, np.float32)
    pixels = data.shape[0]
    out = np.full((5, pixels), np.nan, np.float32)
    used_ = np.ascontiguousarray(used, np.bool_)
    wanted = np.asarray(frames, np.int64)
    if wanted.ndim == 0:
        wanted = np.full((pixels, 1), wanted)
    # ramps with the same reads share their tables; the result of a ramp does not depend on its place
    order = np.argsort(used_.sum(axis=1), kind="stable")
    _held(
        data, used_, spread_over(variance, pixels), spread_over(dof, pixels), float(rho_floor),
        spread_over(poisson, pixels), np.ascontiguousarray(pattern, np.float64),
        np.ascontiguousarray(wanted), order, out,
    )  # fmt: skip
    return Held(*out)
