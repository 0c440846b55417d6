"""Where an array is: in the memory of this machine, or on a GPU."""

from __future__ import annotations


def on_gpu(array: object) -> bool:
    """Whether an array is one of CuPy, found without importing it."""
    return type(array).__module__.partition(".")[0] == "cupy"
