"""Steps in single ramps: forward selection of jumps, refitted together with the slope.

A ramp with steps is ``d = b dt + sum_i A_i e_(k_i) + noise``, where ``d`` are its differences and ``e_k`` is
one on the difference that holds the step. Testing one more step is the generalised likelihood-ratio test of
one omitted difference (T. Brandt 2024, PASP 136 045005); :mod:`fmbdask_kernels.projection` has the algebra.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .covariance import timing
from .jit import kernel
from .projection import (
    COLUMN,
    DEGENERATE,
    DIAGONAL,
    DIFFERENCE,
    WORK_ROWS,
    add,
    column,
    differences,
    gaussian,
    joint,
    moderated,
    recall,
    restart,
    strongest,
    tables,
)

Float = NDArray[np.float32]

#: Steps that may be added below the threshold before one passes: two large hits hide each other's variance.
LOOK_AHEAD = 2

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


@kernel
def forward(m, total, rss, variance, dof, threshold, work, basis, where, top):
    """Add steps while one passes the threshold, looking a little ahead; returns (number of steps, chi^2)."""
    count, kept, kept_rss, limit = 0, 0, rss, basis.shape[0]
    while count < limit and count - kept <= LOOK_AHEAD:
        free = m - 2 - count
        if free < 1:  # with nothing left over, every place explains the ramp equally well
            break
        k, gain = strongest(m, work)
        scatter = moderated(rss - gain, free, variance, dof)
        if k < 0 or scatter <= 0:
            break
        passed = gaussian(math.sqrt(gain / scatter), free + dof) >= threshold
        if not passed and (gain < threshold * threshold * variance or count - kept == LOOK_AHEAD):
            break
        rss -= add(k, count, m, total, work, basis, where, top)
        count += 1
        if passed:
            kept, kept_rss = count, rss
    return kept, kept_rss


@kernel
def _fit(ramps, used, variance, dof, rho, rho_floor, poisson, threshold, pattern, count, frame, values, out):
    """The loop behind :func:`fit_steps`; ``values`` is amplitude and significance, ``out`` the other four."""
    pixels, frames = ramps.shape
    limit = frame.shape[1]
    work, model = np.zeros((WORK_ROWS, frames)), np.zeros((5, frames))
    basis, inverse = np.zeros((limit, frames)), np.zeros((limit, limit))
    where, top = np.zeros(limit, np.int64), np.zeros(limit)
    amplitude, spread = np.zeros(limit), np.zeros(limit)
    index, known = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
    n_known, rho_known, total = 0, -1.0, 0.0
    for p in range(pixels):
        n = differences(ramps[p], used[p], index, work[DIFFERENCE])
        m = n - 1
        if m < 3 or not variance[p] >= 0:
            continue
        if not recall(index, known, n, n_known):
            timing(pattern, index[:n], model)
            n_known, rho_known = n, -1.0
        ratio = max(rho[p], rho_floor)
        for turn in range(ROUNDS):
            if ratio != rho_known:
                total = tables(model, m, ratio, work)
                rho_known = ratio
            slope, rss = restart(m, total, work)
            found, rss = forward(m, total, rss, variance[p], dof[p], threshold[p], work, basis, where, top)
            change, slope_spread = joint(found, total, work, basis, where, top, inverse, amplitude, spread)
            if not (poisson[p] > 0 and variance[p] > 0) or turn == ROUNDS - 1:
                break
            wanted = max((slope + change) * poisson[p] / variance[p], rho_floor)
            if abs(wanted - ratio) <= 0.1 * ratio:
                break
            ratio = wanted
        while found:
            free = m - 1 - found
            scatter = moderated(rss, free, variance[p], dof[p])
            weakest, least = 0, np.inf
            for i in range(found):
                size = amplitude[i] * amplitude[i] / spread[i]
                if size < least:
                    weakest, least = i, size
            # the step under test is part of the model here, so its own degree of freedom is already spent
            if scatter > 0 and gaussian(math.sqrt(least / scatter), free + dof[p]) >= threshold[p]:
                break
            slope, rss = restart(m, total, work)
            left = 0
            for i in range(found):
                if i != weakest:
                    rss -= add(where[i], left, m, total, work, basis, where, top)
                    left += 1
            found = left
            change, slope_spread = joint(found, total, work, basis, where, top, inverse, amplitude, spread)
        scatter = moderated(rss, m - 1 - found, variance[p], dof[p])
        for j in range(found):
            i = 0  # place in time
            for other in range(found):
                i += where[other] < where[j]
            t = amplitude[j] / math.sqrt(spread[j] * scatter)
            frame[p, i] = index[where[j] + 1]
            values[0, p, i] = amplitude[j]
            values[1, p, i] = gaussian(t, m - 1 - found + dof[p])
        count[p] = found
        out[0, p], out[1, p] = slope + change, math.sqrt(slope_spread * scatter)
        out[2, p], out[3, p] = max(rss, 0.0), ratio


def spread_over(values: ArrayLike, pixels: int) -> NDArray[np.float64]:
    """Return one float64 per pixel from a scalar or a (K,) array."""
    return np.ascontiguousarray(np.broadcast_to(np.asarray(values, np.float64), (pixels,)))


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
    max_steps : int
        Most steps per ramp.

    Returns
    -------
    Steps
        ``count`` (K,); ``frame`` (K, max_steps), the first frame that holds the new level, in time order, -1
        where unused; ``amplitude`` (K, max_steps) [DN] and ``significance`` (K, max_steps), signed, 0 where
        unused; ``rate`` and ``rate_error`` (K,) [DN per mean interval]; ``rss`` (K,), the chi^2 left over
        times the read variance [DN^2]; ``rho`` (K,). The last four are NaN for fewer than four reads in use.
    """
    data = np.ascontiguousarray(ramps, np.float32)
    pixels = data.shape[0]
    count = np.zeros(pixels, np.int32)
    frame = np.full((pixels, max_steps), -1, np.int32)
    values = np.zeros((2, pixels, max_steps), np.float32)
    out = np.full((4, pixels), np.nan, np.float32)
    used_ = np.ascontiguousarray(used, np.bool_)
    pattern_ = np.ascontiguousarray(pattern, np.float64)
    _fit(
        data,
        used_,
        spread_over(variance, pixels),
        spread_over(dof, pixels),
        spread_over(rho, pixels),
        float(rho_floor),
        spread_over(poisson, pixels),
        spread_over(threshold, pixels),
        pattern_,
        count,
        frame,
        values,
        out,
    )
    return Steps(count, frame, values[0], values[1], out[0], out[1], out[2], out[3])


@kernel
def _amplitude(ramps, used, variance, rho, pattern, frame, out):
    """The loop behind :func:`step_amplitude`."""
    pixels, frames = ramps.shape
    work, model = np.zeros((WORK_ROWS, frames)), np.zeros((5, frames))
    index, known = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
    n_known, rho_known, k = 0, -1.0, -1
    d, w = work[DIFFERENCE], work[COLUMN]
    for p in range(pixels):
        n = differences(ramps[p], used[p], index, d)
        if n < 3:
            continue
        if not recall(index, known, n, n_known):
            timing(pattern, index[:n], model)
            n_known, rho_known = n, -1.0
        if rho[p] != rho_known:
            rho_known = rho[p]
            k = -1
            for i in range(n - 1):
                if index[i] < frame <= index[i + 1]:
                    k = i
            if k >= 0:
                total = tables(model, n - 1, rho_known, work)
                column(k, n - 1, total, work, w)
                if w[k] <= DEGENERATE * work[DIAGONAL, k]:
                    k = -1
        if k < 0:
            continue
        value = 0.0
        for i in range(n - 1):
            value += w[i] * d[i]
        out[0, p] = value / w[k]
        out[1, p] = math.sqrt(variance[p] / w[k])


def step_amplitude(
    ramps: ArrayLike,
    used: ArrayLike,
    variance: ArrayLike,
    rho: ArrayLike,
    pattern: ArrayLike,
    frame: int,
) -> tuple[Float, Float]:
    """Amplitude of a step at one given frame, for every pixel of a window, with the slope refitted.

    Parameters
    ----------
    ramps, used, variance, rho, pattern
        As in :func:`fit_steps`; pixels of equal ``rho`` and equal reads that follow each other share their
        tables, so a quantised ``rho`` costs a hundred times less than one of its own for every pixel.
    frame : int
        First frame that holds the new level.

    Returns
    -------
    (K,) array, (K,) array
        Amplitude and its error [DN], NaN where no read in use lies on one side of the step.
    """
    data = np.ascontiguousarray(ramps, np.float32)
    pixels = data.shape[0]
    out = np.full((2, pixels), np.nan, np.float32)
    used_ = np.ascontiguousarray(used, np.bool_)
    pattern_ = np.ascontiguousarray(pattern, np.float64)
    _amplitude(data, used_, spread_over(variance, pixels), spread_over(rho, pixels), pattern_, frame, out)
    return out[0], out[1]
