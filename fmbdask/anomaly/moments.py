"""Count, mean and scatter of vectors: sums that merge, in float64."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


@dataclass(frozen=True)
class Moments:
    """First and second moments of some vectors.

    Attributes
    ----------
    count : int
    mean : (D,) float64
    scatter : (D, D) float64
        Sum of (x - mean)(x - mean)'.
    """

    count: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]

    @staticmethod
    def of(vectors: NDArray[np.float32]) -> Moments:
        """Those of the rows of a matrix (n, D); n may be 0."""
        values = vectors.astype(np.float64)
        mean = values.mean(axis=0) if len(values) else np.zeros(values.shape[1])
        values -= mean
        return Moments(len(values), mean, values.T @ values)

    def merged(self, other: Moments) -> Moments:
        """Those of both together.

        Source: Chan, Golub & LeVeque 1983, The American Statistician 37, 242.
        """
        count = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        step = other.mean - self.mean
        weight = other.count / count
        return Moments(
            count,
            self.mean + weight * step,
            self.scatter + other.scatter + (self.count * weight) * np.outer(step, step),
        )

    @property
    def covariance(self) -> NDArray[np.float64]:
        """Sample covariance (D, D).

        Raises
        ------
        InputError
            With fewer than two vectors.
        """
        if self.count < 2:
            raise InputError(f"{self.count} vectors have no covariance: give more objects")
        return self.scatter / (self.count - 1)


def merge(moments: Iterable[Moments]) -> Moments:
    """Those of all together, merged one after the other."""
    return reduce(Moments.merged, moments)
