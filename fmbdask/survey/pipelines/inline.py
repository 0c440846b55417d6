"""Dask collections computed in the thread that asks, whatever scheduler the process has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import dask

_lock = Lock()
_inside = 0
_settings: Any = None


@contextmanager
def inline() -> Iterator[None]:
    """Compute in this thread: inside a task of a cluster, dask would hand blocks to the cluster again.

    The setting belongs to the process, so it stays until the last of several threads has left.
    """
    global _inside, _settings
    with _lock:
        if _inside == 0:
            _settings = dask.config.set(scheduler="synchronous")
            _settings.__enter__()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _settings.__exit__(None, None, None)
