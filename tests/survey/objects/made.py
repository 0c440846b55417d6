"""Small stores, and detectors whose scores and calibrations are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fmbdask.anomaly.calibration import Calibration
from fmbdask.anomaly.detector import Detector
from fmbdask.checkpoints import Checkpoint
from fmbdask.sequences import flatten
from fmbdask.store.embeddings import EmbeddingWriter, Modality
from fmbdask.survey.objects.lists import Listing
from fmbdask.survey.objects.scored import P, Scored
from fmbdask.survey.objects.stores import Kept

#: Members of an ensemble that learn in no time, and arguments of all families that make them quick.
MEMBERS = ("isolation_forest", "mahalanobis")
FAMILIES = {
    "autoencoder": {"layers": [4], "epochs": 1},
    "isolation_forest": {"trees": 8, "samples": 64},
    "lstm": {"hidden": [4], "epochs": 1},
}
#: Options of a flow that trains in no time.
QUICK = {"n_layers": 1, "hidden_dim": 4, "components": 3, "epochs": 1}


def store(
    path: Path,
    objects: int = 600,
    widths: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
    model: str = "aion",
    missing: float = 0.0,
    equal: bool = False,
    ids: Sequence[Any] | None = None,
    shift: float = 0.0,
    columns: Mapping[str, Any] | None = None,
) -> Path:
    """Write a store whose modalities share a latent vector; some spectra, or features, are missing."""
    rng = np.random.default_rng(seed)
    widths = {"image": 6, "spectrum": 6} if widths is None else widths
    latent = rng.normal(size=(objects, 3))
    vectors, present = {}, {}
    for number, (name, width) in enumerate(widths.items()):
        weights = np.random.default_rng(number // 9).normal(size=(3, width))
        values = latent @ weights + 0.3 * rng.normal(size=(objects, width)) + shift
        vectors[name] = (np.ones_like(values) if equal else values).astype(np.float32)
        present[name] = rng.random(objects) >= (missing if name in ("spectrum", "features") else 0.0)
    keys = {"image": "embedding_hsc", "spectrum": "embedding_spectrum"}
    modalities = [Modality(n, w, model=model, embedding_key=keys.get(n, "")) for n, w in widths.items()]
    with EmbeddingWriter(path, modalities, objects=objects) as writer:
        writer.write(np.arange(objects) * 3 + 7 if ids is None else ids, vectors, columns, present)
    return path


def sequences(path: Path, objects: int = 300, *, beside: int = 0, seed: int = 0) -> Path:
    """Write a store of sequences of 12 steps of one number, and of vectors if they have a width."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 6, size=(objects, 1, 1))
    values = np.sin(phases + np.arange(12)[:, None]) + 0.1 * rng.normal(size=(objects, 12, 1))
    vectors = {"flux": flatten(values)}
    modalities = [Modality("flux", 24, model="tess", sequence="12x1")]
    if beside:
        vectors["features"] = rng.normal(size=(objects, beside)).astype(np.float32)
        modalities.append(Modality("features", beside, model="tess"))
    numbers = np.arange(objects)
    columns = {"label": (numbers % 10 == 0).astype(np.int64), "block": numbers // 20}
    with EmbeddingWriter(path, modalities, objects=objects) as writer:
        writer.write(numbers, vectors, columns)
    return path


class Given(Detector):
    """A detector of which there is nothing but its kind, modalities and calibration."""

    kind: ClassVar[str] = "flow"

    def __init__(self, kind: str, modalities: Sequence[str], calibration: Calibration) -> None:
        super().__init__()
        self.kind = kind  # type: ignore[misc]
        self.modalities, self.calibration = tuple(modalities), calibration

    def learn(self, summary: Any, progress: Any = None) -> None:
        raise NotImplementedError

    def score_rows(self, rows: Any) -> NDArray[np.float64]:
        raise NotImplementedError

    def state(self) -> Checkpoint:
        raise NotImplementedError

    def restore(self, saved: Checkpoint) -> None:
        raise NotImplementedError


def calibration(mean: float, deviation: float) -> Calibration:
    """A calibration of which only mean and deviation matter."""
    fitted = Calibration.fit(np.random.default_rng(0).normal(size=200))
    return replace(fitted, mean=mean, deviation=deviation)


def listing(
    folder: Path, ids: Sequence[Any], scores: Mapping[str, Sequence[float]], p: Mapping[str, Sequence[float]]
) -> Listing:
    """What lists are made of: detectors such as ``flow_image`` and ``cosine``, with their scores."""
    kept = {m: Kept(4, "aion", f"embedding_{m}", {}) for m in ("image", "spectrum")}
    detectors = {}
    for name in scores:
        kind, _, modality = name.partition("_")
        own = [modality] if modality else ["image", "spectrum"]
        detectors[name] = Given(kind, own, calibration(10.0, 2.0))
    columns = {name: np.array(values, float) for name, values in scores.items()}
    columns |= {name + P: np.array(p.get(name, [0.5] * len(ids)), float) for name in scores}
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    begins = np.array([0, len(ids)])
    return Listing(Scored(np.asarray(ids), columns, begins), detectors, kept, ["x"], folder, scratch)
