"""Vectors whose energy lies where it does not in others of their own noise and neighbourhood."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from .basis import SPAN, Basis
from .detector import Detector
from .mahalanobis import checked_variances, variances
from .protocol import Report
from .rows import Rows
from .summary import Summary
from .surroundings import Local, reference_rows

#: Rows that are measured at a time.
PART = 2048
#: Neighbouring components that are taken together.
BLOCK = 8
#: Energies above so many times what noise would explain do not count in what is usual, which is never below
#: the second.
TRIM, FLOOR = 30.0, 0.02


class Contrast(Detector):
    """How unevenly the energy of a vector is spread over the principal components, next to its neighbours.

    Each component counts in units of what is ordinary along it. The median over the components beyond the
    span tells the noise of the object itself. Of each eight components, how their mean energy usually depends
    on that noise is learnt, as a straight line: signals do not grow with noise. There are two measures: the
    largest ratio of such a mean to what is usual at the object's noise; and, beyond the span, the ratio of
    the mean energy of the half of the components that varies least to that of the other half. Of the
    logarithm of each, the median over the nearest objects is subtracted. The score is the log odds against
    being ordinary by their combined p-values.

    Noise with heavy tails, brightness that scatters and small clusters of ordinary objects raise distances as
    anomalies do, and hardly change these.

    Parameters
    ----------
    folds, seed : int
        See :class:`~fmbdask.anomaly.detector.Detector`.
    """

    kind: ClassVar[str] = "contrast"

    def __init__(self, *, folds: int = 5, seed: int = 0) -> None:
        super().__init__(folds=folds, seed=seed)
        self.basis: Basis | None = None
        self.variances: NDArray[np.float64] | None = None
        self.usual: NDArray[np.float64] | None = None
        self.local: Local | None = None

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Components of each fold, what is usual along them, and the measures of reference objects."""
        (modality,) = self.modalities
        self.basis = Basis.learn(summary, modality, progress)
        self.variances = variances(self.basis)
        rows = reference_rows(summary, self.modalities)
        noise, _, blocks = self._energies(rows)
        folds = rows.folds(self.folds)
        self.usual = np.stack(
            [
                _usual(noise[own], blocks[own])
                for own in ((folds != k) | (self.folds == 1) for k in range(self.folds))
            ]
        )
        self.local = Local.learn(summary, rows, self.modalities, self._measures(rows))

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Log odds against being ordinary; (n,)."""
        assert self.local is not None
        return self.local.score(rows, self._measures(rows))

    def state(self) -> Checkpoint:
        """Components, what is usual along them, and reference objects."""
        assert self.basis is not None
        assert self.variances is not None
        assert self.usual is not None
        assert self.local is not None
        own = {"variances": self.variances, "usual": self.usual}
        return Checkpoint(self.kind, {**self.basis.arrays(), **own, **self.local.arrays()}, {})

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        (modality,) = self.modalities
        width = self.widths[modality]
        self.basis = Basis.from_arrays(saved.arrays, modality, self.folds, width)
        self.variances = checked_variances(saved.arrays["variances"], self.folds, width)
        self.usual = saved.arrays["usual"]
        if self.usual.shape != (self.folds, 2, -(-width // BLOCK)):
            raise ValueError(f"energies that are usual have the shape {self.usual.shape}")
        self.local = Local.from_arrays(saved.arrays, self.modalities, self.folds)

    def _measures(self, rows: Rows) -> NDArray[np.float64]:
        """Logarithms of both measures; (n, 2)."""
        assert self.usual is not None
        noise, half, blocks = self._energies(rows)
        usual = self.usual[rows.folds(self.folds)]
        blocks /= usual[:, 0] + noise[:, None] * usual[:, 1]
        return np.stack([_logarithm(blocks.max(axis=1)), half], axis=1)

    def _energies(self, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Noise (n,), logarithm of the ratio of the halves beyond the span (n,), energy of blocks (n, B)."""
        assert self.basis is not None
        assert self.variances is not None
        width = self.basis.width
        cut, span = min(SPAN, width), min(SPAN, width // 2)
        parts = [(first, last) for first, last in ((0, cut), (cut, width)) if last > first]
        found = [self.basis.coordinates(rows, first, last) for first, last in parts]
        folds, scale = rows.folds(self.folds), (1.0 / self.variances).astype(np.float32)
        starts = np.arange(0, width, BLOCK)
        counts = np.diff(np.append(starts, width))
        noise, half = np.empty(len(rows)), np.zeros(len(rows))
        blocks = np.empty((len(rows), len(starts)))
        for begin in range(0, len(rows), PART):
            own = slice(begin, begin + PART)
            energy = np.concatenate([c[own] for c in found], axis=1) ** 2 * scale[folds[own]]
            blocks[own] = np.add.reduceat(energy, starts, axis=1) / counts
            beyond = energy[:, span:]
            noise[own] = np.median(beyond, axis=1)
            middle = beyond.shape[1] // 2
            if middle:
                upper, lower = beyond[:, middle:].mean(axis=1), beyond[:, :middle].mean(axis=1)
                half[own] = _logarithm(upper) - _logarithm(lower)
        return noise, half, blocks


def _usual(noise: NDArray[np.float64], blocks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Level and slope of energies (n, B) over the objects' noise (n,), by weighted least squares; (2, B)."""
    weights = 1.0 / (1.0 + noise) ** 2
    given = np.stack([np.ones_like(noise), noise], axis=1)
    energies = np.minimum(blocks, TRIM * (1.0 + noise)[:, None])
    gram = (given * weights[:, None]).T @ given
    gram[np.diag_indices(2)] += 1e-9 * np.trace(gram)
    found = np.linalg.solve(gram, (given * weights[:, None]).T @ energies)
    return np.asarray(np.maximum(found, FLOOR), np.float64)


def _logarithm(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.log(np.maximum(values.astype(np.float64), 1e-30))
