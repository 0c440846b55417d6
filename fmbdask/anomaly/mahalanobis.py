"""Distance from the mean in units of what is ordinary along each principal component."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from fmbdask_kernels.vectors import weighted_squares
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..errors import InputError
from .basis import SPAN, Basis
from .detector import Detector
from .protocol import Report
from .rows import Rows
from .shrinkage import floor, shrink
from .summary import Summary

#: Objects of the sample that robust scales are measured on.
ROBUST_ROWS = 20_000
#: Median absolute deviation of a normal law of deviation 1.
NORMAL_MAD = 0.6744897501960817


class Mahalanobis(Detector):
    """Mahalanobis distance in the span of the first principal components, or in the full space.

    The score is the distance, the root of the sum of squares of coordinates over variances. It learns from
    one pass over a store.

    Parameters
    ----------
    span : int or None
        Components; None for all, which is also taken where vectors have no more features.
    shrinkage : bool
        Whether eigenvalues are shrunk, see :func:`fmbdask.anomaly.shrinkage.shrink`; without, there must be
        more objects than components.
    robust : bool
        Read the store once more without the objects that surprised, so that anomalies that are many or alike
        do not widen what is ordinary until it holds them. In the first pass, each variance is that of the
        median absolute deviation along its component (Maronna & Zamar 2002, Technometrics 44, 307). Ordinary
        objects in small clusters of their own surprise as well.
    folds, seed : int
        See :class:`~fmbdask.anomaly.detector.Detector`.
    """

    kind: ClassVar[str] = "mahalanobis"

    def __init__(
        self,
        *,
        span: int | None = SPAN,
        shrinkage: bool = True,
        robust: bool = False,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(folds=folds, seed=seed)
        if span is not None and span < 1:
            raise InputError(f"a span of {span} components cannot be: give 1 or more")
        self.span, self.shrinkage, self.robust = span, shrinkage, robust
        self.reweights = int(robust)
        self.basis: Basis | None = None
        self.variances: NDArray[np.float64] | None = None

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Components of each fold, and the variance along each."""
        (modality,) = self.modalities
        whole = Basis.learn(summary, modality, progress)
        span = whole.width if self.span is None else min(self.span, whole.width)
        if not (self.shrinkage and span == whole.width):
            whole.check_span(span, summary.objects)
        self.basis = whole.part(0, span)
        self.variances = variances(whole, self.shrinkage)[:, :span]
        if self.robust and self.rounds == 0:
            self.variances *= self._robust_ratio(self.basis, summary.sample)
            np.maximum(self.variances, [[floor(v)] for v in whole.values], out=self.variances)

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Distances; (n,)."""
        assert self.basis is not None
        assert self.variances is not None
        total = np.zeros(len(rows))
        for first, last in pieces(self.variances.shape[1]):
            found = self.basis.coordinates(rows, first, last)
            total += weighted_squares(found, rows.folds(self.folds), 1.0 / self.variances[:, first:last])
        return np.sqrt(total)

    def state(self) -> Checkpoint:
        """Settings, components and variances."""
        assert self.basis is not None
        assert self.variances is not None
        settings = {"span": self.span, "shrinkage": self.shrinkage, "robust": self.robust}
        return Checkpoint(self.kind, {**self.basis.arrays(), "variances": self.variances}, settings)

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        meta, (modality,) = saved.meta, self.modalities
        self.span = None if meta["span"] is None else int(meta["span"])
        self.shrinkage, self.robust = bool(meta["shrinkage"]), bool(meta["robust"])
        self.reweights = int(self.robust)
        self.basis = Basis.from_arrays(saved.arrays, modality, self.folds, self.widths[modality])
        self.variances = checked_variances(saved.arrays["variances"], self.folds, self.basis.vectors.shape[2])

    def _robust_ratio(self, basis: Basis, sample: Rows) -> NDArray[np.float64]:
        """Robust variances of the sample over plain ones, along each component of each fold."""
        valid = np.flatnonzero(sample.all_valid(self.modalities))
        rows = sample.take(valid[np.sort(np.argsort(sample.keys[valid], kind="stable")[:ROBUST_ROWS])])
        own, ratios = rows.folds(self.folds), np.ones((self.folds, basis.vectors.shape[2]))
        for fold in range(self.folds):
            others = rows.take(own != fold) if self.folds > 1 else rows
            found = np.concatenate(
                [
                    basis.centred(fold, p.vectors[basis.modality]) @ basis.vectors[fold]
                    for p in others.parts(4096)
                ]
            ).astype(np.float64)
            plain = found.var(axis=0)
            deviation = np.median(np.abs(found - np.median(found, axis=0)), axis=0) / NORMAL_MAD
            ratios[fold] = np.divide(deviation**2, plain, out=ratios[fold], where=plain > 0)
        return np.clip(ratios, 1e-6, 10.0)


def pieces(last: int, first: int = 0) -> list[tuple[int, int]]:
    """Components up to :data:`SPAN` and beyond, as all detectors take them."""
    cut = min(max(SPAN, first), last)
    return [(a, b) for a, b in ((first, cut), (cut, last)) if a < b]


def variances(basis: Basis, shrinkage: bool = True) -> NDArray[np.float64]:
    """Variance along each component, (K, D): none so small that rounding would be anomalous."""
    if shrinkage:
        return np.stack([shrink(v, int(n)) for v, n in zip(basis.values, basis.counts, strict=True)])
    return np.stack([np.maximum(v, floor(v)) for v in basis.values])


def checked_variances(array: NDArray[np.float64], folds: int, columns: int) -> NDArray[np.float64]:
    """Variances that were saved.

    Raises
    ------
    ValueError
        If they are not positive, or of another shape.
    """
    if array.shape != (folds, columns) or array.dtype != np.float64 or not (array > 0).all():
        raise ValueError(f"variances are not positive float64 of shape {(folds, columns)}")
    return array
