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

from .covariance import timing
from .jit import ZERO, exact, kernel, stage
from .masked import lower_median

Float = NDArray[np.float64]

#: Share of the noise of a ramp that its read noise must have before it can say that the pixel is noisy.
TELLING = 0.3
#: Smallest variance of a pixel in units of that of its amplifier.
LEAST = 0.1
#: Rounds of rate and variance, which the covariance depends on.
ROUNDS = 3
#: Minors of a matrix are scaled where they are smaller than this, or larger than its inverse.
TINY = 1e-100
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


@stage
def _differences(ramp, shape, begins, index, n, pattern, model, d, g, work):
    """Model of the differences of the reads in ``index``; returns (degrees of freedom, median rate).

    A difference that holds a step tells nothing: all that is known of it is zero, but for its variance.
    """
    timing(pattern, index[:n], model)
    for i in range(n - 1):
        a, b = index[i], index[i + 1]
        d[i] = ramp[b] - ramp[a]
        g[i] = np.float64(shape[b]) - np.float64(shape[a])
        work[i] = d[i] / model[0, i]
    typical = lower_median(work, n - 1)
    free = ZERO - 1
    for i in range(n - 1):
        parted = False
        for j in range(index[i] + 1, index[i + 1] + 1):
            parted |= begins[j]
        if parted:
            d[i], g[i], model[0, i], model[1, i] = 0.0, 0.0, 0.0, 1.0
            model[2, i] = model[3, i] = model[4, i] = 0.0
            if i:
                model[3, i - 1] = model[4, i - 1] = 0.0
        else:
            free += 1
    return free, typical


@stage
def _products(model, m, rho, d, weight, decay, unit):
    """Factor ``C = R + rho Q``; returns ``dt' C^-1 dt``, ``dt' C^-1 d``, ``d' C^-1 d`` and the trace.

    Fills ``weight`` (inverse pivots), ``decay``, by how much a difference reaches into the next one, and
    ``unit`` = ``C^-1 dt``. The trace is that of :func:`trace_of_inverse`. Pivots are ratios of successive
    leading minors, which follow from each other without a division to wait for.
    """
    time, time_data, data, trace = 0.0, 0.0, 0.0, 0.0
    change, along, own, reach, cross, link = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    inverse, before, minor = 0.0, 0.0, 1.0
    for i in range(m):
        if i:
            cross = model[4, i - 1]
            link = -(model[3, i - 1] + rho * cross)
            reach = link * inverse
        before, minor = minor, (model[1, i] + rho * model[2, i]) * minor - link * link * before
        inverse = before / minor
        if not TINY < minor < 1.0 / TINY:
            before, minor = inverse, 1.0
        change = model[2, i] + reach * (2.0 * cross + reach * change)
        trace += change * inverse
        along = model[0, i] + reach * along
        own = d[i] + reach * own
        weight[i], decay[i], unit[i] = inverse, reach, along * inverse
        time += along * unit[i]
        time_data += own * unit[i]
        data += own * own * inverse
    for i in range(m - 2, -1, -1):
        unit[i] += decay[i + 1] * unit[i + 1]
    return time, time_data, data, trace


@stage
def _apply(values, m, weight, decay, out):
    """Fill ``out`` = ``C^-1 values`` with the factors of :func:`_products`."""
    along = 0.0
    for i in range(m):
        along = values[i] + decay[i] * along
        out[i] = along * weight[i]
    for i in range(m - 2, -1, -1):
        out[i] += decay[i + 1] * out[i + 1]


@stage
def _poisson(weight, model, m):
    """Poisson variance of a sum of differences with these weights."""
    total = 0.0
    for i in range(m):
        total += weight[i] * weight[i] * model[2, i]
    for i in range(m - 1):
        total += 2.0 * weight[i] * weight[i + 1] * model[4, i]
    return total


@stage
def _drift(weight, n, index, span, pink, sums):
    """1/f variance of a sum of the differences of reads with these weights."""
    sums[:] = 0.0
    for i in range(n - 1):
        sums[span[index[i]]] -= weight[i]
        sums[span[index[i + 1]]] += weight[i]
    total = 0.0
    for k in range(sums.size):
        for j in range(sums.size):
            total += sums[k] * sums[j] * pink[k, j]
    return max(total, 0.0)


@kernel
def _fit(ramps, used, begins, shape, variance, dof, noisy, poisson, pattern, drift, span, pink, out):
    """The loop behind :func:`rates_with_steps`."""
    pixels, frames = ramps.shape
    index, model = np.zeros(frames, np.int64), np.zeros((5, frames))
    d, g, work, weight, decay, share, tilt = np.zeros((7, frames))
    sums = np.zeros(pink.shape[0])
    for p in range(pixels):
        n, flips = ZERO, False
        for i in range(frames):
            if used[p, i]:
                index[n] = i
                flips |= shape[p, i] != shape[p, index[0]]
                n += 1
        m = n - 1
        if m < 1:
            continue
        free, typical = _differences(ramps[p], shape[p], begins[p], index, n, pattern, model, d, g, work)
        # a median needs no covariance
        light, own = max(typical, 0.0) * poisson, variance[p]
        for turn in range(ROUNDS):
            ratio, left_free = light / own, free
            time, time_ramp, ramp, trace = _products(model, m, ratio, d, weight, decay, share)
            if flips:
                _apply(g, m, weight, decay, tilt)
                time_shape, shapes, shape_ramp = 0.0, 0.0, 0.0
                for i in range(m):
                    time_shape += model[0, i] * tilt[i]
                    shapes += g[i] * tilt[i]
                    shape_ramp += d[i] * tilt[i]
                if shapes > 0.0:  # the distance of the levels is fitted as well
                    trace -= _poisson(tilt, model, m) / shapes
                    lean = time_shape / shapes
                    time -= lean * time_shape
                    time_ramp -= lean * shape_ramp
                    ramp -= shape_ramp * shape_ramp / shapes
                    left_free -= 1
                    for i in range(m):
                        share[i] -= lean * tilt[i]
            if not time > 0.0 or left_free < 0:
                break
            trace -= _poisson(share, model, m) / time
            rate = time_ramp / time
            spread = own / time
            left = max(ramp - time_ramp * rate, 0.0)
            now = read_variance(left, light, trace, left_free - ratio * trace, variance[p], dof[p], noisy[p])
            lit = max(rate, 0.0) * poisson
            settled = abs(now - own) <= 1e-3 * own and abs(lit - light) <= 1e-3 * (light + 1e-3 * own)
            settled |= turn == ROUNDS - 1
            if settled and drift > 0.0:
                spread += own * drift * _drift(share, n, index, span, pink, sums) / (time * time)
            out[0, p], out[1, p] = rate, math.sqrt(spread)
            if settled:
                break
            light, own = lit, now


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
    _fit(
        data, np.ascontiguousarray(used, np.bool_), np.ascontiguousarray(begins, np.bool_), levels, own,
        known, most, float(poisson), pattern, float(drift), span, pink, out,
    )  # fmt: skip
    return out[0], out[1]
