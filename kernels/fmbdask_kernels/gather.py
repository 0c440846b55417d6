"""Ramps of single pixels, gathered from a block for the kernels that look at few of them."""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .jit import kernel


@kernel
def _gather(
    data, used, rows, columns, y0, x0, column, gradient, height, row, level, usable, averaged, ramps, good
):  # fmt: skip
    """The loop behind :func:`gather_ramps`."""
    masked = usable.size > 0
    for p in range(rows.size):
        y, x = rows[p], columns[p]
        h = height[y + y0]
        below = True
        for i in range(used.size):
            value = np.float32(data[used[i], y, x])
            if below and value >= level[y, x]:
                below = False
                if i > 0 and averaged[i - 1]:
                    good[p, i - 1] = False
            fine = below and math.isfinite(value)
            if masked:
                fine = fine and usable[used[i], y, x]
            offset = (column[i, x + x0] + gradient[i, x + x0] * h) + row[i, y + y0]
            ramps[p, i] = value - offset
            good[p, i] = fine


def gather_ramps(
    data: NDArray[Any],
    used: NDArray[np.int64],
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    origin: tuple[int, int],
    offsets: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]],
    level: NDArray[np.float32],
    usable: NDArray[np.bool_] | None = None,
    averaged: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Corrected ramps of single pixels of a block, and which of their reads are used.

    Parameters
    ----------
    data : (T, ny, nx) array
        Counts [DN].
    used : (N,) int array
        Frames to use.
    rows, columns : (K,) int arrays
        Pixels, counted in the block.
    origin : (int, int)
        Row and column of the block in the frame.
    offsets : (N, nx), (N, nx), (ny,), (N, ny) float32 arrays
        Of the whole frame: ``column + gradient * height + row`` is subtracted [DN].
    level : (ny, nx) float32 array
        Reads from the first one at or above it on are not used [DN].
    usable : (T, ny, nx) bool array, optional
        False where a read must not be used.
    averaged : (N,) bool array, optional
        Frames that average several reads: some of these may be full in the last one below the level, so it is
        not used either.

    Returns
    -------
    (K, N) float32 array, (K, N) bool array
        Counts less offsets [DN], and whether a read is used: below the level, finite, and not excluded.
    """
    ramps = np.empty((rows.size, used.size), np.float32)
    good = np.empty((rows.size, used.size), np.bool_)
    mask = np.ones((0, 0, 0), np.bool_) if usable is None else usable
    # one layout whatever comes in: the kernel is compiled once
    several = np.zeros(used.size, np.bool_) if averaged is None else averaged
    _gather(
        data, used, rows, columns, *origin, *offsets, np.ascontiguousarray(level), mask, several, ramps, good
    )  # fmt: skip
    return ramps, good
