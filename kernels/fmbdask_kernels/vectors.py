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


@kernel
def _squared_distances(points, others, places, out):
    for i in range(places.shape[0]):
        point = points[i]
        for k in range(places.shape[1]):
            if places[i, k] < 0:
                out[i, k] = math.inf
                continue
            other = others[places[i, k]]
            total = 0.0
            for j in range(point.size):
                x = np.float64(point[j]) - np.float64(other[j])
                total += x * x
            out[i, k] = total


@kernel
def _excesses(values, folds, low, high, out):
    for i in range(values.shape[0]):
        value, least, most = values[i], low[folds[i]], high[folds[i]]
        found = 0.0
        for j in range(value.size):
            x, a, b = np.float64(value[j]), np.float64(least[j]), np.float64(most[j])
            if (x < a or x > b) and b > a:
                found = max(found, max(a - x, x - b) / (b - a))
        out[i] = found


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


def squared_distances(
    points: NDArray[np.float32], others: NDArray[np.float32], places: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Square of the Euclidean distance of each point from some others.

    Parameters
    ----------
    points : (n, D) float32 array
    others : (m, D) float32 array
    places : (n, k) int64 array
        Which of the others; -1 for none.

    Returns
    -------
    (n, k) float64 array
        Infinite where there is none.
    """
    if places.size and places.max() >= len(others):
        raise ValueError(f"place {places.max()} of {len(others)} points")
    out = np.empty(places.shape)
    _squared_distances(np.ascontiguousarray(points), np.ascontiguousarray(others), places, out)
    return out


def excesses(
    values: NDArray[np.float32],
    folds: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
) -> NDArray[np.float64]:
    """How far the farthest feature is beyond its range, in widths of the range.

    Parameters
    ----------
    values : (n, D) float32 array
    folds : (n,) int64 array
        Row of the ranges.
    low, high : (K, D) float32 array
        Where the ranges end; those without a width do not count.

    Returns
    -------
    (n,) float64 array
        0 where all features are within.
    """
    out = np.empty(len(values))
    _excesses(np.ascontiguousarray(values), folds, np.ascontiguousarray(low), np.ascontiguousarray(high), out)
    return out
