"""Eigenvalues of a covariance as they are, from those of a sample: sampling spreads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

ROOT5 = float(np.sqrt(5.0))
#: Deviations below this share of the length of typical vectors are rounding of float32.
ROUNDING = 2.0**-21
#: Fewest vectors for which eigenvalues are shrunk.
FEWEST_SHRUNK = 12


def floor(values: Float) -> float:
    """Variance that cannot be told from rounding, given all eigenvalues."""
    return float(values.sum() * ROUNDING**2)


def shrink(values: Float, count: int) -> Float:
    """Shrink the eigenvalues of a sample covariance.

    Analytical nonlinear shrinkage: each eigenvalue moves by what the density of eigenvalues around it says,
    the many small ones of a small sample up, the largest ones down; also with fewer vectors than features,
    whose empty directions get a variance. With many vectors hardly anything moves, so directions of small
    variance keep it, unlike under a shift of all towards their mean.

    Source: Ledoit & Wolf 2020, Annals of Statistics 48, 3043, equations 4.7-4.9 and C.1-C.7.

    Parameters
    ----------
    values : (D,) float64
        Eigenvalues, descending.
    count : int
        Vectors they come from.

    Returns
    -------
    (D,) float64
        Descending, none below :func:`floor`.
    """
    least = floor(values)
    n = count - 1  # the mean was estimated
    live = values[: max(n, 0)]
    live = live[live > least][::-1]
    shrunk = np.full(len(values), least)
    if n < FEWEST_SHRUNK or len(live) < 2:
        shrunk = values.copy()
        return shrunk.clip(least)
    # features that never vary are no dimensions to the law
    p = len(values) if len(values) > n else len(live)
    small, empty = _kernel_estimate(live, n, p)
    shrunk[: len(live)] = np.maximum.accumulate(small)[::-1]
    if p > n:
        shrunk[len(live) :] = min(empty, float(shrunk[len(live) - 1]))
    return shrunk.clip(least)


def _kernel_estimate(values: Float, n: int, p: int) -> tuple[Float, float]:
    """Shrunk eigenvalues, ascending as given, and the variance of each empty direction."""
    h = n ** (-1.0 / 3.0)
    widths = h * values[None, :]
    x = (values[:, None] - values[None, :]) / widths
    density = (0.75 / ROOT5) * (np.maximum(1.0 - x**2 / 5.0, 0.0) / widths).mean(axis=1)
    transform = (_hilbert(x) / widths).mean(axis=1)
    ratio = p / n
    if p <= n:
        bottom: Float = (np.pi * ratio * values * density) ** 2
        bottom += (1.0 - ratio - np.pi * ratio * values * transform) ** 2
        return values / bottom, 0.0
    at_zero = 0.3 / h**2 + 0.75 / ROOT5 / h * (1.0 - 0.2 / h**2) * np.log((1 + ROOT5 * h) / (1 - ROOT5 * h))
    at_zero *= (1.0 / values).mean() / np.pi
    empty = 1.0 / (np.pi * (ratio - 1.0) * at_zero)
    return values / (np.pi**2 * values**2 * (density**2 + transform**2)), empty


def _hilbert(x: Float) -> Float:
    """Hilbert transform of the Epanechnikov kernel: equation 4.8, and its series where that would cancel."""
    edge = np.abs(np.abs(x) - ROOT5) < 1e-9
    far = np.abs(x) > 20.0
    near = np.where(edge | far, 0.0, x)
    log = np.log(np.abs((ROOT5 - near) / (ROOT5 + near)))
    found: Float = (-0.3 / np.pi) * near + (0.75 / ROOT5 / np.pi) * (1.0 - near**2 / 5.0) * log
    found[edge] = (-0.3 / np.pi) * x[edge]
    u = ROOT5 / x[far]
    terms = [u ** (2 * k + 1) / ((2 * k + 1) * (2 * k + 3)) for k in range(8)]
    found[far] = (-3.0 / ROOT5 / np.pi) * np.sum(terms, axis=0)
    return found
