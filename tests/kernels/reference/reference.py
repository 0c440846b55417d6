"""Plain NumPy of ``fmbdask_kernels.reference``."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

REJECT = 3.5


def group_offsets(
    border: NDArray[Any], used: NDArray[np.int64], group: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Mean of each group and read after three rounds of clipping."""
    values = border[used].astype(np.float64)
    values = values - values.mean(axis=0)
    means, counts = np.zeros((used.size, groups)), np.zeros((used.size, groups), np.int64)
    for t in range(used.size):
        for g in range(groups):
            own = values[t][:, group == g].ravel()
            kept = own[np.isfinite(own)]
            for _ in range(2):
                if kept.size:
                    near = np.abs(own - kept.mean()) <= REJECT * kept.std() + 0.5
                    kept = own[near]
            counts[t, g] = kept.size
            means[t, g] = kept.mean() if kept.size else 0.0
    return means, counts


def active_sums(
    data: NDArray[Any],
    used: NDArray[np.int64],
    offset: NDArray[np.float64],
    reach: float,
    weight: NDArray[Any],
    cell: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sums of winsorised differences over cells of rows and of columns; ``offset`` (N, ny, nx)."""
    corrected = data[used].astype(np.float64) - offset
    slope = (corrected[-1] - corrected[0]) / (used.size - 1)
    d = np.clip(np.diff(corrected, axis=0) - slope, -reach, reach)
    d = np.where(np.isnan(d), 0.0, d) * weight
    bands = [np.arange(0, size, cell) for size in d.shape[1:]]
    return np.add.reduceat(d, bands[0], 1), np.add.reduceat(d, bands[1], 2), (d * d).sum(axis=(1, 2))
