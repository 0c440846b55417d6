"""Paths through complete trees: against a walk in Python, and each row alone."""

from __future__ import annotations

import numpy as np
import pytest
from fmbdask_kernels.forest import path_lengths
from fmbdask_kernels.vectors import excesses, squared_distances
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray


def walked(
    values: NDArray[np.float32],
    forests: NDArray[np.int64],
    features: NDArray[np.int32],
    thresholds: NDArray[np.float32],
    lengths: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The same, a step at a time."""
    out = np.zeros(len(values))
    for i, k in enumerate(forests):
        for feature, threshold, length in zip(features[k], thresholds[k], lengths[k], strict=True):
            node = 0
            while node < len(feature):
                node = 2 * node + (2 if values[i, feature[node]] > threshold[node] else 1)
            out[i] += length[node - len(feature)]
    return out


@given(
    count=st.integers(0, 150),
    width=st.integers(1, 9),
    trees=st.integers(1, 4),
    levels=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_paths_equal_those_of_a_walk(count: int, width: int, trees: int, levels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.integers(-3, 4, (count, width)).astype(np.float32)
    forests = random.integers(0, 3, count)
    nodes = (3, trees, 2**levels - 1)
    features = random.integers(0, width, nodes).astype(np.int32)
    thresholds = random.integers(-3, 4, nodes).astype(np.float32)  # many are equal to values
    thresholds[random.random(nodes) < 0.2] = np.inf
    lengths = random.uniform(1.0, 9.0, (3, trees, 2**levels))
    found = path_lengths(values, forests, features, thresholds, lengths)
    np.testing.assert_array_equal(found, walked(values, forests, features, thresholds, lengths))
    for k in range(0, count, 50):  # a row knows nothing of those beside it
        assert path_lengths(values[k:], forests[k:], features, thresholds, lengths)[0] == found[k]


def test_nothing_is_read_beyond_an_array() -> None:
    values, forests = np.zeros((4, 2), np.float32), np.zeros(4, np.int64)
    features, thresholds = np.zeros((1, 1, 3), np.int32), np.zeros((1, 1, 3), np.float32)
    lengths = np.ones((1, 1, 4))
    assert path_lengths(values, forests, features, thresholds, lengths).tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="feature 2 to 2 of 2"):
        path_lengths(values, forests, features + np.int32(2), thresholds, lengths)
    with pytest.raises(ValueError, match="forest 1 to 1 of 1"):
        path_lengths(values, forests + 1, features, thresholds, lengths)
    with pytest.raises(ValueError, match="nodes"):
        path_lengths(values, forests, features, thresholds, lengths[:, :, :3])
    with pytest.raises(ValueError, match="3 forests for 4 rows"):
        path_lengths(values, forests[:3], features, thresholds, lengths)


@given(count=st.integers(0, 20), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_distances_and_excesses_equal_those_of_numpy(count: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    points, others = random.normal(size=(2, count, width)).astype(np.float32)
    places = random.integers(-1, max(count, 1), (count, 3)) if count else np.zeros((0, 3), np.int64)
    apart = points.astype(np.float64)[:, None] - others.astype(np.float64)[places]
    want = np.where(places < 0, np.inf, np.square(apart).sum(axis=2))
    np.testing.assert_allclose(squared_distances(points, others, places), want, rtol=1e-12)
    low, high = np.sort(random.normal(size=(2, 2, width)).astype(np.float32), axis=0)
    high[:, 0] = low[:, 0]  # a feature of one value has no range
    folds = random.integers(0, 2, count)
    ends = [a.astype(np.float64)[folds] for a in (low, high)]
    beyond = np.maximum(ends[0] - points, points - ends[1])[:, 1:] / (ends[1] - ends[0])[:, 1:]
    want = beyond.max(axis=1, initial=0.0)
    np.testing.assert_allclose(excesses(points, folds, low, high), want, rtol=1e-12)
