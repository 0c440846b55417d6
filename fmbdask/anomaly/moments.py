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
        sums = Sums(vectors.shape[1])
        sums.add(vectors)
        return sums.moments()

    @staticmethod
    def none(width: int) -> Moments:
        """Those of no vectors; without room for sums."""
        return Moments(0, np.zeros(width), np.zeros((0, 0)))

    def merged(self, other: Moments) -> Moments:
        """Those of both together.

        Source: Chan, Golub & LeVeque 1983, The American Statistician 37, 242.
        """
        count = self.count + other.count
        if not self.count or not other.count:
            return self if self.count else other
        step = other.mean - self.mean
        weight = other.count / count
        scatter = np.outer(step, step)
        scatter *= self.count * weight
        scatter += self.scatter
        scatter += other.scatter
        return Moments(count, self.mean + weight * step, scatter)

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


class Sums:
    """Sums that become moments: about the mean of the first vectors, so that nothing large cancels.

    Parameters
    ----------
    width : int
        Features of a vector.
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.width = width
        self._shift = np.zeros(width)
        self._sum = np.zeros(width)
        self._products = np.zeros((width, width))

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add the rows of a matrix (n, D); n may be 0."""
        if not len(vectors):
            return
        values = vectors.astype(np.float64)
        if not self.count:
            self._shift = values.mean(axis=0)
        values -= self._shift
        self.count += len(values)
        self._sum += values.sum(axis=0)
        self._products += values.T @ values  # numpy sees a symmetric product and does half the work

    def moments(self) -> Moments:
        """Those of all vectors that were added; nothing can be added afterwards."""
        if self.count:
            self._products -= np.outer(self._sum, self._sum) / self.count
        step = self._sum / max(1, self.count)
        return Moments(self.count, self._shift + step, self._products)


def merge(moments: Iterable[Moments]) -> Moments:
    """Those of all together, merged one after the other."""
    return reduce(Moments.merged, moments)
