"""Rates of ramps with steps or gaps, each ramp with the covariance that its own noise gives it.

A free step parts a ramp into two, whose rates are independent: read noise, Poisson noise and the rate of all
parts are fitted together. The noise model has a third part, noise whose power falls as 1/f, in units of the
read variance. Source of the covariance: T. Brandt 2024, PASP 136 045004.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from .abreast import (
    CHUNK,
    DATA_DATA,
    DATA_LEVEL,
    LANES,
    LEAN,
    LEVEL_LEVEL,
    LEVEL_NOISE,
    MIDDLE,
    RATIO,
    SHARE_NOISE,
    STATES,
    TIME_DATA,
    TIME_LEVEL,
    TIME_TIME,
    TRACE,
    WIDTH,
    backward,
    collect,
    drift_of_rate,
    forward,
    load,
    medians,
)
from .covariance import timing
from .jit import ZERO, exact, kernel
from .projection import recall

Float = NDArray[np.float64]

#: Share of the noise of a ramp that its read noise must have before it can say that the pixel is noisy.
TELLING = 0.3
#: Smallest variance of a pixel in units of that of its amplifier.
LEAST = 0.1
#: Rounds of rate and variance, which the covariance depends on.
ROUNDS = 3
#: Spans of time in which the weights of a ramp are summed before their 1/f noise is worked out.
SPANS = 32


def drift_covariance(times: ArrayLike) -> Float:
    """Covariance of 1/f noise with a variance of one per natural logarithm of frequency, (N, N).

    It is defined up to a constant, which contrasts of reads do not see. Frequencies end at half the mean
    sampling rate; ``times`` (N,) are in units of its interval.
    """
    lag = np.pi * np.abs(np.subtract.outer(np.asarray(times, np.float64), times))
    apart = lag > 0
    out = np.zeros(lag.shape)
    out[apart] = special.sici(lag[apart])[1] - np.log(lag[apart]) - np.euler_gamma
    return out


@exact
def trace_of_inverse(model, rho):
    """Derivative of the logarithm of the determinant of ``R + rho Q``: the trace of its inverse times Q."""
    pivot = model[1, 0] + rho * model[2, 0]
    change = model[2, 0]
    total = change / pivot
    for i in range(1, model.shape[1]):
        link = model[3, i - 1] + rho * model[4, i - 1]
        ratio = link / pivot
        change = model[2, i] - 2.0 * ratio * model[4, i - 1] + ratio * ratio * change
        pivot = model[1, i] + rho * model[2, i] - ratio * link
        total += change / pivot
    return total


@exact
def read_variance(rss, light, poisson, white, variance, dof, noisy):
    """Variance of one read of a pixel from what its fit left over, its Poisson noise taken out.

    ``light`` is the Poisson variance of one interval; it adds ``poisson`` times itself to ``rss``, and the
    read noise ``white`` times its variance. The prior counts ``dof``, the ramp as much as its residuals are
    read noise. A pixel beyond ``noisy`` times the prior keeps its own.
    """
    if not white > 0.0:
        return variance
    own = max((rss - light * poisson) / white, 0.0)
    share = variance * white / (variance * white + light * poisson)
    if share > TELLING and own > noisy * variance:
        return own
    free = (white + light / variance * poisson) * share * share
    if not free + dof > 0.0:
        return variance
    return max((free * own + dof * variance) / (free + dof), LEAST * variance)


@kernel
def _fit(ramps, used, begins, shape, variance, dof, noisy, poisson, pattern, drift, span, pink, order, out):
    """The loop behind :func:`rates_with_steps`: ``LANES`` ramps at a time, in ``order``."""
    frames = ramps.shape[1]
    index, model, known = np.zeros(frames, np.int64), np.zeros((5, frames)), np.zeros(frames, np.int64)
    n_known = ZERO
    record, state = np.zeros((frames + CHUNK) * WIDTH), np.zeros(STATES * LANES)
    sums = np.zeros(pink.shape[0])
    light, own, free = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    reads, settled = np.zeros(LANES, np.int64), np.zeros(LANES, np.bool_)
    start = ZERO
    while start < order.size:
        n, lanes, levels = collect(order, start, used, shape, index, reads)
        if n < 2:
            start += 1
            continue
        chosen, rows = order[start : start + lanes], n - 1
        start += lanes
        if not recall(index, known, n, n_known):
            timing(pattern, index[:n], model)
            n_known = n
        load(ramps, shape, begins, chosen, lanes, reads, index, rows, model, record, free)
        for j in range(LANES):
            settled[j] = j >= lanes or reads[j] < 2
        medians(record, rows, state)
        for j in range(LANES):
            p = chosen[min(j, lanes - 1)]
            # a median needs no covariance
            typical = max(state[MIDDLE * LANES + j], 0.0)
            light[j], own[j] = 0.0 if settled[j] else typical * poisson, variance[p]
        for turn in range(ROUNDS):
            for j in range(LANES):
                state[RATIO * LANES + j] = light[j] / own[j]
            forward(record, rows, model, state)
            backward(record, rows, model, state, levels)
            open_ = False
            for j in range(lanes):
                if settled[j]:
                    continue
                p, ratio, left_free = chosen[j], state[RATIO * LANES + j], free[j]
                time, time_ramp, ramp = (
                    state[TIME_TIME * LANES + j],
                    state[TIME_DATA * LANES + j],
                    state[DATA_DATA * LANES + j],
                )
                trace, shapes = state[TRACE * LANES + j], state[LEVEL_LEVEL * LANES + j]
                if shapes > 0.0:  # the distance of the levels is fitted as well
                    trace -= state[LEVEL_NOISE * LANES + j] / shapes
                    time -= state[LEAN * LANES + j] * state[TIME_LEVEL * LANES + j]
                    time_ramp -= state[LEAN * LANES + j] * state[DATA_LEVEL * LANES + j]
                    ramp -= state[DATA_LEVEL * LANES + j] * state[DATA_LEVEL * LANES + j] / shapes
                    left_free -= 1
                if not time > 0.0 or left_free < 0:
                    settled[j] = True
                    continue
                trace -= state[SHARE_NOISE * LANES + j] / time
                rate = time_ramp / time
                spread = own[j] / time
                left = max(ramp - time_ramp * rate, 0.0)
                now = read_variance(
                    left, light[j], trace, left_free - ratio * trace, variance[p], dof[p], noisy[p]
                )
                lit = max(rate, 0.0) * poisson
                done = abs(now - own[j]) <= 1e-3 * own[j]
                done &= abs(lit - light[j]) <= 1e-3 * (light[j] + 1e-3 * own[j])
                settled[j] = done | (turn == ROUNDS - 1)
                if settled[j] and drift > 0.0:
                    pink_noise = drift_of_rate(record, j, reads[j], index, span, pink, sums)
                    spread += own[j] * drift * pink_noise / (time * time)
                out[0, p], out[1, p] = rate, math.sqrt(spread)
                if not settled[j]:
                    light[j], own[j], open_ = lit, now, True
            if not open_:
                break


def _spans(times: Float) -> tuple[NDArray[np.int64], Float]:
    """Span of time of each read, (N,), and the covariance of 1/f noise between spans."""
    wanted = np.arange(times.size)
    if times.size > SPANS:
        wanted = np.minimum(SPANS * times / times[-1], SPANS - 1).astype(np.int64)
    _, span = np.unique(wanted, return_inverse=True)
    middle = np.bincount(span, times) / np.bincount(span)
    return span.astype(np.int64), drift_covariance(middle)


def rates_with_steps(
    ramps: ArrayLike,
    used: ArrayLike,
    begins: ArrayLike,
    variance: ArrayLike,
    dof: ArrayLike,
    noisy: ArrayLike,
    poisson: float,
    pattern: Float,
    drift: float = 0.0,
    shape: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rate of ramps with steps at known reads, whatever their sizes, by generalised least squares.

    Parameters
    ----------
    ramps : (K, N) array
        Corrected counts [DN].
    used : (K, N) bool array
        Reads that may be used; differences bridge the others.
    begins : (K, N) bool array
        First read of each new level.
    variance, dof, noisy : (K,) array
        Prior variance of one read [DN^2], its degrees of freedom, and the ratio to it beyond which a pixel
        keeps its own.
    poisson : float
        Variance per DN of signal [DN].
    pattern : (3, N) array
        From :func:`fmbdask_kernels.covariance.read_pattern`.
    drift : float
        1/f variance per natural logarithm of frequency over the read variance.
    shape : (K, N) bool array, optional
        Reads in the upper one of two levels, whose distance is fitted as well.

    Returns
    -------
    (K,) array, (K,) array
        Rate and its error [DN per mean interval], NaN where no two reads lie between the same steps.
    """
    data = np.ascontiguousarray(ramps, np.float32)
    pixels = data.shape[0]
    out = np.full((2, pixels), np.nan, np.float32)
    pattern = np.ascontiguousarray(pattern, np.float64)
    span, pink = _spans(pattern[0])
    own, known, most = (
        np.array(np.broadcast_to(np.asarray(v, np.float64), pixels)) for v in (variance, dof, noisy)
    )
    levels = np.zeros(data.shape, np.bool_) if shape is None else np.ascontiguousarray(shape, np.bool_)
    used_ = np.ascontiguousarray(used, np.bool_)
    # ramps of one length fill all lanes; the result of a ramp does not depend on its neighbours
    order = np.argsort(-used_.sum(axis=1), kind="stable")
    _fit(
        data, used_, np.ascontiguousarray(begins, np.bool_), levels, own, known, most, float(poisson),
        pattern, float(drift), span, pink, order, out,
    )  # fmt: skip
    return out[0], out[1]
