"""Whole surveys: planned, run on a cluster, resumed, reported."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipelines.declare import pipeline
    from .planning.plan import plan
    from .running.run import resume, run

__all__ = ["pipeline", "plan", "resume", "run"]

#: Where each public name lives: imported when it is first asked for.
_HOMES = {
    "pipeline": ".pipelines.declare",
    "plan": ".planning.plan",
    "resume": ".running.run",
    "run": ".running.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
