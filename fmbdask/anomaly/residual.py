"""What the first principal components leave of a vector."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from fmbdask_kernels.vectors import weighted_squares
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..errors import InputError
from .basis import SPAN, Basis
from .detector import Detector
from .mahalanobis import checked_variances, pieces, variances
from .protocol import Report
from .rows import Rows, by_tiles
from .summary import Summary

#: Share of the variance that narrow vectors' components hold which are taken away.
SHARE = 0.9


class Residual(Detector):
    """Length of what lies beyond the span of the first principal components.

    Anomalies that are unlike anything in a survey leave its span; this also finds what shifts along
    directions in which hardly anything varies, where no distance within the span looks.

    Parameters
    ----------
    span : int, optional
        Components that are taken away. By default 100, and of vectors that have no more features, or of too
        few objects for as many, the fewest that hold 90 % of the variance; :attr:`taken` says how many.
    whiten : bool
        Whether each direction beyond counts in units of what is ordinary along it; if not, the score is the
        error of the reconstruction from the span, in the units of the features.
    folds, seed : int
        See :class:`~fmbdask.anomaly.detector.Detector`.
    """

    kind: ClassVar[str] = "residual"

    def __init__(
        self, *, span: int | None = None, whiten: bool = True, folds: int = 5, seed: int = 0
    ) -> None:
        super().__init__(folds=folds, seed=seed)
        if span is not None and span < 1:
            raise InputError(f"a span of {span} components cannot be: give 1 or more")
        self.span, self.whiten = span, whiten
        #: Components that were taken away.
        self.taken = 0
        self.basis: Basis | None = None
        self.variances: NDArray[np.float64] | None = None

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Components of each fold, and the variance along those beyond the span."""
        (modality,) = self.modalities
        whole = Basis.learn(summary, modality, progress)
        span = self._span(whole) if self.span is None else self.span
        if whole.width <= span:
            raise InputError(
                f"{span} components leave nothing of {whole.width} features: give a smaller span"
            )
        whole.check_span(span, summary.objects)
        self.taken = span
        self.basis = whole.part(span, whole.width) if self.whiten else whole.part(0, span)
        self.variances = variances(whole)[:, span:] if self.whiten else None

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Lengths of what is left; (n,)."""
        assert self.basis is not None
        if self.variances is None:
            return self._errors(self.basis, rows)
        total = np.zeros(len(rows))
        for first, last in pieces(self.basis.width, self.taken):
            found = self.basis.coordinates(rows, first, last)
            weights = 1.0 / self.variances[:, first - self.taken : last - self.taken]
            total += weighted_squares(found, rows.folds(self.folds), weights)
        return np.sqrt(total)

    def state(self) -> Checkpoint:
        """Settings, components and variances."""
        assert self.basis is not None
        arrays = self.basis.arrays()
        if self.variances is not None:
            arrays["variances"] = self.variances
        return Checkpoint(self.kind, arrays, {"span": self.span, "taken": self.taken, "whiten": self.whiten})

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        (modality,) = self.modalities
        width = self.widths[modality]
        self.span = None if saved.meta["span"] is None else int(saved.meta["span"])
        self.taken, self.whiten = int(saved.meta["taken"]), bool(saved.meta["whiten"])
        self.basis = Basis.from_arrays(saved.arrays, modality, self.folds, width)
        if (self.basis.first, self.basis.last) != ((self.taken, width) if self.whiten else (0, self.taken)):
            raise ValueError(
                f"components {self.basis.first} to {self.basis.last} with a span of {self.taken}"
            )
        self.variances = None
        if self.whiten:
            self.variances = checked_variances(saved.arrays["variances"], self.folds, width - self.taken)

    def _span(self, whole: Basis) -> int:
        """Components that are taken away where no number is given: as many in all folds."""
        if whole.width > SPAN and int(whole.counts.min()) >= SPAN + 2:
            return SPAN
        shares = np.cumsum(whole.values, axis=1) / whole.values.sum(axis=1, keepdims=True)
        enough = int((shares < SHARE).sum(axis=1).max()) + 1
        return max(1, min(enough, whole.width - 1, int(whole.counts.min()) - 2))

    def _errors(self, basis: Basis, rows: Rows) -> NDArray[np.float64]:
        """Euclidean distance of vectors from their reconstruction."""
        vectors = rows.vectors[basis.modality]
        inside = [basis.coordinates(rows, first, last) for first, last in pieces(self.taken)]
        folds = rows.folds(self.folds)

        def apply(fold: int, tile: NDArray[np.float32], *found: NDArray[np.float32]) -> NDArray[np.float32]:
            left = basis.centred(fold, tile)
            for (first, last), own in zip(pieces(self.taken), found, strict=True):
                left -= own @ basis.vectors[fold][:, first:last].T
            return left

        left = by_tiles([vectors, *inside], folds, self.folds, apply)
        return np.sqrt(weighted_squares(left, folds, np.ones((self.folds, basis.width))))
