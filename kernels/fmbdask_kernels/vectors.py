"""Sums over the features of vectors, in float64: a row at a time, so that no row knows the others."""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .jit import kernel


@kernel
def _cosines(first, second, out):
    for i in range(first.shape[0]):
        a, b = first[i], second[i]
        both, one, other = 0.0, 0.0, 0.0
        for j in range(a.size):
            x, y = np.float64(a[j]), np.float64(b[j])
            both += x * y
            one += x * x
            other += y * y
        out[i] = both / math.sqrt(one * other) if one > 0.0 and other > 0.0 else math.nan


@kernel
def _weighted_squares(values, folds, weights, out):
    for i in range(values.shape[0]):
        value, weight = values[i], weights[folds[i]]
        total = 0.0
        for j in range(value.size):
            x = np.float64(value[j])
            total += weight[j] * (x * x)
        out[i] = total


def cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of the angle between vectors.

    Parameters
    ----------
    first, second : (n, D) float32 arrays

    Returns
    -------
    (n,) float64 array
        From -1 to 1; NaN where a vector is zero.
    """
    out = np.empty(len(first))
    _cosines(np.ascontiguousarray(first), np.ascontiguousarray(second), out)
    return out


def weighted_squares(
    values: NDArray[np.float32], folds: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum over the features of weight times square, with weights by fold.

    Parameters
    ----------
    values : (n, C) float32 array
    folds : (n,) int64 array
        Row of the weights.
    weights : (K, C) float64 array

    Returns
    -------
    (n,) float64 array
    """
    out = np.empty(len(values))
    _weighted_squares(np.ascontiguousarray(values), folds, np.ascontiguousarray(weights), out)
    return out
