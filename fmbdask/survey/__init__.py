"""Whole surveys: planned, run on a cluster, resumed, reported; and pipelines of one's own."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipelines.declare import Output, pipeline
    from .plan import plan
    from .run import resume, run

__all__ = ["Output", "pipeline", "plan", "resume", "run"]

#: Where each public name is, imported when it is first asked for.
_PLACES = {
    "Output": ".pipelines.declare",
    "pipeline": ".pipelines.declare",
    "plan": ".plan",
    "resume": ".run",
    "run": ".run",
}


class _Package(ModuleType):
    """Keeps functions in sight that have the name of a module: an import would put the module before them."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PLACES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    """Import functions when they are first asked for."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


sys.modules[__name__].__class__ = _Package
