"""The tridiagonal covariance of the differences of a ramp, and the factors every detector needs of it.

A ramp is ``y_i = a + b t_i + noise``: read noise, independent from read to read, and Poisson noise, which
accumulates. Its differences ``d_i = y_{i+1} - y_i`` have a tridiagonal covariance ``C``; in units of the
variance of one read, ``C = R + rho Q`` where ``rho`` is the ratio of the Poisson variance gathered in one
mean interval to the read variance. Reads may be averages, and unequal (resultants, groups).

Source: T. Brandt 2024, PASP 136 045004 and 045005 (covariance of resultants, likelihood of one omitted
difference); the recursions are the LDL' factorisation of a tridiagonal matrix.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .jit import exact

Float = NDArray[np.float64]

#: Rows of a timing array, each over the M = N - 1 differences of a ramp.
INTERVAL, READ_DIAGONAL, RATE_DIAGONAL, READ_OFF, RATE_OFF = range(5)


def read_pattern(
    read_times: ArrayLike, reads_per_frame: ArrayLike = 1, read_interval: ArrayLike | None = None
) -> Float:
    """Describe the frames of a ramp the way the covariance needs them.

    Parameters
    ----------
    read_times : (N,) array
        Mean time of the reads averaged into each frame [s], strictly increasing.
    reads_per_frame : int or (N,) array
        Number of reads averaged into each frame.
    read_interval : float or (N,) array, optional
        Time between the reads inside a frame [s]; by default they fill the time to the nearest frame evenly,
        as they do where no read is skipped.

    Returns
    -------
    (3, N) array
        Mean time, variance-weighted mean time (both in units of the mean interval between frames, from
        the first frame on) and ``1 / reads_per_frame``. A frame of ``r`` reads spaced by ``s`` has a
        variance-weighted mean time ``s (r - 1 / r) / 6`` before its mean: the double mean of the earlier
        of two of its reads.

    Raises
    ------
    ValueError
        If times do not increase, a frame has less than one read, or the reads of two frames overlap.
    """
    times = np.asarray(read_times, np.float64)
    count = np.broadcast_to(np.asarray(reads_per_frame, np.float64), times.shape)
    if times.ndim != 1 or times.size < 2 or not np.all(np.diff(times) > 0):
        raise ValueError("read_times must be a sequence of at least two increasing times")
    if np.any(count < 1):
        raise ValueError("reads_per_frame must be at least 1")
    gaps = np.diff(times)
    nearest = np.concatenate([gaps[:1], np.minimum(gaps[:-1], gaps[1:]), gaps[-1:]])
    spacing = nearest / count if read_interval is None else np.broadcast_to(read_interval, times.shape)
    reach = spacing * (count - 1) / 2
    if np.any(spacing < 0) or np.any(times[:-1] + reach[:-1] >= times[1:] - reach[1:]):
        raise ValueError(
            "read_interval is so long that the reads of two frames overlap: give the time in seconds"
        )
    unit = (times[-1] - times[0]) / (times.size - 1)
    scaled = (times - times[0]) / unit
    return np.stack([scaled, scaled - spacing / unit * (count - 1 / count) / 6, 1 / count])


@exact
def timing(pattern, used, out):
    """Fill ``out`` (5, M) with the covariance model of the differences between the reads in ``used`` (N,)."""
    for i in range(used.size - 1):
        a, b = used[i], used[i + 1]
        out[0, i] = pattern[0, b] - pattern[0, a]
        out[1, i] = pattern[2, a] + pattern[2, b]
        out[2, i] = pattern[1, a] + pattern[1, b] - 2 * pattern[0, a]
        out[3, i] = -pattern[2, b]
        out[4, i] = pattern[0, b] - pattern[1, b]


@exact
def factor(model, m, rho, weight, link, unit, scale):
    """Factor ``C = R + rho Q`` of the first ``m`` differences and prepare the step statistic.

    With ``q_i = (d_i + link_{i-1} q_{i-1}) weight_i`` going forward (``link`` holds minus the off-diagonal)
    and ``x_i = q_i + link_i weight_i x_{i+1}`` going backward, ``x = C^-1 d``.

    Fills ``weight`` (inverse pivots), ``link``, ``unit`` = ``C^-1 dt`` and ``scale`` =
    ``1 / sqrt([C^-1]_kk - unit_k^2 / total)``; returns ``total = dt' C^-1 dt``. The signed significance of a
    step between reads k and k+1 is ``z_k = (x_k - b unit_k) scale_k / sigma`` with ``b = dt' x / total``.
    """
    link[m - 1] = 0.0
    for i in range(m - 1):
        link[i] = -(model[3, i] + rho * model[4, i])
    weight[0] = 1.0 / (model[1, 0] + rho * model[2, 0])
    unit[0] = model[0, 0] * weight[0]
    for i in range(1, m):
        weight[i] = 1.0 / (model[1, i] + rho * model[2, i] - link[i - 1] * link[i - 1] * weight[i - 1])
        unit[i] = (model[0, i] + link[i - 1] * unit[i - 1]) * weight[i]
    total = unit[m - 1] * model[0, m - 1]
    for i in range(m - 2, -1, -1):
        unit[i] += link[i] * weight[i] * unit[i + 1]
        total += unit[i] * model[0, i]
    # [C^-1]_kk = 1 / (forward pivot + backward pivot - diagonal)
    back = 0.0
    for i in range(m - 1, -1, -1):
        diagonal = model[1, i] + rho * model[2, i]
        back = diagonal - link[i] * link[i] / back if i < m - 1 else diagonal
        inverse = 1.0 / (1.0 / weight[i] + back - diagonal)
        variance = inverse - unit[i] * unit[i] / total
        scale[i] = 1.0 / math.sqrt(variance) if variance > 1e-9 * inverse else 0.0
    return total


@exact
def solve(d, m, weight, link, x):
    """Solve ``C x = d`` for the first ``m`` differences with the factors of :func:`factor`; returns d' x."""
    x[0] = d[0] * weight[0]
    square = x[0] * d[0]
    for i in range(1, m):
        pivot = d[i] + link[i - 1] * x[i - 1]
        x[i] = pivot * weight[i]
        square += pivot * x[i]
    for i in range(m - 2, -1, -1):
        x[i] += link[i] * weight[i] * x[i + 1]
    return square
