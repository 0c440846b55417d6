"""The families of detectors, by the names that saved models and commands call them."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from .detector import Detector

#: Kind -> module of this room, and class.
KINDS = {
    "alignment": ("alignment", "Alignment"),
    "autoencoder": ("autoencoder", "Autoencoder"),
    "contrast": ("contrast", "Contrast"),
    "cosine": ("cosine", "Cosine"),
    "ensemble": ("ensemble", "Ensemble"),
    "flow": ("flow", "Flow"),
    "isolation_forest": ("isolation_forest", "IsolationForest"),
    "lstm": ("lstm", "Lstm"),
    "mahalanobis": ("mahalanobis", "Mahalanobis"),
    "neighbours": ("neighbours", "Neighbours"),
    "residual": ("residual", "Residual"),
}


def class_of(kind: str) -> type[Detector]:
    """Class of detectors of a kind.

    Raises
    ------
    InputError
        If there is none.
    """
    if kind not in KINDS:
        raise InputError(f"there is no detector of kind {kind}: known are {', '.join(KINDS)}")
    module, name = KINDS[kind]
    found: type[Detector] = getattr(import_module(f".{module}", __package__), name)
    return found


def load(folder: str | os.PathLike[str]) -> Detector:
    """Load a saved detector of any kind.

    Raises
    ------
    InputError
        If there is no such model, it is damaged, or it is no detector.
    """
    from ..checkpoints import load_checkpoint

    saved = load_checkpoint(folder)
    if saved.kind not in KINDS:
        raise InputError(f"{folder} holds a model of kind {saved.kind}, no detector: give another folder")
    return class_of(saved.kind).restored(saved, folder)
