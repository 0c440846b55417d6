"""How every kernel is compiled: one place, so that all of them agree."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event

F = TypeVar("F", bound=Callable[..., Any])

#: Reassociation and contraction let the compiler use SIMD lanes and fused multiply-add; NaN and infinity
#: keep their meaning (masks depend on it), so the two flags that assume them away are left out.
FAST = {"reassoc", "contract", "nsz", "arcp"}

#: Name, time and size of every source of this package.
_SOURCES = tuple(
    (path.name, path.stat().st_mtime, path.stat().st_size)
    for path in sorted(Path(__file__).parent.glob("*.py"))
)

logger = logging.getLogger("fmbdask")


def kernel(function: F) -> F:
    """Compile for the machine at first call: serial, GIL released, cached on disk."""
    return cast(F, _stamped(numba.njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")(function)))


def exact(function: F) -> F:
    """Compile like :func:`kernel`, but with every floating-point operation in the order it is written."""
    return cast(F, _stamped(numba.njit(nogil=True, cache=True, error_model="numpy")(function)))


def stage(function: F) -> F:
    """Compile like :func:`kernel` for calls from kernels only, whose cache it becomes a part of."""
    return cast(F, numba.njit(nogil=True, fastmath=FAST, error_model="numpy")(function))


def _stamped(dispatcher: Any) -> Any:
    """Let a cached kernel count as stale when any kernel source changed: numba looks at its own file alone."""
    cache_file: Any = getattr(dispatcher._cache, "_cache_file", None)
    if cache_file is not None and hasattr(cache_file, "_source_stamp"):
        cache_file._source_stamp = _SOURCES
    return dispatcher


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
