"""The smallest error that any unbiased estimate of a rate can have, everything but the ramp being known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fmbdask_kernels.simulation import pink_filter
from numpy.typing import NDArray
from scipy import linalg

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Knots of the table of ideal errors, in the ratio of Poisson to read variance.
RHO = np.geomspace(1e-6, 1e3, 60)


@dataclass(frozen=True)
class Ideal:
    """Noise of ramps of evenly spaced reads.

    ``frames`` reads; 1/f noise of variance ``pink`` in units of the read variance, its power falling with
    frequency to the power ``slope``.
    """

    frames: int
    pink: float = 0.0
    slope: float = 1.0

    def errors(
        self, light: Float, sigma: Float, begins: Bool | None = None, last: int | None = None
    ) -> Float:
        """Error of generalised least squares with known covariance, free pedestal and free steps.

        Parameters
        ----------
        light : (K,) array
            Poisson variance of one interval [electron^2].
        sigma : (K,) array
            Noise of one read [electron].
        begins : (frames,) bool array, optional
            First read of each new level.
        last : int, optional
            Reads from this one on are not used.

        Returns
        -------
        (K,) array
            [electron / frame], infinite where nothing tells the rate.
        """
        n = self.frames if last is None else last
        m = n - 1
        free = np.ones(max(m, 0), bool) if begins is None else ~begins[1:n]
        if not free.any():
            return np.full(light.shape, np.inf)
        return self._solve(light, sigma, np.flatnonzero(free), m)

    def with_shape(self, light: float, sigma: float, shape: Float, begins: Bool, last: int) -> float:
        """Error of the rate of one ramp with a known time series (frames,) of unknown size beside it."""
        free = np.flatnonzero(~begins[1:last])
        cov = self._covariance(light / sigma**2, last - 1)[np.ix_(free, free)]
        design = np.stack([np.ones(free.size), np.diff(shape[:last])[free]], axis=1)
        design = design[:, np.abs(design).sum(axis=0) > 0]
        normal = design.T @ linalg.solve(cov, design, assume_a="pos")
        return float(sigma * np.sqrt(np.linalg.pinv(normal)[0, 0]))

    def _solve(self, light: Float, sigma: Float, free: NDArray[np.intp], m: int) -> Float:
        rho = np.clip(light / sigma**2, RHO[0], RHO[-1])
        knots = rho if rho.size <= RHO.size else RHO
        information = np.array([self._information(float(r), free, m) for r in knots])
        if knots is RHO:
            information = np.exp(np.interp(np.log(rho), np.log(RHO), np.log(information)))
        return np.asarray(sigma / np.sqrt(information), np.float64)

    def _information(self, rho: float, free: NDArray[np.intp], m: int) -> float:
        ones = np.ones(free.size)
        if self.pink:
            cov = self._covariance(rho, m)[np.ix_(free, free)]
            return float(ones @ linalg.solve(cov, ones, assume_a="pos"))
        bands = np.zeros((2, free.size))
        bands[0, 1:] = np.where(np.diff(free) == 1, -1.0, 0.0)
        bands[1] = 2.0 + rho
        return float(ones @ linalg.solveh_banded(bands, ones))

    def _covariance(self, rho: float, m: int) -> Float:
        """Covariance of the first ``m`` differences in units of the read variance."""
        cov = np.diag(np.full(m, 2.0 + rho)) - np.eye(m, k=1) - np.eye(m, k=-1)
        if self.pink:
            decay, weight, _ = (a.astype(np.float64) for a in pink_filter(self.slope, self.frames))
            power = np.outer(weight, weight) / (1 - np.outer(decay, decay))
            series = power.sum(axis=0) @ decay[:, None] ** np.arange(m + 1)
            cov += self.pink * np.diff(np.diff(linalg.toeplitz(series), axis=0), axis=1)
        return cov


def ideal_error(rate: Float, sigma: Float, frames: int) -> Float:
    """Smallest error of the rate of a ramp without events.

    Parameters
    ----------
    rate : array
        True rate [electron / frame].
    sigma : array
        Noise of one read [electron].
    frames : int
        Reads of the ramp, evenly spaced.

    Returns
    -------
    array
        [electron / frame]
    """
    return Ideal(frames).errors(np.asarray(rate, np.float64), np.asarray(sigma, np.float64))
