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
    data, used, rows, columns, column, gradient, height, row, level, usable, averaged, ramps, good
):  # fmt: skip
    """The loop behind :func:`gather_ramps`, offsets with their reads last."""
    masked = usable.size > 0
    reads = used.size
    for p in range(rows.size):
        y, x = rows[p], columns[p]
        h, full, ramp, fine = height[y], level[y, x], ramps[p], good[p]
        for i in range(reads):
            ramp[i] = data[used[i], y, x]
        # reads from the first full one on are not used, nor the average before it that may hold a part of it
        below = reads
        for i in range(reads):
            if ramp[i] >= full:
                below = i - 1 if i > 0 and averaged[i - 1] else i
                break
        shared, slope, own = column[x], gradient[x], row[y]
        for i in range(reads):
            fine[i] = (i < below) & math.isfinite(ramp[i])
            ramp[i] -= (shared[i] + slope[i] * h) + own[i]
        if masked:
            for i in range(reads):
                fine[i] &= usable[used[i], y, x]


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
    (y0, x0), (ny, nx) = origin, data.shape[1:]
    column, gradient, height, row = offsets
    column, gradient = (np.ascontiguousarray(a[:, x0 : x0 + nx].T) for a in (column, gradient))
    _gather(
        data, used, rows, columns, column, gradient, height[y0 : y0 + ny],
        np.ascontiguousarray(row[:, y0 : y0 + ny].T), np.ascontiguousarray(level), mask, several, ramps, good,
    )  # fmt: skip
    return ramps, good
