"""Offsets that pixels share: of an amplifier, a column parity and a read (reference pixels), and of a row.

Reference pixels see the electronics but no light. Their mean per read, amplifier and parity, hit pixels
rejected, is the offset to subtract; bottom and top rows are kept apart, so that a gradient along the columns
can be interpolated. Active pixels show what is common to many of them beyond that: the mean of their
winsorised differences, minus each pixel's own mean difference.

Source: the reference-pixel step of the JWST pipeline (amplifiers, odd and even columns, top and bottom rows).
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .jit import kernel

f4 = np.float32
#: A reference pixel further than this many standard deviations from its group is taken as hit, in that read.
REJECT = 3.5
LARGEST = np.finfo(np.float64).max


@kernel
def _group_means(border, used, group, means, counts, residual):
    """Clipped mean over the pixels of each group of the counts less each pixel's mean over time."""
    n, rows, columns = used.size, border.shape[1], border.shape[2]
    groups = means.shape[1]
    for y in range(rows):
        for x in range(columns):
            total = 0.0
            for t in range(n):
                total += float(border[used[t], y, x])
            residual[y, x] = total / n
    sums, squares = np.zeros(groups), np.zeros(groups)
    centre, reach = np.zeros(groups), np.zeros(groups)
    for t in range(n):
        for g in range(groups):
            # infinite counts are never within reach
            centre[g], reach[g] = 0.0, LARGEST
        for _ in range(3):
            for g in range(groups):
                sums[g], squares[g], counts[t, g] = 0.0, 0.0, 0
            for y in range(rows):
                for x in range(columns):
                    g = group[x]
                    if g < 0:
                        continue
                    v = float(border[used[t], y, x]) - residual[y, x]
                    if abs(v - centre[g]) <= reach[g]:
                        sums[g] += v
                        squares[g] += v * v
                        counts[t, g] += 1
            for g in range(groups):
                if counts[t, g] > 0:
                    mean = sums[g] / counts[t, g]
                    spread = math.sqrt(max(squares[g] / counts[t, g] - mean * mean, 0.0))
                    centre[g] = mean
                    # whole counts may agree exactly: half a count is never an outlier
                    reach[g] = REJECT * spread + 0.5
        for g in range(groups):
            means[t, g] = centre[g]


def group_offsets(
    border: NDArray[np.generic], used: NDArray[np.int64], group: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean offset of each group of columns in each used read.

    Parameters
    ----------
    border : (T, rows, columns) array
        Counts of reference pixels [DN].
    used : (N,) int array
        Frames to use.
    group : (columns,) int array
        Group of each column (amplifier and parity), negative for none.
    groups : int
        Number of groups.

    Returns
    -------
    (N, groups) array, (N, groups) int array
        Offset [DN] about each pixel's mean over time, and the number of pixels it rests on (0: offset 0).
    """
    means = np.zeros((used.size, groups))
    counts = np.zeros((used.size, groups), np.int64)
    _group_means(border, used, group, means, counts, np.zeros(border.shape[1:]))
    return means, counts


@kernel
def _active_sums(
    data, used, column, height, gradient, reach, weight, cell, interval, column_sum, row_sum, square
):  # fmt: skip
    """Sums over a few rows and columns of winsorised differences, less each pixel's mean and the offsets."""
    n, ny, nx = used.size, data.shape[1], data.shape[2]
    m = n - 1
    slope = np.empty(nx, np.float32)
    value = np.empty(nx, np.float32)
    for y in range(ny):
        h = height[y]
        first, last, share = data[used[0], y], data[used[m], y], weight[y]
        for x in range(nx):
            total = (column[m, x] - column[0, x]) + h * (gradient[m, x] - gradient[0, x])
            slope[x] = (f4(last[x]) - f4(first[x]) - total) / f4(m)
        for t in range(m):
            a, b = data[used[t], y], data[used[t + 1], y]
            c0, c1, s, length = column[t], column[t + 1], column_sum[t, y // cell], interval[t]
            for x in range(nx):
                value[x] = (f4(b[x]) - f4(a[x])) - ((c1[x] - c0[x]) + slope[x] * length)
            if h != 0:
                g0, g1 = gradient[t], gradient[t + 1]
                for x in range(nx):
                    value[x] -= h * (g1[x] - g0[x])
            # selects, not min and max: those keep track of NaN, which the compiler cannot vectorise
            for x in range(nx):
                v = value[x]
                v = reach if v > reach else v
                v = -reach if v < -reach else v
                v = v if v == v else f4(0)
                value[x] = v * share[x]
            for x in range(nx):
                s[x] += value[x]
            power = f4(0)
            for start in range(0, nx, cell):
                total = f4(0)
                for x in range(start, min(start + cell, nx)):
                    total += value[x]
                    power += value[x] * value[x]
                row_sum[t, y, start // cell] = total
            square[t] += power


def active_sums(
    data: NDArray[np.generic],
    used: NDArray[np.int64],
    column: NDArray[np.float32],
    gradient: NDArray[np.float32],
    height: NDArray[np.float32],
    reach: float,
    weight: NDArray[np.float32],
    cell: int,
    interval: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Sums of what the pixels of a block have in common, from read to read; NaN counts as no difference.

    Parameters
    ----------
    data : (T, ny, nx) array
        Counts [DN].
    used : (N,) int array
        Frames to use.
    column, gradient : (N, nx) float32 array, height : (ny,) float32 array
        Offsets already known: ``column + gradient * height`` [DN].
    reach : float
        Differences are winsorised at this distance from each pixel's mean one [DN].
    weight : (ny, nx) float32 array
        1 for pixels to use, 0 for others.
    cell : int
        Rows, and columns, that are summed together: where few pixels jump, few sums do.
    interval : (N - 1,) float32 array, optional
        Time of each difference in units of their mean; by default all are equal.

    Returns
    -------
    (N - 1, bands, nx), (N - 1, ny, bands), (N - 1,) float32 arrays
        Sums over each ``cell`` rows, over each ``cell`` columns, and of all squares [DN, DN, DN^2].
    """
    ny, nx = data.shape[1:]
    m = used.size - 1
    columns = np.zeros((m, -(-ny // cell), nx), np.float32)
    rows = np.zeros((m, ny, -(-nx // cell)), np.float32)
    square = np.zeros(m, np.float32)
    time = np.ones(m, np.float32) if interval is None else interval
    _active_sums(data, used, column, height, gradient, f4(reach), weight, cell, time, columns, rows, square)
    return columns, rows, square
