"""How far a vector is from its nearest neighbours among a reference sample, never of its own fold."""

from __future__ import annotations

import threading
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from fmbdask_kernels.vectors import squared_distances
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..errors import ConfigError, InputError
from .detector import Detector
from .protocol import Report
from .reference import Cells, Reference
from .rows import TILE, Rows, by_tiles
from .summary import Summary

Method = Literal["largest", "mean"]
Scale = Literal["standard", "robust", "none"]
#: Objects of a reference, where each object is compared with all of them, and where with near ones alone.
EXACT_ROWS, APPROXIMATE_ROWS = 10_000, 100_000
#: Distances count as this share of the typical length of a vector at least, so that logarithms are finite.
NEAREST = 1e-6
#: Scaled features are cut here, so that squares stay finite.
FARTHEST = 1e15
#: Interquartile range of a normal law of deviation 1.
NORMAL_RANGE = 1.3489795003921634

_opening = threading.Lock()


class Neighbours(Detector):
    """Distance of vectors of one modality from their nearest neighbours in a sample.

    Parameters
    ----------
    folds, seed
        As for every detector. An object is compared with those of other folds; with one fold, with all but
        itself.
    k : int
        The neighbour that counts.
    method : {"largest", "mean"}
        Distance to the k-th neighbour, or the mean of those to the first k.
    reference : int, optional
        Most objects that are compared with: those of the sample with the smallest hashes of their ids. 10 000
        by default, 100 000 if the search is approximate.
    approximate : bool
        Whether only the nearest cells of the reference are searched. As many are as find 95 % of the
        neighbours of objects of the sample, see :attr:`recall`.
    scale : {"standard", "robust", "none"}
        What features are divided by: their deviation, their interquartile range, or nothing.

    Notes
    -----
    Source: Ramaswamy, Rastogi & Shim 2000, ACM SIGMOD 29, 427; the mean after Angiulli & Pizzuti 2002, PKDD,
    15. Distances are Euclidean; candidates come from faiss, their distances are taken in float64.
    """

    kind: ClassVar[str] = "neighbours"
    uses_moments: ClassVar[bool] = False

    def __init__(
        self,
        *,
        folds: int = 5,
        seed: int = 0,
        k: int = 5,
        method: Method = "largest",
        reference: int | None = None,
        approximate: bool = False,
        scale: Scale = "standard",
    ) -> None:
        super().__init__(folds=folds, seed=seed)
        if k < 1:
            raise ConfigError(f"there is no neighbour {k}: give 1 or more")
        if reference is not None and reference <= k:
            raise ConfigError(f"{reference} objects hold no {k} neighbours of one: give a larger reference")
        for what, value, known in (("method", method, Method), ("scale", scale, Scale)):
            if value not in get_args(known):
                raise ConfigError(f"there is no {what} {value}: give one of {', '.join(get_args(known))}")
        self.k, self.method, self.scale, self.approximate = k, method, scale, bool(approximate)
        default = APPROXIMATE_ROWS if approximate else EXACT_ROWS
        self.reference = default if reference is None else reference
        self._forget()

    def _forget(self) -> None:
        #: Share of the true neighbours that were found of objects of the sample, in the worst fold.
        self.recall = 1.0
        self._arrays: dict[str, NDArray[Any]] = {}
        self._opened: list[Reference] | None = None

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Take the reference from the sample, and make cells of it if the search is approximate."""
        self._forget()
        (modality,) = self.modalities
        sample = summary.sample
        valid = np.flatnonzero(sample.valid[modality])
        nearest = np.argsort(sample.keys[valid], kind="stable")[: self.reference]
        use = valid[np.sort(nearest)]
        points, folds = sample.vectors[modality][use], sample.folds(self.folds)[use]
        self._arrays = {"points": points, "keys": sample.keys[use], "folds": folds}
        scales = []
        for fold in range(self.folds):
            own = points[self._others(fold)]
            if len(own) <= self.k:
                raise InputError(
                    f"{len(own)} objects of {modality} in other folds than the {fold + 1}. of {self.folds} "
                    f"hold no {self.k} neighbours of one: give more objects, fewer folds, or a smaller k"
                )
            scales.append(_scales(own, self.scale))
        self._arrays["centre"], self._arrays["scale"] = (
            np.stack(parts) for parts in zip(*scales, strict=True)
        )
        length = max(self._length(fold) for fold in range(self.folds))
        if length == 0:
            raise InputError(
                f"all vectors of {modality} are equal: there is nothing that an anomaly could be told from"
            )
        self._arrays["nearest"] = np.array([NEAREST * length])
        if self.approximate:
            for fold in range(self.folds):
                if progress is not None:
                    progress(fold, self.folds, f"cells of {modality}")
                self._arrays |= self._cells(fold, sample, valid)
            self.recall = min(float(self._arrays[f"search_{k}"][1]) for k in range(self.folds))

    def _cells(self, fold: int, sample: Rows, valid: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Cells of the reference of one fold, tried with objects of the sample that it is to score."""
        (modality,) = self.modalities
        exact = self._exact(fold)
        folds = sample.folds(self.folds)[valid]
        own = valid[folds == fold]
        own = own[np.argsort(sample.keys[own], kind="stable")[:TILE]]
        cells = Cells.of(exact, int(np.random.SeedSequence([self.seed, fold]).generate_state(1)[0]))
        if len(own):
            full = np.resize(own, TILE)
            points = self._scaled(fold, sample.vectors[modality][full])
            cells = cells.tried(exact, points, sample.keys[full], self.k)
        return {f"cells_{fold}": cells.centres, f"search_{fold}": np.array([cells.probes, cells.recall])}

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Distances, each among objects of other folds; (n,)."""
        (modality,) = self.modalities
        references = self._open()

        def apply(fold: int, tile: NDArray[np.float32], keys: NDArray[np.uint64]) -> NDArray[np.float64]:
            points = self._scaled(fold, tile)
            _, places = references[fold].nearest(points, keys, self.k)
            squares = squared_distances(points, references[fold].points, places)
            distances = np.maximum(np.sqrt(squares), self._arrays["nearest"])
            found: NDArray[np.float64] = (
                distances.max(axis=1) if self.method == "largest" else distances.mean(axis=1)
            )
            return found

        return by_tiles([rows.vectors[modality], rows.keys], rows.folds(self.folds), self.folds, apply)

    def state(self) -> Checkpoint:
        """Settings, reference, and cells."""
        settings = {
            "k": self.k, "method": self.method, "reference": self.reference, "scale": self.scale,
            "approximate": self.approximate,
        }  # fmt: skip
        return Checkpoint(self.kind, self._arrays, {"options": settings, "recall": self.recall})

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        made = Neighbours(folds=self.folds, seed=self.seed, **saved.meta["options"])
        self.k, self.method, self.scale = made.k, made.method, made.scale
        self.reference, self.approximate = made.reference, made.approximate
        self._forget()
        self.recall = float(saved.meta["recall"])
        (width,) = self.widths.values()
        count = len(saved.arrays["keys"])
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "points": ((count, width), np.float32),
            "keys": ((count,), np.uint64),
            "folds": ((count,), np.int64),
            "centre": ((self.folds, width), np.float64),
            "scale": ((self.folds, width), np.float64),
            "nearest": ((1,), np.float64),
        }
        for fold in range(self.folds if self.approximate else 0):
            cells = len(saved.arrays[f"cells_{fold}"])
            shapes |= {
                f"cells_{fold}": ((cells, width), np.float32), f"search_{fold}": ((2,), np.float64)
            }  # fmt: skip
        for name, (shape, dtype) in shapes.items():
            array = saved.arrays[name]
            if array.shape != shape or array.dtype != dtype or not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite {np.dtype(dtype)} of shape {shape}")
            self._arrays[name] = array
        if not (self._arrays["scale"] > 0).all() or not (self._arrays["nearest"] > 0).all():
            raise ValueError("scales are not positive")
        for fold in range(self.folds):
            if self._others(fold).sum() <= self.k:
                raise ValueError(f"its reference is too small for {self.k} neighbours")

    def _others(self, fold: int) -> NDArray[np.bool_]:
        """Objects of the reference that those of a fold are compared with."""
        found: NDArray[np.bool_] = (self._arrays["folds"] != fold) | (self.folds == 1)
        return found

    def _scaled(self, fold: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (n, width) as distances are taken of them."""
        scaled = (vectors - self._arrays["centre"][fold]) / self._arrays["scale"][fold]
        found: NDArray[np.float32] = np.clip(scaled, -FARTHEST, FARTHEST).astype(np.float32)
        return found

    def _exact(self, fold: int) -> Reference:
        own = self._others(fold)
        return Reference(self._scaled(fold, self._arrays["points"][own]), self._arrays["keys"][own])

    def _length(self, fold: int) -> float:
        """Root of the mean square of the lengths of the reference of a fold."""
        points = self._exact(fold).points.astype(np.float64)
        return float(np.sqrt(np.square(points).sum(axis=1).mean()))

    def _open(self) -> list[Reference]:
        """The references of all folds, made once in a process."""
        with _opening:
            if self._opened is None:
                opened = []
                for fold in range(self.folds):
                    exact = self._exact(fold)
                    if self.approximate:
                        probes, recall = self._arrays[f"search_{fold}"]
                        cells = self._arrays[f"cells_{fold}"]
                        exact = Cells(exact.points, exact.keys, cells, int(probes), float(recall))
                    opened.append(exact)
                self._opened = opened
            return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}


def _scales(vectors: NDArray[np.float32], scale: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and scale of each feature; the scale is 1 where all objects have one value."""
    values = vectors.astype(np.float64)
    centre, ones = values.mean(axis=0), np.ones(values.shape[1])
    if scale == "none":
        return centre, ones
    spread = values.std(axis=0)
    spread[values.min(axis=0) == values.max(axis=0)] = 0.0  # rounding of the mean is no spread
    if scale == "robust":
        low, centre, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
        # Of features that most objects have one value of, the deviation tells more.
        spread = np.where(high > low, (high - low) / NORMAL_RANGE, spread)
    return centre, np.where(spread > 0, spread, ones)
