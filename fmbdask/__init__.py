"""Finds anomalies in whole astronomical surveys, chunk by chunk, on a laptop or a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import anomaly, ramps, survey
    from .store.embeddings import open_embeddings
    from .store.ramps import open_ramp

__all__ = ["anomaly", "open_embeddings", "open_ramp", "ramps", "survey"]


def __getattr__(name: str) -> Any:
    """Import rooms when they are first asked for, so that the package itself opens at once."""
    from importlib import import_module

    if name == "open_ramp":
        return import_module(".store.ramps", __name__).open_ramp
    if name == "open_embeddings":
        return import_module(".store.embeddings", __name__).open_embeddings
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
