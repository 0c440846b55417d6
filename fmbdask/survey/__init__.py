"""Whole surveys: planned, run on a cluster, resumed, reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .plan import plan
    from .run import resume, run

__all__ = ["plan", "resume", "run"]


def __getattr__(name: str) -> Any:
    """Import functions when they are first asked for.

    They stand here even where a module of the same name was imported before.
    """
    from importlib import import_module

    if name in __all__:
        module = import_module(f".{'plan' if name == 'plan' else 'run'}", __name__)
        return globals().setdefault(name, getattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
