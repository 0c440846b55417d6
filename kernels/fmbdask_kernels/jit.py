"""How every kernel is compiled: one place, so that all of them agree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

#: Reassociation and contraction let the compiler use SIMD lanes and fused multiply-add; NaN and infinity
#: keep their meaning (masks depend on it), so the two flags that assume them away are left out.
FAST = {"reassoc", "contract", "nsz", "arcp"}


def kernel(function: F) -> F:
    """Compile for the machine at first call: serial, GIL released, cached on disk."""
    return cast(F, numba.njit(nogil=True, cache=True, fastmath=FAST, error_model="numpy")(function))


def exact(function: F) -> F:
    """Compile like :func:`kernel`, but with every floating-point operation in the order it is written."""
    return cast(F, numba.njit(nogil=True, cache=True, error_model="numpy")(function))
