"""Lazy arrays inside a task are computed in its own thread.

Dask would give their pieces to the very cluster that waits for the task, or to threads that nobody counts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import dask

_lock = threading.Lock()
_inside = 0
_setting: dask.config.set | None = None


@contextmanager
def serial() -> Iterator[None]:
    """Compute lazy arrays in the calling thread inside this block.

    The setting is one of the process, so the first thread that comes makes it and the last one that leaves
    takes it back.
    """
    global _inside, _setting
    with _lock:
        _inside += 1
        if _inside == 1:
            _setting = dask.config.set(scheduler="synchronous")
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _setting is not None:
                _setting.__exit__(None, None, None)
