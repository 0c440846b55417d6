"""Principal components, one set for each fold, from the moments of the other folds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .rows import Rows, by_tiles
from .summary import Summary

#: Components in which most detectors look for anomalies; coordinates are made up to here and beyond apart, so
#: that all detectors share them.
SPAN = 100


@dataclass(frozen=True)
class Basis:
    """Mean, eigenvalues and eigenvectors of the covariance of the other folds, for each fold.

    The sign of an eigenvector is such that its largest element is positive. Those of equal eigenvalues are
    as LAPACK gives them: sums of squares over all of them do not depend on that.

    Attributes
    ----------
    modality : str
    counts : (K,) int64
        Vectors they come from.
    mean : (K, D) float64
    values : (K, D) float64
        Eigenvalues of the sample covariance, descending.
    vectors : (K, D, C) float32
        Eigenvectors ``first`` to ``first + C``, as columns.
    first : int
    """

    modality: str
    counts: NDArray[np.int64]
    mean: NDArray[np.float64]
    values: NDArray[np.float64]
    vectors: NDArray[np.float32]
    first: int = 0

    @staticmethod
    def learn(
        summary: Summary, modality: str, progress: Callable[[int, int, str], None] | None = None
    ) -> Basis:
        """All components; made once for all detectors that learn from a summary.

        Raises
        ------
        InputError
            If all vectors are equal, or all objects are in one fold.
        """
        return summary.made(("basis", modality), lambda: _learn(summary, modality, progress))

    @property
    def folds(self) -> int:
        """Number of folds."""
        return len(self.counts)

    @property
    def width(self) -> int:
        """Features of a vector."""
        return int(self.mean.shape[1])

    @property
    def last(self) -> int:
        """One after the last component that is held."""
        return self.first + int(self.vectors.shape[2])

    def check_span(self, span: int, objects: int) -> None:
        """Refuse more components than there are vectors to tell them from.

        Raises
        ------
        InputError
            If there are too few, with how many are needed.
        """
        if int(self.counts.min()) < span + 2:
            enough = int(np.ceil(1.2 * (span + 2) * self.folds / max(1, self.folds - 1)))
            raise InputError(
                f"{objects} objects in {self.folds} folds are too few for {span} components: give at least "
                f"{enough}, or a smaller span"
            )

    def part(self, first: int, last: int) -> Basis:
        """The same basis with some of its components only: less to hold and to save."""
        own = self.vectors[:, :, first - self.first : last - self.first]
        return Basis(self.modality, self.counts, self.mean, self.values, np.ascontiguousarray(own), first)

    @cached_property
    def digest(self) -> str:
        """What tells one basis from another, whichever of its components are held."""
        whole = hashlib.sha256()
        for array in (self.counts, self.mean, self.values):
            whole.update(np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()

    def coordinates(self, rows: Rows, first: int, last: int) -> NDArray[np.float32]:
        """Coordinates of rows along components ``first`` to ``last``, each in the basis of its fold.

        Made once for all detectors that want the same ones of the same rows.

        Parameters
        ----------
        rows : Rows
            That have the modality.
        first, last : int
            Among the components that are held.

        Returns
        -------
        (n, last - first) float32
            A row has the same bits whatever rows are beside it.
        """
        made = ("coordinates", self.modality, self.digest, first, last)
        return rows.made(made, lambda: self._coordinates(rows, first, last))

    def centred(self, fold: int, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors less the mean of a fold, subtracted in float64: it may be far larger than they vary."""
        centred: NDArray[np.float32] = (tile - self.mean[fold]).astype(np.float32)
        return centred

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is saved with a model."""
        return {
            "basis_counts": self.counts,
            "basis_mean": self.mean,
            "basis_values": self.values,
            "basis_vectors": self.vectors,
            "basis_first": np.array([self.first], np.int64),
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]], modality: str, folds: int, width: int) -> Basis:
        """Inverse of :meth:`arrays`.

        Raises
        ------
        ValueError
            If they are not of so many folds and features, or not finite.
        """
        vectors, first = arrays["basis_vectors"], int(arrays["basis_first"][0])
        last = first + vectors.shape[-1]
        known = {
            "basis_counts": ((folds,), np.int64),
            "basis_mean": ((folds, width), np.float64),
            "basis_values": ((folds, width), np.float64),
            "basis_vectors": ((folds, width, last - first), np.float32),
        }
        for name, (shape, dtype) in known.items():
            array = arrays[name]
            if array.shape != shape or array.dtype != dtype or not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite {np.dtype(dtype)} of shape {shape}")
        if not 0 <= first <= last <= width:
            raise ValueError(f"components {first} to {last} of {width} features")
        counts, mean, values = (arrays[f"basis_{name}"] for name in ("counts", "mean", "values"))
        return Basis(modality, counts, mean, values, vectors, first)

    def _coordinates(self, rows: Rows, first: int, last: int) -> NDArray[np.float32]:
        columns = slice(first - self.first, last - self.first)

        def apply(fold: int, tile: NDArray[np.float32]) -> NDArray[np.float32]:
            found: NDArray[np.float32] = self.centred(fold, tile) @ self.vectors[fold][:, columns]
            return found

        return by_tiles([rows.vectors[self.modality]], rows.folds(self.folds), self.folds, apply)


def _learn(summary: Summary, modality: str, progress: Callable[[int, int, str], None] | None) -> Basis:
    moments = summary.moments[modality]
    folds, width = summary.folds, len(moments[0].mean)
    counts, mean = np.zeros(folds, np.int64), np.zeros((folds, width))
    values, vectors = np.zeros((folds, width)), np.empty((folds, width, width), np.float32)
    for fold in range(folds):
        if progress is not None:
            progress(fold, folds, f"components of {modality}")
        own = summary.without(modality, fold)
        if own.count < 2:
            raise InputError(
                f"all objects with a vector of {modality} are in one of {folds} folds: give fewer folds, or "
                "group by a column of more values"
            )
        counts[fold], mean[fold] = own.count, own.mean
        found, columns = np.linalg.eigh(own.covariance)
        columns = columns[:, ::-1]
        largest = np.abs(columns).argmax(axis=0)
        sign = np.sign(columns[largest, np.arange(width)])
        values[fold], vectors[fold] = np.maximum(found[::-1], 0.0), columns * sign
        spread = float(np.trace(own.scatter)) / (own.count * max(1.0, float(own.mean @ own.mean)))
        if not values[fold, 0] > 0.0 or spread < 1e-15 * width:
            raise InputError(
                f"all vectors of {modality} are equal: there is nothing that an anomaly could be told from"
            )
    return Basis(modality, counts, mean, values, vectors)
