"""Anomalous objects of tables and stores: what commands and the survey pipeline do around the detectors."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .searching import search
    from .training import train
    from .twins import (
        compute_cosine_mismatch,
        detect_anomalies,
        detect_ensemble,
        train_detector,
        train_flow,
    )

__all__ = [
    "compute_cosine_mismatch",
    "detect_anomalies",
    "detect_ensemble",
    "search",
    "train",
    "train_detector",
    "train_flow",
]

#: Where each public name lives: imported when it is first asked for.
_HOMES = {
    "compute_cosine_mismatch": ".twins",
    "detect_anomalies": ".twins",
    "detect_ensemble": ".twins",
    "search": ".searching",
    "train": ".training",
    "train_detector": ".twins",
    "train_flow": ".twins",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
