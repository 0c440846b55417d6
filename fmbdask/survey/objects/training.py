"""Detectors fitted to stores, one kind at a time, and kept for later searches."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...anomaly.detector import Detector, Report
from ...anomaly.kinds import class_of
from ...atomic import check_free
from ...errors import InputError
from ...store.embeddings import open_embeddings
from .detecting import DetectConfig, by_model, notes_of, pairs
from .known import Origin
from .searching import MODELS, OUT
from .stores import described, opened


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
        ``flow``, ``mahalanobis`` or ``residual``, one a modality; ``alignment`` or ``cosine``, one a pair.
    stores : sequence of Path
    out : path, optional
        Folder of the models; ``runs/outliers/models/<model>`` by default, where searches find them.
    settings : DetectConfig, optional
    modalities : sequence of str, optional
        All by default.
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
        wanted: list[tuple[str, ...]] = [(m,) for m in kept]
        if class_of(kind).takes > 1:
            wanted = [*pairs(kept)]
        if modalities is not None:
            unknown = [m for m in modalities if m not in kept]
            if unknown:
                raise InputError(f"{store} has no modality {unknown[0]}: it has {', '.join(kept)}")
            wanted = [group for group in wanted if set(group) <= set(modalities)]
        if not wanted:
            raise InputError(
                f"{store} holds one modality only ({', '.join(kept)}): {kind} takes two of one model"
            )
        folder = Path(out) if out is not None else OUT / MODELS / "+".join(by_model(kept))
        targets = {name_of(kind, group, by_model(kept)): group for group in wanted}
        for name in targets:
            check_free(folder / name, overwrite)
        dataset = open_embeddings(store)
        for name, group in targets.items():
            detector = class_of(kind)(**arguments(kind, chosen) | dict(options or {}))
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                detector.fit(dataset, modalities=group, group=chosen.group, progress=progress or _silent)
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


def arguments(kind: str, settings: DetectConfig) -> dict[str, Any]:
    """Settings as the detectors of a kind take them."""
    if kind == "flow":
        return settings.flow
    common: dict[str, Any] = {"folds": settings.folds, "seed": settings.seed}
    if kind == "mahalanobis":
        common["robust"] = settings.robust
    if kind == "alignment" and settings.alignment != "auto":
        common["model"] = settings.alignment
    return common


def _silent(done: int, total: int, text: str) -> None:
    """Nothing is shown."""
