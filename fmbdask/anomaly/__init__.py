"""Anomalous objects among embeddings, tables and sequences: one protocol for all detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .kinds import KINDS, class_of, load

if TYPE_CHECKING:
    from .alignment import Alignment
    from .autoencoder import Autoencoder
    from .contrast import Contrast
    from .cosine import Cosine
    from .detector import Detector
    from .ensemble import Ensemble
    from .flow import Flow
    from .isolation_forest import IsolationForest
    from .lazy import scores, skipped
    from .levels import Levels
    from .lstm import Lstm
    from .mahalanobis import Mahalanobis
    from .neighbours import Neighbours
    from .pairing import with_sequences
    from .residual import Residual
    from .search import CrossModalSearch

__all__ = [
    "Alignment",
    "Autoencoder",
    "Contrast",
    "Cosine",
    "CrossModalSearch",
    "Detector",
    "Ensemble",
    "Flow",
    "IsolationForest",
    "Levels",
    "Lstm",
    "Mahalanobis",
    "Neighbours",
    "Residual",
    "class_of",
    "load",
    "scores",
    "skipped",
    "with_sequences",
]

#: Public name -> module of this room.
_MODULES = {name: module for module, name in KINDS.values()} | {
    "CrossModalSearch": "search",
    "Detector": "detector",
    "Levels": "levels",
    "scores": "lazy",
    "skipped": "lazy",
    "with_sequences": "pairing",
}


def __getattr__(name: str) -> Any:
    """Import modules when their names are first asked for."""
    from importlib import import_module

    if name in _MODULES:
        return getattr(import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
