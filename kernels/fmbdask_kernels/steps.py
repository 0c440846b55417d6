"""Steps in single ramps: forward selection of jumps, refitted together with the slope.

A ramp with steps is ``d = b dt + sum_i A_i e_(k_i) + noise``, where ``d`` are its differences and ``e_k`` is
one on the difference that holds the step. Testing one more step is the generalised likelihood-ratio test of
one omitted difference (T. Brandt 2024, PASP 136 045005); :mod:`fmbdask_kernels.projection` has the algebra,
:mod:`fmbdask_kernels.smooth` what else may bend a ramp, :mod:`fmbdask_kernels.pursuit` the selection.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .covariance import INTERVAL, timing
from .jit import ZERO, kernel
from .projection import (
    AMPLITUDE,
    DIFFERENCE,
    SPREAD,
    TERM_ROWS,
    WORK_ROWS,
    deepest,
    differences,
    gaussian,
    joint,
    moderated,
    recall,
    restart,
)  # fmt: skip
from .pursuit import KEPT_ROWS, RHO_BINS, RHO_RATIO, SMOOTH_ROWS, bin_of, extend, forward, load
from .smooth import SHAPES, STEP

Float = NDArray[np.float32]

ROUNDS = 3


class Steps(NamedTuple):
    """Steps of K ramps, see :func:`fit_steps`."""

    count: NDArray[np.int32]  # type: ignore[assignment]
    frame: NDArray[np.int32]
    amplitude: Float
    significance: Float
    rate: Float
    rate_error: Float
    rss: Float
    rho: Float
    bends: NDArray[np.int32]
    fall: Float

    def at(self, chosen: NDArray[np.intp]) -> Steps:
        """Steps of the chosen ramps only."""
        return Steps(
            self.count[chosen], self.frame[chosen], self.amplitude[chosen], self.significance[chosen],
            self.rate[chosen], self.rate_error[chosen], self.rss[chosen], self.rho[chosen],
            self.bends[chosen], self.fall[chosen],
        )  # fmt: skip


@kernel
def _fit(
    ramps, used, variance, dof, rho, rho_floor, poisson, threshold, pattern, order, most_smooth,
    count, bends, frame, values, out,
):  # fmt: skip
    """The loop behind :func:`fit_steps`; ``values`` is amplitude and significance, ``out`` the others."""
    frames = ramps.shape[1]
    limit = frame.shape[1] + most_smooth
    work, model = np.zeros((WORK_ROWS, frames)), np.zeros((5, frames))
    smooth = np.zeros((SMOOTH_ROWS, max(frames, SHAPES)))
    shapes = np.zeros((SHAPES + most_smooth, frames))
    kept, totals = np.zeros((RHO_BINS, KEPT_ROWS, max(frames, SHAPES))), np.zeros((3, RHO_BINS))
    basis, terms = np.zeros((limit, frames)), np.zeros((TERM_ROWS, limit))
    cross, inverse = np.zeros((limit, limit)), np.zeros((limit, limit))
    where, kinds = np.zeros(limit, np.int64), np.zeros(limit, np.int64)
    index, known = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
    n_known, loaded, total = ZERO, -1, 0.0
    amplitude, spread, dt = terms[AMPLITUDE], terms[SPREAD], model[INTERVAL]
    for p in order:
        n = differences(ramps[p], used[p], index, work[DIFFERENCE])
        m = n - 1
        if m < 3 or not variance[p] >= 0:
            continue
        if not recall(index, known, n, n_known):
            timing(pattern, index[:n], model)
            for row in range(3):
                for i in range(RHO_BINS):
                    totals[row, i] = 0.0
            n_known, loaded = n, -1
        at = bin_of(rho[p], rho_floor)
        for turn in range(ROUNDS):
            if at != loaded:
                ratio = rho_floor * RHO_RATIO**at
                total = load(at, m, ratio, model, work, kept, totals)
                loaded = at
            slope, rss = restart(m, total, work)
            found, rss, current = forward(
                m, total, slope, rss, variance[p], dof[p], threshold[p], most_smooth, dt, at, work, smooth,
                shapes, kept, totals, basis, cross, terms, where, kinds, inverse,
            )  # fmt: skip
            change, slope_spread = joint(found, total, cross, inverse, terms)
            if not (poisson[p] > 0 and variance[p] > 0) or turn == ROUNDS - 1:
                break
            wanted = bin_of((slope + change) * poisson[p] / variance[p], rho_floor)
            if wanted == at:
                break
            at = wanted
        while found:
            free = m - 1 - found
            scatter = moderated(rss, free, variance[p], dof[p])
            weakest, least = 0, np.inf
            for i in range(found):
                size = amplitude[i] * amplitude[i] / spread[i]
                if size < least:
                    weakest, least = i, size
            # the term under test is part of the model here, so its own degree of freedom is already spent
            if scatter > 0 and gaussian(math.sqrt(least / scatter), free + dof[p]) >= threshold[p]:
                break
            slope, rss = restart(m, total, work)
            kept_terms = ZERO
            for i in range(found):
                if i != weakest:
                    rss -= extend(
                        kinds[i], where[i], kept_terms, dt, m, total, work, smooth, shapes,
                        basis, cross, terms, where, kinds,
                    )  # fmt: skip
                    kept_terms += 1
            found, current = kept_terms, True
            change, slope_spread = joint(found, total, cross, inverse, terms)
        scatter = moderated(rss, m - 1 - found, variance[p], dof[p])
        if found:
            if not current:
                _, rss = restart(m, total, work)
                for i in range(found):
                    rss -= extend(
                        kinds[i], where[i], i, dt, m, total, work, smooth, shapes, basis, cross, terms, where,
                        kinds,
                    )  # fmt: skip
            fall, free = deepest(m, work), max(m - 2 - found, 1)
            left = moderated(rss - fall, free, variance[p], dof[p])
            if left > 0:
                out[4, p] = gaussian(math.sqrt(fall / left), free + dof[p])
        for j in range(found):
            if kinds[j] != STEP:
                bends[p] += 1
                continue
            i = 0  # place in time
            for other in range(found):
                i += kinds[other] == STEP and where[other] < where[j]
            t = amplitude[j] / math.sqrt(spread[j] * scatter)
            frame[p, i] = index[where[j] + 1]
            values[0, p, i] = amplitude[j]
            values[1, p, i] = gaussian(t, m - 1 - found + dof[p])
        count[p] = found - bends[p]
        out[0, p], out[1, p] = slope + change, math.sqrt(slope_spread * scatter)
        out[2, p], out[3, p] = max(rss, 0.0), rho_floor * RHO_RATIO**at


def spread_over(values: ArrayLike, pixels: int) -> NDArray[np.float64]:
    """Return one float64 per pixel from a scalar or a (K,) array, always as an array of its own.

    A view, or one that may not be written, would be another type, for which the fits are compiled once more.
    """
    return np.array(np.broadcast_to(np.asarray(values, np.float64), (pixels,)))


def fit_steps(
    ramps: ArrayLike,
    used: ArrayLike,
    variance: ArrayLike,
    dof: ArrayLike,
    rho: ArrayLike,
    rho_floor: float,
    poisson: ArrayLike,
    threshold: ArrayLike,
    pattern: ArrayLike,
    max_steps: int = 12,
    max_smooth: int = 4,
) -> Steps:
    """Find the steps of candidate ramps, of either sign, with a joint refit of all steps and the slope.

    Parameters
    ----------
    ramps : (K, N) array
        Reference-corrected counts [DN]; computed on in float64.
    used : (K, N) bool array
        False for saturated or bad reads, which differences bridge; so they do reads that are not finite.
    variance, dof : float or (K,) array
        Prior variance of one read [DN^2] and its degrees of freedom; ``dof=inf`` takes it as known.
    rho : float or (K,) array
        Starting ratio of the Poisson variance of one mean interval to ``variance``.
    rho_floor : float
        Smallest ratio; it bounds how long the statistic remembers.
    poisson : float or (K,) array
        Variance per count of signal [DN] (one over the gain); 0 keeps ``rho`` where it is.
    threshold : float or (K,) array
        Gaussian-equivalent significance at which a further step is accepted.
    pattern : (3, N) array
        From :func:`fmbdask_kernels.covariance.read_pattern`.
    max_steps, max_smooth : int
        Most steps and most smooth terms (curvature, decaying currents, kinks) per ramp.

    Returns
    -------
    Steps
        ``count`` (K,); ``frame`` (K, max_steps), the first frame that holds the new level, in time order, -1
        where unused; ``amplitude`` (K, max_steps) [DN] and ``significance`` (K, max_steps), signed, 0 where
        unused; ``rate`` and ``rate_error`` (K,) [DN per mean interval]; ``rss`` (K,), the chi^2 left over
        times the read variance [DN^2]; ``rho`` (K,), on a grid of ratios 1.5 above the floor; the last four
        are NaN for fewer than four reads in use. ``bends`` (K,), smooth terms fitted beside the steps, which
        change the rate in time but not its mean; ``fall`` (K,), the significance of the largest further fall
        where there are steps, 0 elsewhere.
    """
    data = np.ascontiguousarray(ramps, np.float32)
    pixels = data.shape[0]
    count = np.zeros(pixels, np.int32)
    frame = np.full((pixels, max_steps), -1, np.int32)
    bends = np.zeros(pixels, np.int32)
    values = np.zeros((2, pixels, max_steps), np.float32)
    out = np.full((5, pixels), np.nan, np.float32)
    out[4] = 0.0
    used_ = np.ascontiguousarray(used, np.bool_)
    pattern_ = np.ascontiguousarray(pattern, np.float64)
    rho_ = spread_over(rho, pixels)
    # neighbours in this order share reads and tables; the result of a ramp does not depend on its place
    order = np.lexsort((rho_, used_.sum(axis=1)))
    _fit(
        data, used_, spread_over(variance, pixels), spread_over(dof, pixels), rho_, float(rho_floor),
        spread_over(poisson, pixels), spread_over(threshold, pixels), pattern_, order, max_smooth,
        count, bends, frame, values, out,
    )  # fmt: skip
    return Steps(count, frame, values[0], values[1], out[0], out[1], out[2], out[3], bends, out[4])
