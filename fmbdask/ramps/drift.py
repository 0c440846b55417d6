"""How strong the 1/f noise of the pixels of an exposure is: the power of their slowest motions.

Noise that changes slowly adds little to the scatter from read to read, by which read noise is measured, and
much to that of rates. What of it is left once reference pixels and common offsets are taken out is the same
for all pixels of a kind, so it is measured on many together: polynomials in time, of degree two and more, see
neither the zero level nor the rate of a ramp. What neighbours do together is left out: the faint halos of
showers of charge are wide, and cover many pixels.
"""

from __future__ import annotations

import numpy as np
from fmbdask_kernels.covariance import timing
from fmbdask_kernels.rate_tables import drift_left
from fmbdask_kernels.stepped import drift_covariance
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

#: Degrees of the polynomials, and reads below which no drift is looked for.
DEGREES = (2, 3, 4, 5, 6, 7)
ENOUGH_READS = 16
#: Fewest pixels that show it, and how many standard errors it must exceed.
ENOUGH_PIXELS, CERTAIN = 200, 2.0
#: Scatter of the median of squares of normal deviates, times the root of their number, over the median.
MEDIAN_ERROR = 2.0 * 0.5 / (2.0 * stats.norm.pdf(stats.norm.ppf(0.75))) / stats.norm.ppf(0.75)


def slow_modes(pattern: Array) -> Array:
    """Orthonormal polynomials over the reads, blind to level and rate, (K, N); none for few reads."""
    times = pattern[0]
    if times.size < ENOUGH_READS:
        return np.zeros((0, times.size))
    modes = np.ascontiguousarray(legendre.legvander(2 * times / times[-1] - 1, DEGREES[-1]).T)
    for k, mode in enumerate(modes):
        # twice is enough (Gram and Schmidt), and sums have the same bits for any number of threads
        for _ in range(2):
            for other in modes[:k]:
                mode -= (mode * other).sum() * other
        mode /= np.sqrt((mode**2).sum())
    return modes[list(DEGREES)]


def measure_drift(
    slow: Array, variance: Array, light: Array, pattern: Array, modes: Array, rho: float
) -> float:
    """Measure the strength of 1/f noise.

    Parameters
    ----------
    slow : (K, P) array
        Amplitudes of the modes in the differences of P pairs of neighbours [DN].
    variance, light : (P,) array
        Sum of their variances of one read, and of their Poisson variances of one interval [DN^2].
    pattern : (3, N) array
        Their reads, see :func:`fmbdask_kernels.covariance.read_pattern`.
    modes : (K, N) array
        From :func:`slow_modes`.
    rho : float
        Ratio of Poisson to read variance that the fit assumed which ``variance`` comes from.

    Returns
    -------
    float
        Variance per natural logarithm of frequency in units of the read variance; 0 where none is seen.
    """
    if not modes.size or variance.size < ENOUGH_PIXELS:
        return 0.0
    n = pattern.shape[1]
    model = np.zeros((5, n - 1))
    timing(pattern, np.arange(n), model)
    weight = np.cumsum(modes[:, :0:-1], axis=1)[:, ::-1]
    read, photon = (
        (weight**2 * model[a]).sum(axis=1) + 2 * (weight[:, 1:] * weight[:, :-1] * model[b, :-1]).sum(axis=1)
        for a, b in ((1, 3), (2, 4))
    )
    covariance = drift_covariance(pattern[0])
    pink = np.einsum("ki,ij,kj->k", modes, covariance, modes)
    expected = read[:, None] * variance + photon[:, None] * np.maximum(light, 0)
    # the variance of two pixels comes from their own ramps
    usual = stats.f.median(1, 2 * (n - 2))
    # the median does not mind the few pixels that hold an event
    excess = np.median(slow**2 / expected, axis=1) / usual - 1
    share = np.median(pink[:, None] * variance / expected, axis=1)
    # the variance of a read was measured as if none of what a fit leaves over were drift
    slow_share = drift_left(model, rho, np.diff(np.diff(covariance, axis=0), axis=1)) / (n - 2)
    clear = share - slow_share * (1 + excess)
    strength = float(clear @ excess / (clear @ clear))
    error = MEDIAN_ERROR / np.sqrt(variance.size * float(clear @ clear))
    return strength if strength > CERTAIN * error else 0.0
