"""Bytes of a file to numbers, without a copy in between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .jit import exact


@exact
def unsigned16(
    stored: NDArray[np.uint16], integration: int, y0: int, x0: int, out: NDArray[np.uint16]
) -> None:
    """Copy a window of big-endian ``value - 32768`` into native unsigned values.

    Parameters
    ----------
    stored : (I, T, Y, X) uint16 array
        The 16-bit words as they lie in the file, read without swapping.
    integration, y0, x0 : int
        The integration, and the first row and column of the window.
    out : (T, ny, nx) uint16 array
        Filled with the physical values: bytes swapped and the sign bit turned, which adds 32768 modulo 65536.
    """
    frames, rows, columns = out.shape
    flip = np.uint16(0x8000)
    eight = np.uint16(8)
    for t in range(frames):
        for y in range(rows):
            line = stored[integration, t, y0 + y, x0 : x0 + columns]
            goal = out[t, y]
            for x in range(columns):
                word = line[x]
                goal[x] = np.uint16(np.uint16(word << eight) | np.uint16(word >> eight)) ^ flip
