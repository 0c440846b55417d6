"""What is ordinary where an object is: the same measures of its nearest neighbours in other folds.

A measure that is high in all of a small cluster says nothing of its members. So the median of the
logarithms over the nearest objects of a reference sample is subtracted, and what is left of several
measures is made one score by their calibrated p-values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration
from .fusion import combine
from .moments import Moments, merge
from .reference import REFERENCE_ROWS, Reference, median_of
from .rows import Rows, by_tiles
from .summary import Summary

#: Neighbours of an object, and principal components of directions in which they are looked for.
NEIGHBOURS, COMPONENTS = 30, 32


@dataclass(frozen=True)
class Directions:
    """Principal components of the unit vectors of one modality, a set for each fold from the others.

    Attributes
    ----------
    modality : str
    mean : (K, D) float32
    vectors : (K, D, C) float32
    deviations : (K, C) float32
        Of the coordinates.
    """

    modality: str
    mean: NDArray[np.float32]
    vectors: NDArray[np.float32]
    deviations: NDArray[np.float32]

    @staticmethod
    def learn(summary: Summary, rows: Rows, modality: str, components: int) -> Directions:
        """Learn from rows; moments are taken once for all that learn from the same ones."""

        def moments() -> list[Moments]:
            units, folds = unit(rows.vectors[modality]), rows.folds(summary.folds)
            return [Moments.of(units[folds == k]) for k in range(summary.folds)]

        made = summary.made(("directions", modality, _digest(rows.keys)), moments)
        mean, vectors, deviations = [], [], []
        for fold in range(summary.folds):
            own = merge(m for k, m in enumerate(made) if k != fold or summary.folds == 1)
            values, axes = np.linalg.eigh(own.covariance)
            axes = axes[:, ::-1][:, :components]
            sign = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
            mean.append(own.mean)
            vectors.append(axes * sign)
            deviations.append(np.sqrt(np.maximum(values[::-1][:components], 1e-8 * max(values[-1], 1e-30))))
        return Directions(
            modality, *(np.ascontiguousarray(a, np.float32) for a in (mean, vectors, deviations))
        )

    def coordinates(self, fold: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coordinates of raw vectors (n, D) along the components of one fold."""
        found: NDArray[np.float32] = (unit(vectors) - self.mean[fold]) @ self.vectors[fold]
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is saved with a model."""
        names = ("mean", "vectors", "deviations")
        return {f"directions_{n}_{self.modality}": getattr(self, n) for n in names}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]], modality: str) -> Directions:
        """Inverse of :meth:`arrays`."""
        names = ("mean", "vectors", "deviations")
        return Directions(modality, *(arrays[f"directions_{n}_{modality}"] for n in names))


@dataclass(frozen=True)
class Surroundings:
    """Reference objects of one modality, seen from each fold.

    Attributes
    ----------
    directions : Directions
    references : tuple of Reference
        Of each fold: objects of the others.
    places : tuple of (n,) int64
        Of each fold: places of its reference among all reference objects.
    """

    directions: Directions
    references: tuple[Reference, ...]
    places: tuple[NDArray[np.int64], ...]

    @staticmethod
    def learn(summary: Summary, rows: Rows, modality: str) -> Surroundings:
        """Make references of rows, see :func:`reference_rows`; once for all that learn from the same ones."""

        def make() -> Surroundings:
            directions = Directions.learn(summary, rows, modality, COMPONENTS)
            folds = rows.folds(summary.folds)
            places = tuple(np.flatnonzero((folds != k) | (summary.folds == 1)) for k in range(summary.folds))
            references = tuple(
                Reference(directions.coordinates(k, rows.vectors[modality][own]), rows.keys[own])
                for k, own in enumerate(places)
            )
            return Surroundings(directions, references, places)

        return summary.made(("surroundings", modality, _digest(rows.keys)), make)

    @property
    def modality(self) -> str:
        """Name of the modality."""
        return self.directions.modality

    @cached_property
    def digest(self) -> str:
        """What tells these from others."""
        return hashlib.sha256(b"".join(r.points.tobytes() for r in self.references)).hexdigest()

    def nearest(self, rows: Rows) -> NDArray[np.int64]:
        """Places of the nearest reference objects of each row, the nearest first; -1 where there are fewer.

        Looked for once for all detectors that ask.

        Returns
        -------
        (n, NEIGHBOURS) int64
        """

        def apply(fold: int, vectors: NDArray[np.float32], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
            points = self.directions.coordinates(fold, vectors)
            _, found = self.references[fold].nearest(points, keys, NEIGHBOURS)
            return np.where(found < 0, -1, self.places[fold][found])

        def make() -> NDArray[Any]:
            count = len(self.references)
            return by_tiles([rows.vectors[self.modality], rows.keys], rows.folds(count), count, apply)

        return rows.made(("nearest", self.modality, self.digest), make)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is saved with a model."""
        found = self.directions.arrays()
        for fold, (own, places) in enumerate(zip(self.references, self.places, strict=True)):
            found[f"reference_points_{self.modality}_{fold}"] = own.points
            found[f"reference_places_{self.modality}_{fold}"] = places
        return found

    @staticmethod
    def from_arrays(
        arrays: Mapping[str, NDArray[Any]], modality: str, folds: int, keys: NDArray[np.uint64]
    ) -> Surroundings:
        """Inverse of :meth:`arrays`, with the keys of all reference objects."""
        places = tuple(arrays[f"reference_places_{modality}_{k}"] for k in range(folds))
        references = tuple(
            Reference(arrays[f"reference_points_{modality}_{k}"], keys[own]) for k, own in enumerate(places)
        )
        return Surroundings(Directions.from_arrays(arrays, modality), references, places)


@dataclass(frozen=True)
class Local:
    """Measures less those of the neighbours, and one score of all of them.

    Attributes
    ----------
    keys : (n,) uint64
        Of the reference objects.
    values : (n, M) float32
        Measures of the reference objects, each by the model that never saw it.
    surroundings : tuple of Surroundings
        One or more modalities: the highest of their medians is subtracted.
    calibrations : tuple of Calibration
        Of each measure.
    """

    keys: NDArray[np.uint64]
    values: NDArray[np.float32]
    surroundings: tuple[Surroundings, ...]
    calibrations: tuple[Calibration, ...] = ()

    @staticmethod
    def learn(summary: Summary, rows: Rows, modalities: Sequence[str], values: NDArray[Any]) -> Local:
        """Learn from reference rows and their measures (n, M)."""
        surroundings = tuple(Surroundings.learn(summary, rows, m) for m in modalities)
        one = Local(rows.keys, values.astype(np.float32), surroundings)
        left = one.left(rows, values)
        fitted = tuple(Calibration.fit(np.exp(column)) for column in left.T)
        return Local(one.keys, one.values, one.surroundings, fitted)

    def left(self, rows: Rows, values: NDArray[Any]) -> NDArray[np.float64]:
        """Measures (n, M), which are logarithms, less those of the neighbours."""
        out = np.empty(values.shape)
        for measure in range(values.shape[1]):
            known = self.values[:, measure].astype(np.float64)
            usual = np.max([median_of(known, s.nearest(rows)) for s in self.surroundings], axis=0)
            out[:, measure] = values[:, measure] - usual
        return np.clip(out, -300.0, 300.0)

    def score(self, rows: Rows, values: NDArray[Any]) -> NDArray[np.float64]:
        """Log odds against being ordinary, by the combined p-values of the measures; (n,)."""
        left = np.exp(self.left(rows, values))
        p = combine([c.p_value(column) for c, column in zip(self.calibrations, left.T, strict=True)])
        return np.log1p(-p) - np.log(p)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is saved with a model."""
        found: dict[str, NDArray[Any]] = {"reference_keys": self.keys, "reference_values": self.values}
        for own in self.surroundings:
            found |= own.arrays()
        for measure, calibration in enumerate(self.calibrations):
            found |= {f"measure_{measure}_{n}": v for n, v in calibration.arrays().items()}
        return found

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]], modalities: Sequence[str], folds: int) -> Local:
        """Inverse of :meth:`arrays`."""
        keys, values = arrays["reference_keys"], arrays["reference_values"]
        surroundings = tuple(Surroundings.from_arrays(arrays, m, folds, keys) for m in modalities)
        calibrations = tuple(
            Calibration.from_arrays(
                {n: arrays[f"measure_{k}_{n}"] for n in ("calibration", "calibration_bulk")}
            )
            for k in range(values.shape[1])
        )
        return Local(keys, values, surroundings, calibrations)


def reference_rows(summary: Summary, modalities: Sequence[str]) -> Rows:
    """Those that objects are compared with."""
    return learning_rows(summary, modalities, REFERENCE_ROWS)


def learning_rows(summary: Summary, modalities: Sequence[str], most: int) -> Rows:
    """Those of the sample that have these modalities; the smallest keys, so many at most."""
    sample = summary.sample
    valid = np.flatnonzero(sample.all_valid(modalities))
    chosen = np.sort(valid[np.argsort(sample.keys[valid], kind="stable")[:most]])
    return summary.made(("references", _digest(sample.keys[chosen])), lambda: sample.take(chosen))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors of length one; zeros stay."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))[:, None]
    found: NDArray[np.float32] = (vectors / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
    return found


def _digest(keys: NDArray[np.uint64]) -> str:
    return hashlib.sha256(np.ascontiguousarray(keys).tobytes()).hexdigest()
