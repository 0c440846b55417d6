"""Mismatch of two modalities, whatever spaces their vectors live in: what a learnt map of one to the other
leaves.

The map goes both ways, image to spectrum and back, between coordinates of unit vectors along principal
components. What it leaves is measured each way and both ways together; of the logarithm of each measure,
the larger of the medians over the nearest objects in either modality is subtracted. The score is the log
odds against being ordinary by their combined p-values.
"""

from __future__ import annotations

from typing import ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..errors import InputError
from .detector import Detector
from .predictor import Floats, Predictor
from .protocol import Report
from .rows import Rows, by_tiles
from .summary import Summary
from .surroundings import Directions, Local, learning_rows, reference_rows

Model = Literal["ridge", "mlp"]
#: Principal components of each modality.
COMPONENTS = 60
#: Most objects that maps are learnt from.
LEARN_ROWS = 25_000


class Alignment(Detector):
    """Residual of a learnt map between two modalities, next to that of the neighbours.

    Widths may differ. Folds are as everywhere: maps, components and neighbours of an object come from
    objects of other folds.

    Parameters
    ----------
    model : {"ridge", "mlp"}
        Ridge regression; or a small network on top of it, which predicts the mean and the deviation of each
        component, finds relations that are not linear, and needs torch (the extra ``models``) for its
        training.
    folds, seed : int
        See :class:`~fmbdask.anomaly.detector.Detector`.
    """

    kind: ClassVar[str] = "alignment"
    takes: int = 2
    uses_moments: ClassVar[bool] = False

    def __init__(self, *, model: Model = "mlp", folds: int = 5, seed: int = 0) -> None:
        super().__init__(folds=folds, seed=seed)
        if model not in get_args(Model):
            raise InputError(f"there is no alignment by {model}: give ridge or mlp")
        self.model: Model = model
        self.directions: tuple[Directions, ...] = ()
        self.maps: tuple[tuple[Predictor, Predictor], ...] = ()
        self.levels = np.zeros((folds, 2))
        self.local: Local | None = None

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Components and both maps of each fold, and the measures of reference objects."""
        rows = learning_rows(summary, self.modalities, LEARN_ROWS)
        own = rows.folds(self.folds)
        smallest = min(int((own != k).sum()) if self.folds > 1 else len(rows) for k in range(self.folds))
        components = min(COMPONENTS, *self.widths.values(), max(1, smallest // 10))
        self.directions = tuple(Directions.learn(summary, rows, m, components) for m in self.modalities)
        maps = []
        for fold in range(self.folds):
            if progress is not None:
                progress(fold, self.folds, f"alignment of {' and '.join(self.modalities)}")
            others = rows.take((own != fold) | (self.folds == 1))
            first, second = self._coordinates(fold, *(others.vectors[m] for m in self.modalities))
            network, seed = self.model == "mlp", self.seed + fold
            there = Predictor.learn(first, second, others.keys, network=network, seed=seed)
            back = Predictor.learn(second, first, others.keys, network=network, seed=seed)
            maps.append((there, back))
        self.maps = tuple(maps)
        self.levels = np.zeros((self.folds, 2))
        logs = self._logarithms(rows)
        for fold in range(self.folds):
            if (own == fold).any():
                self.levels[fold] = np.median(logs[own == fold], axis=0)
        reference = reference_rows(summary, self.modalities)
        self.local = Local.learn(summary, reference, self.modalities, self._measures(reference))

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Log odds against being ordinary; (n,)."""
        assert self.local is not None
        return self.local.score(rows, self._measures(rows))

    def state(self) -> Checkpoint:
        """Settings, components, maps and reference objects."""
        assert self.local is not None
        arrays = {"levels": self.levels, **self.local.arrays()}
        for own in self.directions:
            arrays |= {f"map_{name}": values for name, values in own.arrays().items()}
        for fold, maps in enumerate(self.maps):
            for way, one in enumerate(maps):
                arrays |= one.arrays(f"map_{fold}_{way}")
        return Checkpoint(self.kind, arrays, {"model": self.model})

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        arrays = saved.arrays
        if saved.meta["model"] not in get_args(Model):
            raise ValueError(f"alignment by {saved.meta['model']}")
        self.model = saved.meta["model"]
        own = {name.removeprefix("map_"): a for name, a in arrays.items() if name.startswith("map_")}
        self.directions = tuple(Directions.from_arrays(own, m) for m in self.modalities)
        self.maps = tuple(
            (Predictor.from_arrays(arrays, f"map_{k}_0"), Predictor.from_arrays(arrays, f"map_{k}_1"))
            for k in range(self.folds)
        )
        self.levels = arrays["levels"]
        self.local = Local.from_arrays(arrays, self.modalities, self.folds)

    def _coordinates(self, fold: int, *vectors: Floats) -> tuple[Floats, ...]:
        """Coordinates of both modalities, in deviations."""
        return tuple(
            d.coordinates(fold, v) / d.deviations[fold] for d, v in zip(self.directions, vectors, strict=True)
        )

    def _logarithms(self, rows: Rows) -> NDArray[np.float64]:
        """Logarithm of the squared length of what each map leaves, less the level of the fold; (n, 2)."""

        def apply(fold: int, *vectors: Floats) -> NDArray[np.float64]:
            first, second = self._coordinates(fold, *vectors)
            there, back = self.maps[fold]
            left = (there.left(first, second), back.left(second, first))
            squares = np.stack([np.einsum("ij,ij->i", v, v, dtype=np.float64) for v in left], axis=1)
            found: NDArray[np.float64] = np.log(np.maximum(squares, 1e-30)) - self.levels[fold]
            return found

        vectors = [rows.vectors[m] for m in self.modalities]
        return by_tiles(vectors, rows.folds(self.folds), self.folds, apply)

    def _measures(self, rows: Rows) -> NDArray[np.float64]:
        """There, back, and both; (n, 3)."""
        logs = self._logarithms(rows)
        return np.concatenate([logs, logs.sum(axis=1, keepdims=True)], axis=1)
