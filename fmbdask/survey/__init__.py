"""Whole surveys: planned, run on a cluster, resumed, reported."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipelines.declare import pipeline
    from .plan import plan
    from .run import resume, run

__all__ = ["pipeline", "plan", "resume", "run"]

_HOMES = {"pipeline": ".pipelines.declare", "plan": ".plan", "resume": ".run", "run": ".run"}


def _public(name: str) -> property:
    """A function that is imported when it is first asked for.

    It is meant by its name even where a module of the same name has been imported: importing one sets an
    attribute of the package, which is left alone here.
    """
    return property(lambda _: getattr(import_module(_HOMES[name], __name__), name), lambda _, module: None)


class _Package(ModuleType):
    pipeline, plan, resume, run = map(_public, ("pipeline", "plan", "resume", "run"))

    def __dir__(self) -> list[str]:
        return sorted(__all__)


sys.modules[__name__].__class__ = _Package
