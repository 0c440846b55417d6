"""Anomalous objects among embeddings and other vectors: one protocol for all detectors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .alignment import Alignment
    from .contrast import Contrast
    from .cosine import Cosine
    from .detector import Detector
    from .lazy import scores, skipped
    from .mahalanobis import Mahalanobis
    from .residual import Residual
    from .search import CrossModalSearch

__all__ = [
    "Alignment",
    "Contrast",
    "Cosine",
    "CrossModalSearch",
    "Detector",
    "Mahalanobis",
    "Residual",
    "load",
    "scores",
    "skipped",
]

#: Public name -> module of this room.
_MODULES = {
    "Alignment": "alignment",
    "Contrast": "contrast",
    "Cosine": "cosine",
    "CrossModalSearch": "search",
    "Detector": "detector",
    "Mahalanobis": "mahalanobis",
    "Residual": "residual",
    "scores": "lazy",
    "skipped": "lazy",
}
#: What a saved detector calls itself -> name of its class.
_KINDS = {
    "alignment": "Alignment",
    "contrast": "Contrast",
    "cosine": "Cosine",
    "mahalanobis": "Mahalanobis",
    "residual": "Residual",
}


def load(folder: str | os.PathLike[str]) -> Detector:
    """Load a saved detector of any kind.

    Raises
    ------
    InputError
        If there is no such model, it is damaged, or it is no detector.
    """
    from ..checkpoints import load_checkpoint
    from ..errors import InputError

    saved = load_checkpoint(folder)
    if saved.kind not in _KINDS:
        raise InputError(f"{folder} holds a model of kind {saved.kind}, no detector: give another folder")
    detector: Detector = __getattr__(_KINDS[saved.kind]).restored(saved, folder)
    return detector


def __getattr__(name: str) -> Any:
    """Import modules when their names are first asked for."""
    from importlib import import_module

    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
