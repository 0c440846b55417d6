"""From a stated false-alarm rate to a threshold, and from the scatter of many pixels to a prior of noise."""

from __future__ import annotations

import functools

import numpy as np
from fmbdask_kernels import covariance
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

Float = NDArray[np.float64]

#: Largest degrees of freedom of a prior: beyond it the variance counts as known.
MAX_DOF = 2e4
#: F-test level at which a pixel is too noisy for the prior and keeps its own variance.
NOISY = 1e-6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(24)

#: The stated false-alarm rate at which confidence and evidence were measured.
USUAL_RATE = 1e-5


def both_above(t: float, r: Float) -> Float:
    """Probability that two standard normal variates of correlation ``r`` both exceed ``t``.

    Source: Owen 1956, Ann. Math. Stat. 27 1075 (integral over the angle), by Gauss-Legendre quadrature.
    """
    angle = np.arcsin(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    theta = angle[:, None] * (_NODES + 1) / 2
    integral = (np.exp(-t * t / (1 + np.sin(theta))) * _WEIGHTS).sum(axis=1) * angle / 2
    result: Float = special.ndtr(-t) ** 2 + integral / (2 * np.pi)
    return result


def neighbour_correlations(pattern: Float, rho: float) -> Float:
    """Correlation of the step statistics of neighbouring differences, (M - 1,)."""
    n = pattern.shape[1]
    m = n - 1
    model = np.zeros((5, m))
    covariance.timing(pattern, np.arange(n), model)
    weight, link, unit, scale = np.zeros((4, m))
    total = covariance.factor(model, m, rho, weight, link, unit, scale)
    sound = scale > 0
    variance = np.where(sound, 1 / np.where(sound, scale, 1) ** 2, 0.0)
    diagonal = variance + unit**2 / total
    # [C^-1]_{k,k+1} follows from the backward recursion for the unit vector k + 1
    lagged = link[:-1] * weight[:-1] * diagonal[1:] - unit[:-1] * unit[1:] / total
    both = sound[1:] & sound[:-1]
    result: Float = lagged[both] * scale[1:][both] * scale[:-1][both]
    return result


def exceedance(t: float, correlations: Float) -> float:
    """Upper bound on the probability that the largest of a chain of statistics exceeds ``t``.

    Source: Hunter 1976, J. Appl. Prob. 13 597; Worsley 1982, Biometrika 69 297.
    """
    return float(special.ndtr(-t) * (correlations.size + 1) - both_above(t, correlations).sum())


@functools.lru_cache(4096)
def _threshold(pattern: bytes, n: int, rho: float, alpha: float) -> float:
    correlations = neighbour_correlations(np.frombuffer(pattern).reshape(3, n), rho)
    low, high = 0.5, 9.0
    for _ in range(40):
        middle = (low + high) / 2
        if exceedance(middle, correlations) > alpha:
            low = middle
        else:
            high = middle
    return high


def thresholds(pattern: Float, rho: Float, alpha: float) -> Float:
    """Significance that the largest step statistic of a clean ramp exceeds with probability ``alpha``.

    Parameters
    ----------
    pattern : (3, N) array
        Reads of the ramp, see :func:`fmbdask_kernels.covariance.read_pattern`.
    rho : (bins,) array
        Ratios of Poisson to read variance, increasing; interpolated between a few of them.
    alpha : float
        False-alarm rate per ramp.

    Returns
    -------
    (bins,) array
        Threshold [sigma].
    """
    knots = np.unique(np.r_[np.arange(0, rho.size, 6), rho.size - 1])
    key = np.ascontiguousarray(pattern, np.float64).tobytes()
    values = [_threshold(key, pattern.shape[1], float(rho[k]), alpha) for k in knots]
    result: Float = np.interp(np.log(rho), np.log(rho[knots]), values)
    return result


def skewness(rate: Float, sigma: Float, rho: Float) -> Float:
    """Skewness of the step statistic from Poisson arrivals, in the middle of a long ramp.

    Parameters
    ----------
    rate : array
        [electron per mean interval].
    sigma : array
        Noise of one read [electron].
    rho : array
        Ratio of variances that the statistic assumes.

    Notes
    -----
    Raise a threshold ``t`` by ``skewness * (t^2 - 1) / 6`` (Cornish and Fisher 1938).
    """
    theta = np.arccosh(1 + rho / 2)
    result: Float = rate / sigma**3 / np.tanh(1.5 * theta) / (2 * np.sinh(theta)) ** 1.5
    return result


def inverse_trigamma(value: float) -> float:
    """Solve ``trigamma(x) = value`` by Newton's method (Smyth 2004, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(50):
        tri = float(special.polygamma(1, x))
        change = tri * (1 - tri / value) / float(special.polygamma(2, x))
        x += change
        if abs(change) < 1e-8 * x:
            break
    return x


def variance_prior(variance: Float, nu: float) -> tuple[float, float, float]:
    """Prior of the variance of a pixel from those of many pixels.

    Parameters
    ----------
    variance : (K,) array
        Own variances with ``nu`` degrees of freedom each; a few may be far too large.
    nu : float
        Degrees of freedom.

    Returns
    -------
    variance, dof, noisy : float
        Prior variance, its degrees of freedom, and the ratio above which a pixel does not follow it.

    Notes
    -----
    Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3 3, with median and quantiles for mean and variance.
    """
    good = variance[np.isfinite(variance) & (variance > 0)]
    if good.size < 8:
        value = float(np.median(good)) if good.size else 1.0
        return value, 4.0, float(stats.f.isf(NOISY, nu, 4.0))
    logs = np.log(good) - special.digamma(nu / 2) + np.log(nu / 2)
    low, middle, high = np.percentile(logs, [15.87, 50, 84.13])
    # the noisy tail is on the upper side: it may widen the prior no more than the lower side allows
    width = min(high - middle, 1.5 * (middle - low))
    extra = (((middle - low) + width) / 2) ** 2 - float(special.polygamma(1, nu / 2))
    # the median of the logarithm of a scaled F variate, less what digamma has taken off for its mean
    shift = float(np.log(stats.chi2.median(nu) / nu)) - float(special.digamma(nu / 2)) + float(np.log(nu / 2))
    dof = min(2 * inverse_trigamma(extra), MAX_DOF) if extra > 2e-4 else MAX_DOF
    prior = (
        float(np.exp(middle - shift) * stats.chi2.median(dof) / dof)
        if dof < MAX_DOF
        else float(np.exp(middle - shift))
    )
    return prior, dof, float(stats.f.isf(NOISY, nu, dof))


def in_situ_scale(z: Float, expected: Float, firing: Float, share: float = 0.05) -> float:
    """Factor by which significances of one exposure are larger than stated.

    Parameters
    ----------
    z : (K,) array
        Largest significance of each pixel.
    expected, firing : (K,) array
        Thresholds exceeded by ``share`` and by 1e-3 of clean pixels; pixels beyond the latter, scaled, are
        taken as events and left out.

    Returns
    -------
    float
    """
    ratio = z / expected
    scale = 1.0
    for _ in range(8):
        keep = z < firing * scale
        if not keep.any():
            break
        new = float(np.quantile(ratio[keep], 1 - (share - 1e-3) / (1 - 1e-3)))
        if abs(new - scale) < 1e-4:
            return new
        scale = new
    return scale


def gaussian_equivalent(t: Float, nu: Float | float) -> Float:
    """Gaussian quantile of a Student t variate (Wallace 1959); array form of the kernel of the same name."""
    result: Float = np.sign(t) * (8 * nu + 1) / (8 * nu + 3) * np.sqrt(nu * np.log1p(t * t / nu))
    return result


def repeat_odds(times: ArrayLike, trials: ArrayLike, chance: ArrayLike) -> Float:
    """Log-likelihood ratio of what happened ``times`` in ``trials``: something of the place against chance.

    Parameters
    ----------
    times, trials : array
    chance : array
        Probability of it in one trial, by chance.

    Returns
    -------
    array
        ln of (uniform over all probabilities) / (``chance``), for a given order of outcomes.
    """
    k, n = np.asarray(times, np.float64), np.asarray(trials, np.float64)
    p = np.clip(np.asarray(chance, np.float64), 1e-12, 0.5)
    ratio: Float = special.betaln(k + 1, n - k + 1) - k * np.log(p) - (n - k) * np.log1p(-p)
    return ratio
