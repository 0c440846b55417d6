"""How every kernel is compiled: one place, so that all of them agree."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import event

F = TypeVar("F", bound=Callable[..., Any])

#: Reassociation and contraction let the compiler use SIMD lanes and fused multiply-add; NaN and infinity
#: keep their meaning (masks depend on it), so the two flags that assume them away are left out.
FAST = {"reassoc", "contract", "nsz", "arcp"}

#: What all functions share. Each becomes part of those that call it: one that stayed apart would be compiled
#: into the object of every kernel that calls it, rounded a little differently in each, and a process would
#: use for all of them the one it happens to load first. Who compiled would find other bits than who loads.
OPTIONS: Any = {"nogil": True, "error_model": "numpy", "forceinline": True}

#: How a kernel imports another: `from .a import b` or `from . import a`.
IMPORT = re.compile(r"^from \.(?: import )?(\w+)", re.MULTILINE)

logger = logging.getLogger("fmbdask")

#: Where a counter starts that is handed on: a bare 0 has a type of its own, for which numba would compile the
#: callee once more.
ZERO: Any = np.int64(0)


def kernel(function: F) -> F:
    """Compile for the machine at first call: serial, GIL released, cached on disk."""
    return cast(F, _cached(function, FAST))


def exact(function: F) -> F:
    """Compile like :func:`kernel`, but with every floating-point operation in the order it is written."""
    # a kernel hands its flags on to what it calls, unless that has its own: this one changes no digit
    return cast(F, _cached(function, {"nsz"}))


def stage(function: F) -> F:
    """Compile like :func:`kernel` for calls from kernels, whose caches it becomes a part of."""
    options: Any = OPTIONS | {"fastmath": FAST, "no_cfunc_wrapper": True}
    return cast(F, numba.njit(**options)(function))


def exact_stage(function: F) -> F:
    """Compile like :func:`stage`, but with every floating-point operation in the order it is written."""
    options: Any = OPTIONS | {"fastmath": {"nsz"}, "no_cfunc_wrapper": True}
    return cast(F, numba.njit(**options)(function))


def is_cached(dispatcher: Any) -> bool:
    """Whether the disk holds something compiled for a kernel, of these sources."""
    index: Any = getattr(dispatcher._cache, "_cache_file", None)
    return index is None or not hasattr(index, "_load_index") or bool(index._load_index())


def _cached(function: Any, fastmath: set[str]) -> Any:
    """Compile at first call, for the disk and for calls from other kernels."""
    options: Any = OPTIONS | {"fastmath": fastmath, "cache": True}
    return _stamped(numba.njit(**options)(function))


def _stamped(dispatcher: Any) -> Any:
    """Let a cached kernel count as stale when a source it imports changed: numba looks at its own alone."""
    cache_file: Any = getattr(dispatcher._cache, "_cache_file", None)
    if cache_file is not None and hasattr(cache_file, "_source_stamp"):
        own = dispatcher.py_func.__module__.rpartition(".")[2]
        cache_file._source_stamp = tuple(_stamp(name) for name in sorted(_needed(own)))
    return dispatcher


@functools.cache
def _needed(module: str) -> frozenset[str]:
    """Names of the modules of this package that one of them imports, directly or not, and its own."""
    found, ahead = set(), [module]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += IMPORT.findall(_source(name).read_text())
    return frozenset(found)


@functools.cache
def _stamp(module: str) -> tuple[float, int]:
    """Time and size of a source."""
    status = _source(module).stat()
    return status.st_mtime, status.st_size


def _source(module: str) -> Path:
    return Path(__file__).with_name(f"{module}.py")


class _Notice(event.Listener):
    """Says once why the first call takes seconds: a kernel that the cache does not hold is being compiled."""

    def __init__(self) -> None:
        self.given = False

    def on_start(self, event: Any) -> None:
        module = event.data["dispatcher"].py_func.__module__ or ""
        if not self.given and module.startswith(__package__):
            self.given = True
            logger.warning("compiling kernels for this machine, once; later runs start at once")

    def on_end(self, event: Any) -> None:
        """Nothing to say."""


event.register("numba:compile", _Notice())  # type: ignore[no-untyped-call]
