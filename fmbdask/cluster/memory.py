"""Memory that is free but not given back: how many pools the C library keeps for threads."""

from __future__ import annotations

import ctypes
import sys

#: Parameter of glibc's mallopt (malloc.h): the most arenas.
_ARENA_MAX = -8


def bound_arenas(most: int = 2) -> bool:
    """Let glibc keep at most so many arenas, before the threads that would each get one are started.

    Buffers of whole chunks pass from thread to thread here (readers, decoders, kernels); an arena for each
    keeps what was freed and doubles the resident memory. Has no effect where the C library is another.

    Returns
    -------
    bool
        Whether the C library obeyed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        return bool(ctypes.CDLL("libc.so.6").mallopt(_ARENA_MAX, most))
    except (OSError, AttributeError):
        return False
