"""How few random cuts it takes to isolate a vector: isolation forests, fitted by scikit-learn.

Each fold has a forest that was grown without its objects. Trees are kept as plain arrays and scored by a
kernel of our own, a row at a time, so that scoring takes neither scikit-learn nor its pickles, and a score
does not depend on the rows beside it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from fmbdask_kernels.forest import path_lengths
from fmbdask_kernels.vectors import excesses
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..errors import ConfigError, InputError
from ..models import need
from .detector import Detector
from .protocol import Report
from .rows import Rows
from .summary import Summary

#: Arrays of the forests.
PARTS = {
    "features": np.int32, "thresholds": np.float32, "lengths": np.float64, "scales": np.float64,
    "low": np.float32, "high": np.float32,
}  # fmt: skip


class IsolationForest(Detector):
    """Vectors of one modality that few random cuts isolate.

    The score is 2 to the power of -(mean path length / length expected in a random tree), from 0 to 1, as
    ``-score_samples`` of scikit-learn's forest, if no value is far beyond all that the forest saw, see Notes.

    Parameters
    ----------
    folds, seed
        As for every detector. A forest is grown for each fold, of the objects of the sample in other folds.
    trees : int
        Of each forest.
    samples : int
        Objects that a tree is grown from, drawn without replacement; fewer where there are not so many.
    contamination : float
        Share of ordinary objects that are labelled anomalous, from above 0 to 0.5, see
        :meth:`~fmbdask.anomaly.detector.Detector.threshold`.

    Notes
    -----
    Source: Liu, Ting & Zhou 2008, Isolation Forest, IEEE International Conference on Data Mining, 413.
    Fitting needs scikit-learn (the extra ``models``); scoring and loading do not.

    Trees cut within the range of the objects they are grown from: beyond it all values of a feature are
    alike to them, and a vector that is gross in one of many features alone takes as many cuts as others. So
    where a value lies farther beyond the range of a feature than the range is wide, the score is multiplied
    by how many widths it is beyond, and may be larger than 1. All other scores are those of scikit-learn.
    """

    kind: ClassVar[str] = "isolation_forest"
    uses_moments: ClassVar[bool] = False

    def __init__(
        self,
        *,
        folds: int = 5,
        seed: int = 0,
        trees: int = 100,
        samples: int = 256,
        contamination: float = 0.1,
    ) -> None:
        super().__init__(folds=folds, seed=seed)
        if trees < 1 or samples < 2:
            raise ConfigError(f"{trees} trees of {samples} objects cannot be: give 1 or more of 2 or more")
        if not 0 < contamination <= 0.5:
            raise ConfigError(f"contamination is {contamination}: give a share from above 0 to 0.5")
        self.trees, self.samples, self.contamination = trees, samples, contamination
        self.percentile = 100.0 * (1.0 - contamination)
        self._arrays: dict[str, NDArray[Any]] = {}

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Grow the forests of all folds."""
        need("isolation forests", "sklearn")
        (modality,) = self.modalities
        sample = summary.sample
        valid = np.flatnonzero(sample.valid[modality])
        folds = sample.folds(self.folds)[valid]
        # Of more objects than all trees draw together, those with the smallest keys are a sample.
        order = np.argsort(sample.keys[valid], kind="stable")
        grown = []
        for fold in range(self.folds):
            if progress is not None:
                progress(fold, self.folds, f"isolation forest of {modality}")
            use = order[(folds[order] != fold) | (self.folds == 1)][: self.trees * self.samples]
            if len(use) < 2:
                raise InputError(
                    f"all objects with a vector of {modality} are in one of {self.folds} folds: give fewer "
                    "folds, or group by a column of more values"
                )
            grown.append(self._grow(sample.vectors[modality][valid[np.sort(use)]], fold))
        levels = max(one["lengths"].shape[1] for one in grown).bit_length() - 1
        deep = [_deepened(one, levels) for one in grown]
        self._arrays = {name: np.stack([one[name] for one in deep]) for name in PARTS}

    def _grow(self, vectors: NDArray[np.float32], fold: int) -> dict[str, NDArray[Any]]:
        """The forest of one fold."""
        from sklearn.ensemble import IsolationForest as Forest

        random = int(np.random.SeedSequence([self.seed, fold]).generate_state(1)[0])
        count = min(self.samples, len(vectors))
        forest = Forest(n_estimators=self.trees, max_samples=count, random_state=random).fit(vectors)
        levels = int(np.ceil(np.log2(max(count, 2))))
        trees = [_complete(one.tree_, levels) for one in forest.estimators_]
        scale = self.trees * expected_length(np.array(count))
        arrays = (*(np.stack(parts) for parts in zip(*trees, strict=True)), scale)
        return dict(zip(PARTS, (*arrays, vectors.min(axis=0), vectors.max(axis=0)), strict=True))

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Scores, each by the forest of the row's fold; (n,)."""
        (modality,) = self.modalities
        folds = rows.folds(self.folds)
        features, thresholds, lengths, scales, low, high = (self._arrays[name] for name in PARTS)
        vectors = rows.vectors[modality]
        paths = path_lengths(vectors, folds, features, thresholds, lengths)
        beyond = np.maximum(excesses(vectors, folds, low, high), 1.0)
        found: NDArray[np.float64] = np.exp2(-paths / scales[folds]) * beyond
        return found

    def state(self) -> Checkpoint:
        """Settings and trees."""
        settings = {"trees": self.trees, "samples": self.samples, "contamination": self.contamination}
        return Checkpoint(self.kind, self._arrays, settings)

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        meta, (width,) = saved.meta, self.widths.values()
        made = IsolationForest(
            folds=self.folds,
            seed=self.seed,
            trees=int(meta["trees"]),
            samples=int(meta["samples"]),
            contamination=float(meta["contamination"]),
        )
        self.trees, self.samples, self.contamination = made.trees, made.samples, made.contamination
        self.percentile = made.percentile
        arrays = {name: saved.arrays[name] for name in PARTS}
        ends = arrays["lengths"].shape[-1]
        nodes = (self.folds, self.trees, ends - 1)
        shapes = (nodes, nodes, (self.folds, self.trees, ends), (self.folds,), *[(self.folds, width)] * 2)
        for (name, dtype), shape in zip(PARTS.items(), shapes, strict=True):
            if arrays[name].shape != shape or arrays[name].dtype != dtype:
                raise ValueError(f"{name} is not {np.dtype(dtype)} of shape {shape}")
        features = arrays["features"]
        if not (arrays["scales"] > 0).all() or not 0 <= features.min() <= features.max() < width:
            raise ValueError(f"features {features.min()} to {features.max()} of {width}")
        self._arrays = arrays


def expected_length(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Mean path length in a random tree of so many objects, equation 1 of the source."""
    n = np.maximum(counts.astype(np.float64), 1.0)
    many = np.maximum(n, 3.0)
    found = 2.0 * (np.log(many - 1.0) + np.euler_gamma) - 2.0 * (many - 1.0) / many
    return np.where(n <= 1.0, 0.0, np.where(n == 2.0, 1.0, found))


def _complete(tree: Any, levels: int) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float64]]:
    """A tree of scikit-learn as a complete one of so many levels: features, thresholds and path lengths."""
    inner = 2**levels - 1
    features, thresholds = np.zeros(inner, np.int32), np.full(inner, np.inf, np.float32)
    lengths = np.zeros(inner + 1)
    depths = tree.compute_node_depths() - 1.0 + expected_length(tree.n_node_samples)
    here = np.zeros(1, np.int64)  # nodes of one level of the complete tree, in the tree that was grown
    for level in range(levels):
        own = slice(2**level - 1, 2 ** (level + 1) - 1)
        left, right = tree.children_left[here], tree.children_right[here]
        leaf = left < 0
        features[own] = np.where(leaf, 0, tree.feature[here])
        thresholds[own] = np.where(leaf, np.inf, _down(tree.threshold[here]))
        # What is below a leaf is never reached but on its left, where everything goes.
        here = np.stack([np.where(leaf, here, left), np.where(leaf, here, right)], axis=1).ravel()
    lengths[:] = depths[here]
    return features, thresholds, lengths


def _down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 up to each threshold: the same float32 values are larger."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)


def _deepened(one: dict[str, NDArray[Any]], levels: int) -> dict[str, NDArray[Any]]:
    """The same forest with more levels, whose ends every row finds as before: on the left of the old ones."""
    ends = one["lengths"].shape[1]
    more = 2**levels - ends
    if not more:
        return one
    return one | {
        "features": np.pad(one["features"], ((0, 0), (0, more))),
        "thresholds": np.pad(one["thresholds"], ((0, 0), (0, more)), constant_values=np.inf),
        "lengths": np.repeat(one["lengths"], 2**levels // ends, axis=1),
    }
