"""Detectors fitted to stores, one kind at a time, and kept for later searches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...anomaly.detector import Detector
from ...anomaly.protocol import Report
from ...atomic import check_free
from ...store.embeddings import open_embeddings
from .detecting import notes_of
from .known import Origin
from .making import detector_of
from .searching import MODELS, OUT
from .settings import DetectConfig
from .stores import described, opened
from .taking import by_model, groups


@dataclass
class Trained:
    """Detectors that were trained.

    Attributes
    ----------
    detectors : mapping
        By name.
    models : list of Path
        Their folders.
    notes : list of str
        What the user should know: vectors that were left out, and how far flows agree with Mahalanobis
        distances.
    """

    detectors: dict[str, Detector] = field(default_factory=dict)
    models: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def train(
    kind: str,
    stores: Sequence[Path],
    out: str | os.PathLike[str] | None = None,
    settings: DetectConfig | None = None,
    *,
    modalities: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Report | None = None,
) -> Trained:
    """Fit the detectors of one kind to stores, and save them.

    Parameters
    ----------
    kind : str
        One for each modality: ``autoencoder``, ``flow``, ``isolation_forest``, ``lstm`` (of sequences),
        ``mahalanobis``, ``neighbours`` or ``residual``; one for each pair: ``alignment`` or ``cosine``.
    stores : sequence of Path
    out : path, optional
        Folder of the models; ``runs/outliers/models/<model>`` by default, where searches find them.
    settings : DetectConfig, optional
    modalities : sequence of str, optional
        All that fit by default.
    options : mapping, optional
        More arguments of the detectors.
    overwrite : bool
        Whether models that are there are replaced.
    progress : callable, optional
        Called with (done, total, text).

    Raises
    ------
    InputError
        If a store cannot be used, or holds too few objects.
    OutputExistsError
        If a model is there and is not to be replaced.
    """
    chosen = settings or DetectConfig()
    made = Trained()
    for store in stores:
        kept = described(opened(store))
        wanted = groups(kind, kept, modalities or chosen.modality, str(store))
        chosen.known.check(opened(store))
        made.notes += chosen.known.note(opened(store), {m: kept[m] for group in wanted for m in group})
        folder = Path(out) if out is not None else OUT / MODELS / "+".join(by_model(kept))
        targets = {name_of(kind, group, by_model(kept)): group for group in wanted}
        for name in targets:
            check_free(folder / name, overwrite)
        dataset = open_embeddings(store)
        for name, group in targets.items():
            detector = detector_of(kind, chosen, options)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                detector.fit(
                    dataset, modalities=group, group=chosen.group, labels=chosen.labels,
                    progress=progress or _silent,
                )  # fmt: skip
            made.notes += [f"{name}: {warning.message}" for warning in said]
            made.models.append(detector.save(folder / name, overwrite=overwrite))
            made.detectors[name] = detector
            made.notes += notes_of({name: detector})
        Origin.of(store).write(folder)
    return made


def name_of(kind: str, modalities: Sequence[str], models: Mapping[str, Sequence[str]]) -> str:
    """What searches call a detector of some modalities."""
    word = {"mahalanobis": "span"}.get(kind, kind)
    name = "_".join((word, *modalities)) if len(modalities) == 1 else word
    model = next(model for model, own in models.items() if modalities[0] in own)
    return name if len(models) == 1 else f"{model}.{name}"


def _silent(done: int, total: int, text: str) -> None:
    """Nothing is shown."""
