"""Loops of the simulator that NumPy has no fast word for: shot noise, 1/f noise, the read-out, ideal S/N.

Random numbers come in as arrays, so the result does not depend on how the work is cut up.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from .covariance import factor, solve, timing
from .jit import exact

#: Mean counts above this are left to another generator: the time of the inversion grows with the mean.
INVERSION_LIMIT = 20.0


@exact
def accumulate_counts(uniform, mean, out):  # type: ignore[no-untyped-def]
    """Add up Poisson counts along time, made from uniform numbers by inversion of the distribution.

    ``uniform`` (T, n) in [0, 1), ``mean`` (n,) counts per frame, ``out`` (T, n) float32: the running sums.
    Columns whose mean is above ``INVERSION_LIMIT`` stay zero.
    """
    frames, n = uniform.shape
    start = np.empty(n)
    for j in range(n):
        start[j] = math.exp(-mean[j])
    total = np.zeros(n, np.float32)
    for i in range(frames):
        for j in range(n):
            if mean[j] <= INVERSION_LIMIT:
                u = uniform[i, j]
                term = start[j]
                below = term
                count = 0
                # beyond the smallest uniform step the sum no longer grows
                while u >= below and term > 1e-17:
                    count += 1
                    term *= mean[j] / count
                    below += term
                total[j] += np.float32(count)
            out[i, j] = total[j]


def pink_filter(slope: float, frames: int) -> tuple[NDArray[np.float32], ...]:
    """Describe a filter that turns white noise into noise of power ``f^-slope`` and unit variance.

    The response of fractional integration, ``h_k = h_{k-1} (k - 1 + slope/2) / k`` (N. Kasdin 1995, Proc.
    IEEE 83 802), is fitted by a sum of exponentials whose times grow by a factor of 3 up to the length of the
    ramp: the power is right within 10 % for slopes up to 1.4, at a few operations a sample.

    Returns
    -------
    decay, weight, start : (K,), (K,), (K, K) arrays
        Factor per frame, weight of the white noise, and the matrix that turns K white numbers into a
        stationary start of the K sections.
    """
    count = max(2, 1 + math.ceil(math.log(2 * frames / 0.3, 3)))
    decay = np.exp(-1 / (0.3 * 3.0 ** np.arange(count)))
    lag = np.arange(2 * frames)
    response = np.cumprod(np.concatenate([[1.0], (lag[1:] - 1 + slope / 2) / lag[1:]]))
    weight, _ = nnls(decay ** lag[:, None] / response[:, None], np.ones(lag.size))
    covariance = np.outer(weight, weight) / (1 - np.outer(decay, decay))
    norm = math.sqrt(covariance.sum())
    start = np.linalg.cholesky(covariance + 1e-12 * np.eye(count) * covariance.max())
    return decay.astype(np.float32), (weight / norm).astype(np.float32), (start / norm).astype(np.float32)


@exact
def pink_noise(white, begin, rms, decay, weight, start, out):  # type: ignore[no-untyped-def]
    """Add pink noise of ``rms`` (n,) to ``out`` (T, n), from normal ``white`` (T, n) and ``begin`` (K, n)."""
    frames, n = white.shape
    sections = decay.size
    state = np.zeros((sections, n), np.float32)
    for k in range(sections):
        for m in range(k + 1):
            for j in range(n):
                state[k, j] += start[k, m] * begin[m, j]
    for i in range(frames):
        for k in range(sections):
            for j in range(n):
                state[k, j] = decay[k] * state[k, j] + weight[k] * white[i, j]
        for j in range(n):
            total = np.float32(0)
            for k in range(sections):
                total += state[k, j]
            out[i, j] += rms[j] * total


@exact
def read_charge(charge, neighbour, corner, curvature, out):  # type: ignore[no-untyped-def]
    """Turn charge into signal: coupling of neighbours, then the shortfall ``q (1 - curvature q)``.

    ``charge`` (T, ny + 2, nx) [electron] has one row more on either side, ``curvature`` (ny, nx)
    [1 / electron], ``out`` (T, ny, nx) [electron]. What lies outside the detector is taken as empty.
    """
    frames, ny, nx = out.shape
    own = np.float32(1 - 4 * neighbour - 4 * corner)
    near = np.float32(neighbour)
    far = np.float32(corner)
    sides = np.zeros(nx + 2, np.float32)
    tips = np.zeros(nx + 2, np.float32)
    for i in range(frames):
        for y in range(ny):
            for x in range(nx):
                pair = charge[i, y, x] + charge[i, y + 2, x]
                tips[x + 1] = pair
                sides[x + 1] = charge[i, y + 1, x]
            for x in range(nx):
                q = (
                    own * sides[x + 1]
                    + near * (sides[x] + sides[x + 2] + tips[x + 1])
                    + far * (tips[x] + tips[x + 2])
                )
                out[i, y, x] = q - curvature[y, x] * q * q


@exact
def step_snr(frame, last, step, rate, pattern, out):  # type: ignore[no-untyped-def]
    """Ideal signal-to-noise of single steps: sigma, rate and frame known, pedestal and slope free.

    For each step: ``frame`` (n,) the first frame with the new level, ``last`` (n,) the number of usable
    frames, ``step`` (n,) amplitude / sigma, ``rate`` (n,) rate per mean interval / sigma^2. Fills ``out``
    (n,); a step with fewer than 3 usable frames, or beyond them, has none: 0.
    """
    frames = pattern.shape[1]
    used = np.arange(frames)
    model = np.empty((5, frames))
    weight = np.empty(frames)
    link = np.empty(frames)
    unit = np.empty(frames)
    scale = np.empty(frames)
    timing(pattern, used, model)
    for j in range(frame.size):
        out[j] = 0.0
        k = frame[j] - 1
        m = last[j] - 1
        if 0 <= k < m and m >= 2:
            factor(model, m, rate[j], weight, link, unit, scale)
            if scale[k] > 0:
                out[j] = step[j] / scale[k]


@exact
def shape_snr(shape, last, step, rate, pattern, out):  # type: ignore[no-untyped-def]
    """Ideal signal-to-noise of known time series ``step[j] * shape[j]`` (n, T), pedestal and slope free.

    ``last`` (n,) is the number of usable frames; fewer than 3 give 0. The rest is as in :func:`step_snr`.
    """
    frames = pattern.shape[1]
    used = np.arange(frames)
    model = np.empty((5, frames))
    weight = np.empty(frames)
    link = np.empty(frames)
    unit = np.empty(frames)
    scale = np.empty(frames)
    d = np.empty(frames)
    x = np.empty(frames)
    timing(pattern, used, model)
    for j in range(shape.shape[0]):
        out[j] = 0.0
        m = last[j] - 1
        if m >= 2:
            total = factor(model, m, rate[j], weight, link, unit, scale)
            for i in range(m):
                d[i] = shape[j, i + 1] - shape[j, i]
            square = solve(d, m, weight, link, x)
            slope = 0.0
            for i in range(m):
                slope += model[0, i] * x[i]
            out[j] = step[j] * math.sqrt(max(square - slope * slope / total, 0.0))
