"""Dense reference of ``fmbdask_kernels.events``: a whole volume labelled by SciPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Int = NDArray[np.int64]


def group_steps(
    frame: Int, y: Int, x: Int, strong: NDArray[np.bool_], frame_reach: int = 1
) -> list[set[int]]:
    """Groups of step indices; SciPy for neighbouring frames, the matrix of all pairs for a longer reach."""
    groups: list[set[int]] = []
    for kind in (True, False):
        chosen = np.flatnonzero(strong == kind)
        if chosen.size == 0:
            continue
        if frame_reach == 1:
            volume = np.zeros((frame.max() + 1, y.max() + 1, x.max() + 1), bool)
            volume[frame[chosen], y[chosen], x[chosen]] = True
            labels, _ = ndimage.label(volume, np.ones((3, 3, 3)))
            at = labels[frame[chosen], y[chosen], x[chosen]]
        else:
            at = _pairs(frame[chosen], y[chosen], x[chosen], frame_reach)
        groups += [set(chosen[at == k].tolist()) for k in np.unique(at)]
    return groups


def _pairs(frame: Int, y: Int, x: Int, reach: int) -> Int:
    """Labels from the full matrix of which step touches which."""
    apart = [np.abs(v[:, None] - v) for v in (frame, y, x)]
    touches = (apart[0] <= reach) & (apart[1] <= 1) & (apart[2] <= 1)
    reached = touches
    for _ in range(int(np.log2(frame.size)) + 1):
        reached = (reached.astype(float) @ reached.astype(float)) > 0
    return np.asarray(reached.argmax(axis=1))
