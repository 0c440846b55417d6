"""Rates and their errors in dense algebra."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .steps import covariance

Array = NDArray[np.float64]


def pink(times: Array) -> Array:
    """Covariance of 1/f noise up to a constant: minus the integral of (1 - cos) / f up to half a sample."""
    lag = np.pi * np.abs(np.subtract.outer(times, times))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = special.sici(lag)[1] - np.log(lag) - np.euler_gamma
    return np.where(lag > 0, value, 0.0)


def read_variance(rss, light, poisson, white, variance, dof, noisy):  # type: ignore[no-untyped-def]
    """Moderated variance of one read, Poisson noise taken out."""
    own = max(rss - light * poisson, 0.0) / white
    share = variance * white / (variance * white + light * poisson)
    if share > 0.3 and own > noisy * variance:
        return own
    free = (white + light / variance * poisson) * share**2
    return max((free * own + dof * variance) / (free + dof), 0.1 * variance)


def projector(
    pattern: Array, index: Array, steps: list[int], ratio: float, shape: Array | None = None
) -> tuple[Array, Array, float]:
    """Inverse covariance of the differences that hold no step, weights of the rate, information."""
    whole = covariance(pattern, index, ratio)
    keep = np.array([not any(a < k <= b for k in steps) for a, b in pairwise(index)])
    inverse = np.zeros_like(whole)
    inverse[np.ix_(keep, keep)] = np.linalg.inv(whole[np.ix_(keep, keep)])
    dt = np.diff(pattern[0, index])
    if shape is not None:
        bend = np.diff(shape[index])
        if bend @ inverse @ bend > 0:
            inverse = inverse - np.outer(inverse @ bend, inverse @ bend) / (bend @ inverse @ bend)
    unit = inverse @ dt
    total = float(dt @ unit)
    return inverse - np.outer(unit, unit) / total, unit / total, total


def with_steps(
    ramp: Array, used: Array, steps: list[int], variance: float, dof: float, noisy: float, poisson: float,
    pattern: Array, drift: float, shape: Array | None = None,
) -> tuple[float, float]:  # fmt: skip
    """Rate and error of one ramp; its own noise is found in three rounds."""
    index = np.flatnonzero(used)
    d, dt = np.diff(ramp[index]), np.diff(pattern[0, index])
    quotients = np.sort(d / dt)
    light, own = max(quotients[(quotients.size + 1) // 2 - 1], 0.0) * poisson, variance
    unit_light = covariance(pattern, index, 1.0) - covariance(pattern, index, 0.0)
    free = sum(not any(a < k <= b for k in steps) for a, b in pairwise(index)) - 1
    if shape is not None:
        moves = [shape[a] != shape[b] and not any(a < k <= b for k in steps) for a, b in pairwise(index)]
        free -= any(moves)
    for _ in range(3):
        left, weight, total = projector(pattern, index, steps, light / own, shape)
        rate = float(weight @ d)
        error = own / total
        final = own
        trace = float(np.sum(left * unit_light))
        now = read_variance(d @ left @ d, light, trace, free - light / own * trace, variance, dof, noisy)
        lit = max(rate, 0.0) * poisson
        if abs(now - own) <= 1e-3 * own and abs(lit - light) <= 1e-3 * (light + 1e-3 * own):
            break
        light, own = lit, now
    reads = -np.diff(weight, prepend=0.0, append=0.0)
    return rate, float(np.sqrt(error + final * drift * (reads @ pink(pattern[0, index]) @ reads)))
