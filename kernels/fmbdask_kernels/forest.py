"""Path lengths of rows in forests of binary trees that are kept as plain arrays.

Each tree is a complete binary tree: the children of node k are 2k + 1, for values up to the threshold, and
2k + 2, for larger ones. Below a leaf that is not on the last level thresholds are infinite, so every row goes
down the same number of levels, without a branch that a processor could guess wrong.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .jit import ZERO, exact

#: Rows that go through a tree while it is in the nearest cache.
TOGETHER = 64


@exact
def _path_lengths(values, forests, features, thresholds, lengths, levels, out):
    rows, inner = values.shape[0], features.shape[2]
    out[:] = 0.0
    for start in range(0, rows, TOGETHER):
        stop = min(start + TOGETHER, rows)
        for tree in range(features.shape[1]):
            for i in range(start, stop):
                forest, node = forests[i], ZERO
                for _ in range(levels):
                    feature = features[forest, tree, node]
                    right = values[i, feature] > thresholds[forest, tree, node]
                    node = 2 * node + 1 + np.int64(right)
                out[i] += lengths[forest, tree, node - inner]


def path_lengths(
    values: NDArray[np.float32],
    forests: NDArray[np.int64],
    features: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    lengths: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Sum over the trees of a forest of the length of a row's path.

    Parameters
    ----------
    values : (n, width) float32 array
    forests : (n,) int64 array
        Forest that a row goes through.
    features : (forests, trees, 2**levels - 1) int32 array
        Column that is compared in each node.
    thresholds : (forests, trees, 2**levels - 1) float32 array
        Values that are larger go right.
    lengths : (forests, trees, 2**levels) float64 array
        Of the path that ends in each place of the last level.

    Returns
    -------
    (n,) float64 array

    Raises
    ------
    ValueError
        If the shapes do not fit, or a forest or feature is not there: nothing is read beyond an array.
    """
    levels = lengths.shape[2].bit_length() - 1
    shape = (*lengths.shape[:2], lengths.shape[2] - 1)
    if lengths.shape[2] != 2**levels or features.shape != shape or thresholds.shape != shape:
        raise ValueError(f"nodes {features.shape} and {thresholds.shape}, ends {lengths.shape}")
    for what, places, count in (("forest", forests, len(lengths)), ("feature", features, values.shape[1])):
        if places.size and not 0 <= places.min() <= places.max() < count:
            raise ValueError(f"{what} {places.min()} to {places.max()} of {count}")
    if len(forests) != len(values):
        raise ValueError(f"{len(forests)} forests for {len(values)} rows")
    out = np.empty(len(values))
    nodes, cuts, ends = (np.ascontiguousarray(a) for a in (features, thresholds, lengths))
    _path_lengths(np.ascontiguousarray(values), forests, nodes, cuts, ends, levels, out)
    return out
