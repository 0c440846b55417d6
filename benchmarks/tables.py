"""Detectors on tables with known anomalies, beside scikit-learn and PyOD, in the protocol of ADBench.

    python benchmarks/tables.py TABLE.npz ... [--seeds 0 1 2] [--detectors NAME ...] [--rows N]

A table holds X (objects, features) and y (objects,), 1 for an anomaly. Of more than 10 000 objects so many
are drawn; of less than 1000 so many with repetition. Seven tenths are learnt from, without labels and with
the anomalies among them, three tenths are scored; features are scaled to 0 and 1 where those that are learnt
from end. All detectors get the same split of the same seed, and ours their defaults if the name says nothing
else. Printed are the area under the ROC curve and the average precision, each times 100, means over the
seeds; of forests, whose own chance moves both by more than the splits do, over five of them on each split.

Source of the protocol: Han et al. 2022, ADBench, NeurIPS 35, 32142.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import MinMaxScaler

from fmbdask.anomaly import Residual, class_of
from fmbdask.errors import InputError

Vectors = NDArray[np.float64]
#: Scores of the objects of a test: called with those to learn from, those to score, and a seed.
Score = Callable[[Vectors, Vectors, int], NDArray[np.float64]]
#: Fewest and most objects of a table.
FEWEST, MOST = 1000, 10_000
NEIGHBOURS = 5
#: Forests on each split, and seeds of those of one split.
FORESTS, FAR = 5, 1000
#: Ours: name -> kind, options.
OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "isolation_forest": ("isolation_forest", {}),
    "neighbours": ("neighbours", {}),
    "neighbours, not scaled": ("neighbours", {"scale": "none"}),
    "neighbours, not scaled, one fold": ("neighbours", {"scale": "none", "folds": 1}),
    "mahalanobis": ("mahalanobis", {}),
    "residual": ("residual", {}),
    "residual, error": ("residual", {"whiten": False}),
    "autoencoder": ("autoencoder", {}),
    "ensemble": ("ensemble", {}),
}
#: Ours that do what one of theirs does.
ALIKE = {
    "isolation_forest": ("sklearn IsolationForest", "pyod IForest"),
    "neighbours, not scaled": ("sklearn NearestNeighbors", "pyod KNN"),
    "neighbours, not scaled, one fold": ("sklearn NearestNeighbors", "pyod KNN"),
    "residual, error": ("sklearn PCA, error",),
}


def labelled(vectors: Vectors, first: int) -> xr.DataArray:
    """Vectors with ids of their own: those that are scored are others than those that were learnt from."""
    ids = np.arange(first, first + len(vectors))
    coords = {"object_id": ("object", ids)}
    return xr.DataArray(vectors.astype(np.float32), dims=("object", "feature"), coords=coords, name="table")


def ours(kind: str, options: dict[str, Any]) -> Score | None:
    """One of our detectors, if there is one of this kind."""
    try:
        family = class_of(kind)
    except (InputError, ImportError, AttributeError):
        return None

    def score(train: Vectors, test: Vectors, seed: int) -> NDArray[np.float64]:
        detector: Any = family(seed=seed, **options)
        detector.fit(labelled(train, 0), progress=lambda *_: None)
        found: NDArray[np.float64] = detector.score(labelled(test, len(train))).values
        return found

    return score


def forest(train: Vectors, test: Vectors, seed: int) -> NDArray[np.float64]:
    """The isolation forest of scikit-learn."""
    found: NDArray[np.float64] = -IsolationForest(random_state=seed).fit(train).score_samples(test)
    return found


def neighbours(train: Vectors, test: Vectors, seed: int) -> NDArray[np.float64]:
    """Distance to the k-th neighbour by scikit-learn."""
    found: NDArray[np.float64] = (
        NearestNeighbors(n_neighbors=NEIGHBOURS).fit(train).kneighbors(test)[0].max(axis=1)
    )
    return found


def error(train: Vectors, test: Vectors, seed: int) -> NDArray[np.float64]:
    """Error of the reconstruction by scikit-learn's components, as many as ours take."""
    taken = Residual(whiten=False).fit(labelled(train, 0)).taken
    components = PCA(taken, svd_solver="full").fit(train)
    left = test - components.inverse_transform(components.transform(test))
    found: NDArray[np.float64] = np.linalg.norm(left, axis=1)
    return found


def theirs() -> dict[str, Score]:
    """What others have: scikit-learn, and PyOD where it is installed."""
    found: dict[str, Score] = {
        "sklearn IsolationForest": forest,
        "sklearn NearestNeighbors": neighbours,
        "sklearn PCA, error": error,
    }
    if find_spec("pyod") is None:
        print("pyod is not installed: left out")
        return found
    forests, distances, projections = (import_module(f"pyod.models.{m}") for m in ("iforest", "knn", "pca"))

    def score(make: Callable[[int], Any]) -> Score:
        def run(train: Vectors, test: Vectors, seed: int) -> NDArray[np.float64]:
            values: NDArray[np.float64] = make(seed).fit(train).decision_function(test)
            return values

        return run

    found["pyod IForest"] = score(lambda seed: forests.IForest(random_state=seed))
    found["pyod KNN"] = score(lambda _: distances.KNN(n_neighbors=NEIGHBOURS))
    found["pyod PCA"] = score(lambda seed: projections.PCA(random_state=seed))
    return found


def split(path: Path, seed: int, most: int) -> tuple[Vectors, Vectors, NDArray[np.int64]]:
    """Vectors to learn from, vectors to score, and the labels of these."""
    with np.load(path) as table:
        vectors, labels = table["X"].astype(np.float64), table["y"].astype(np.int64)
    random = np.random.default_rng(seed)
    if len(labels) < min(FEWEST, most):
        chosen = random.choice(len(labels), min(FEWEST, most))
    else:
        chosen = random.choice(len(labels), min(len(labels), most), replace=False)
    train, test, _, judged = train_test_split(
        vectors[chosen], labels[chosen], test_size=0.3, stratify=labels[chosen], random_state=seed
    )
    scaler = MinMaxScaler().fit(train)
    return scaler.transform(train), scaler.transform(test), judged


def judge(score: Score, path: Path, seeds: list[int], most: int, repeats: int = 1) -> tuple[float, float]:
    """Mean area and mean precision over seeds, times 100; NaN if a score is not finite."""
    found = []
    for seed in seeds:
        train, test, labels = split(path, seed, most)
        for own in range(FAR * seed, FAR * seed + repeats):
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                try:
                    values = score(train, test, own)
                except (ValueError, np.linalg.LinAlgError):  # one of theirs refuses infinity
                    values = np.full(len(test), np.nan)
            if not np.isfinite(values).all():
                return np.nan, np.nan
            found.append((roc_auc_score(labels, values), average_precision_score(labels, values)))
    area, precision = 100.0 * np.mean(found, axis=0)
    return float(area), float(precision)


def show(title: str, names: list[str], found: dict[str, list[float]]) -> None:
    """A table in Markdown; the mean where all are finite."""
    print(f"\n| {title} | {' | '.join(names)} | mean |\n|---|{'---|' * (len(names) + 1)}")
    for name, values in found.items():
        cells = ["fails" if np.isnan(v) else f"{v:.1f}" for v in [*values, float(np.mean(values))]]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--detectors", nargs="+", help="names as they are printed; all by default")
    parser.add_argument("--rows", type=int, default=MOST, help="most objects of a table")
    given = parser.parse_args()
    detectors: dict[str, Score] = {}
    for name, (kind, options) in OURS.items():
        scored = ours(kind, options)
        if scored is None:
            print(f"{name} is not there: left out")
        else:
            detectors[name] = scored
    detectors |= theirs()
    if given.detectors is not None:
        unknown = set(given.detectors) - set(detectors)
        if unknown:
            parser.error(f"there is no {', '.join(sorted(unknown))}: known are {', '.join(detectors)}")
        detectors = {name: score for name, score in detectors.items() if name in given.detectors}
    areas: dict[str, list[float]] = {name: [] for name in detectors}
    precisions: dict[str, list[float]] = {name: [] for name in detectors}
    for name, score in detectors.items():
        for path in given.tables:
            repeats = FORESTS if "forest" in name.lower() else 1
            area, precision = judge(score, path, given.seeds, given.rows, repeats)
            areas[name].append(area)
            precisions[name].append(precision)
            print(f"{name} {path.stem}: {area:.1f} {precision:.1f}", flush=True)
    stems = [path.stem for path in given.tables]
    show("AUROC x 100", stems, areas)
    show("average precision x 100", stems, precisions)
    print()
    for name, others in ALIKE.items():
        for other in others:
            if name in areas and other in areas:
                away = np.abs(np.subtract(areas[name], areas[other])).max()
                print(f"{name}: AUROC at most {away / 100:.4f} from that of {other}")
    single = {name: float(np.mean(v)) for name, v in areas.items() if name in OURS and name != "ensemble"}
    if single:
        best = max(single, key=lambda name: single[name])
        print(f"best of ours by its mean AUROC: {best}, {single[best] / 100:.4f}")
    if "ensemble" in areas:
        print(f"ensemble: {float(np.mean(areas['ensemble'])) / 100:.4f}")


if __name__ == "__main__":
    main()
