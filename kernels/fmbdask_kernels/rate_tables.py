"""What the variance of a rate depends on, whatever the pixel: tables for a grid of rho.

See :mod:`.rates`, and :mod:`.cupy.rates` for GPUs, which mix two rates by them.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .covariance import factor, solve, timing
from .jit import exact
from .stepped import drift_covariance, trace_of_inverse
from .tables import Tables

Float = NDArray[np.float64]

#: Bins from which on the generalised rate is the best one by itself.
MIXED = 8


class RateTables(NamedTuple):
    """What the variance of a rate depends on, for a grid of ``rho`` (bins,).

    ``read`` and ``photon`` (3, bins): variance of the ordinary least-squares slope, of the generalised one,
    and their covariance, in units of the read variance (1/f noise included) and of the Poisson variance of
    one interval. ``poisson`` and ``white`` (bins,): what one unit of either adds to the residual sum of
    squares. ``drift``: 1/f variance per natural logarithm of frequency over the read variance;
    ``excess``: factor by which a variance of one read is too large that takes it for read noise.
    """

    read: NDArray[np.float32]
    photon: NDArray[np.float32]
    poisson: NDArray[np.float32]
    white: NDArray[np.float32]
    drift: float
    excess: float


def read_weights(weight: Float) -> Float:
    """Weights of reads (..., N) from those of their differences (..., M)."""
    edge = np.zeros((*weight.shape[:-1], 1))
    result: Float = -np.diff(weight, axis=-1, prepend=edge, append=edge)
    return result


def make_rates(pattern: Float, tables: Tables, drift: float) -> RateTables:
    """Tables for the frames that ``tables`` was made for; ``drift`` as in :class:`RateTables`."""
    n = pattern.shape[1]
    m = n - 1
    model = np.zeros((5, m))
    timing(pattern, np.arange(n), model)
    rho = tables.rho.astype(np.float64)
    plain = tables.slope_weight.astype(np.float64)
    unit = tables.ahead.reshape(rho.size, -1, 4)[:, :m, 3].astype(np.float64)
    best = unit / tables.total.astype(np.float64)[:, None]
    weights = np.concatenate([plain[None], best])

    def times(diagonal: int, off: int, values: Float) -> Float:
        out: Float = values * model[diagonal]
        out[:, :-1] += values[:, 1:] * model[off, :-1]
        out[:, 1:] += values[:, :-1] * model[off, :-1]
        return out

    read, photon = times(1, 3, weights), times(2, 4, weights)
    if drift > 0:
        # no matrix product, whose bits depend on the number of threads
        pink = np.einsum("bi,ij->bj", read_weights(weights), drift_covariance(pattern[0]))
        read = read + drift * np.diff(pink, axis=1)

    def forms(parts: Float) -> Float:
        rows = [[plain @ parts[0], b @ p, plain @ p] for b, p in zip(best, parts[1:], strict=True)]
        return np.array(rows, np.float64).T.copy()

    poisson = np.array(
        [
            trace_of_inverse(model, r) - u @ q / t
            for r, u, q, t in zip(rho, unit, times(2, 4, unit), unit @ model[0], strict=True)
        ]
    )
    white = m - 1 - rho * poisson
    plain_white = float(white[0])
    if drift > 0:
        slow = np.diff(np.diff(drift_covariance(pattern[0]), axis=0), axis=1)
        white = white + drift * np.array([drift_left(model, float(r), slow) for r in rho])
    parts = (forms(read), forms(photon), poisson, white)
    a, b, c, d = (np.ascontiguousarray(part, np.float32) for part in parts)
    return RateTables(a, b, c, d, float(drift), float(white[0]) / plain_white)


@exact
def drift_left(model, rho, drift):
    """What 1/f noise of covariance ``drift`` (M, M) adds to the residual sum of squares."""
    m = model.shape[1]
    weight, link, unit, scale, x = np.zeros((5, m))
    total = factor(model, m, rho, weight, link, unit, scale)
    left = 0.0
    for j in range(m):
        solve(drift[j], m, weight, link, x)
        along = 0.0
        for i in range(m):
            along += unit[i] * drift[j, i]
        left += x[j] - unit[j] * along / total
    return left
