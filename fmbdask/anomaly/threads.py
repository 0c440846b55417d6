"""One thread for linear algebra while blocks are worked on: parallel are the blocks, and bits stay the same.

BLAS may split a product in another way on another number of threads, and threads of BLAS inside threads of
Dask take each other's cores.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_lock = threading.Lock()
_users = 0
_limits: Any = None
_controller: Any = None
_loaded: tuple[bool, ...] = ()
#: Modules that bring a BLAS or an OpenMP of their own: when one was imported, libraries are looked for again.
BRINGING = ("scipy.linalg", "torch", "faiss", "sklearn", "numba.np.ufunc.omppool")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS and OpenMP to one thread in this process until the last block that is inside has left."""
    global _users, _limits

    with _lock:
        if _users == 0:
            libraries = _libraries()
            _let_any_thread_set(libraries)
            _limits = libraries.limit(limits=1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _let_any_thread_set(_controller)
                _limits.restore_original_limits()
                _let_any_thread_set(_controller)
                _limits = None


def _let_any_thread_set(libraries: Any) -> None:
    """Newer versions of threadpoolctl let the first thread alone set limits: here the first to come
    sets it, and the last to go takes it back."""
    for library in libraries.lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


def _libraries() -> Any:
    """What can be limited; looking for it takes 10 ms, so it is looked for when there may be more."""
    global _controller, _loaded
    from threadpoolctl import ThreadpoolController

    loaded = tuple(name in sys.modules for name in BRINGING)
    if _controller is None or loaded != _loaded:
        _controller, _loaded = ThreadpoolController(), loaded
    return _controller
