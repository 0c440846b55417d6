"""Vectors whose energy lies where it does not with others of their own noise and neighbourhood."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from .basis import SPAN, Basis
from .detector import Detector, Report
from .mahalanobis import checked_variances, variances
from .rows import Rows
from .summary import Summary
from .surroundings import Local, reference_rows

#: Rows that are measured at a time.
PART = 2048


class Contrast(Detector):
    """How unevenly the energy of a vector is spread over the principal components, next to its neighbours.

    Each component counts in units of what is ordinary along it. The median over the components beyond the
    span tells the noise of the object itself: to it are compared the mean energy within the span, the mean
    beyond, and the largest of one component. With the mean over all components as it is, these are four
    measures; of the logarithm of each, the median over the nearest objects is subtracted. The score is the
    log odds against being ordinary by their combined p-values.

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
        self.local: Local | None = None

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Components of each fold, the variance along each, and the measures of reference objects."""
        (modality,) = self.modalities
        self.basis = Basis.learn(summary, modality, progress)
        self.variances = variances(self.basis)
        rows = reference_rows(summary, self.modalities)
        self.local = Local.learn(summary, rows, self.modalities, self._measures(rows))

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Log odds against being ordinary; (n,)."""
        assert self.local is not None
        return self.local.score(rows, self._measures(rows))

    def state(self) -> Checkpoint:
        """Components, variances and reference objects."""
        assert self.basis is not None
        assert self.variances is not None
        assert self.local is not None
        arrays = {**self.basis.arrays(), "variances": self.variances, **self.local.arrays()}
        return Checkpoint(self.kind, arrays, {})

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        (modality,) = self.modalities
        width = self.widths[modality]
        self.basis = Basis.from_arrays(saved.arrays, modality, self.folds, width)
        self.variances = checked_variances(saved.arrays["variances"], self.folds, width)
        self.local = Local.from_arrays(saved.arrays, self.modalities, self.folds)

    def _measures(self, rows: Rows) -> NDArray[np.float64]:
        """Logarithms of the four measures; (n, 4)."""
        assert self.basis is not None
        assert self.variances is not None
        width = self.basis.width
        cut = min(SPAN, width)
        parts = [(first, last) for first, last in ((0, cut), (cut, width)) if last > first]
        found = [self.basis.coordinates(rows, first, last) for first, last in parts]
        folds, out = rows.folds(self.folds), np.empty((len(rows), 4))
        scale = (1.0 / self.variances).astype(np.float32)
        for begin in range(0, len(rows), PART):
            own = slice(begin, begin + PART)
            energy = np.concatenate([c[own] for c in found], axis=1) ** 2 * scale[folds[own]]
            out[own] = _measures_of(energy, min(SPAN, width // 2))
        return out


def _measures_of(energy: NDArray[np.float32], span: int) -> NDArray[np.float64]:
    """Measures of energies (n, D) with so many components in the span."""
    tiny = np.float64(1e-30)
    beyond = energy[:, span:]
    noise = np.median(beyond, axis=1).astype(np.float64)
    logs = [
        np.log(np.maximum(measure.astype(np.float64), tiny))
        for measure in (
            energy[:, : max(span, 1)].mean(axis=1),
            beyond.mean(axis=1),
            energy.max(axis=1),
            energy.mean(axis=1),
        )
    ]
    found: NDArray[np.float64] = np.stack(logs, axis=1)
    found[:, :3] -= np.log(np.maximum(noise, tiny))[:, None]
    return found
