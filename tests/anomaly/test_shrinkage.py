"""Shrunk eigenvalues: nearer to the truth than those of the sample, in any ratio of features to vectors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbdask.anomaly.shrinkage import _hilbert, floor, shrink


@pytest.mark.parametrize(
    ("count", "fall"), [(16_000, 1e-6), (1000, 1e-6), (200, 1e-3), (100, 1e-2), (100, 1e-6)]
)
def test_shrunk_variances_are_nearer_to_those_of_the_law(count: int, fall: float) -> None:
    random = np.random.default_rng(1)
    true = np.geomspace(1.0, fall, 160)
    sample = np.cov((random.normal(size=(count, 160)) * np.sqrt(true)).T)
    values, columns = np.linalg.eigh(sample)
    values, columns = np.maximum(values[::-1], 0.0), columns[:, ::-1]
    variance = np.einsum("ji,j,ji->i", columns, true, columns)  # of the law, along what the sample found
    found = shrink(values, count)
    error = np.abs(np.log(found / variance))
    plain = np.abs(np.log(np.maximum(values, floor(values)) / variance))
    assert error.mean() < 0.75 * plain.mean()


@given(
    values=st.lists(st.floats(0, 1e6), min_size=1, max_size=40),
    count=st.integers(2, 200),
)
def test_shrunk_variances_are_positive_and_in_order(values: list[float], count: int) -> None:
    ordered = np.sort(np.array([*values, 1.0]))[::-1]
    found = shrink(ordered, count)
    assert found.shape == ordered.shape
    assert (found >= floor(ordered)).all()
    assert np.isfinite(found).all()
    assert (np.diff(found) <= 0).all()


def test_the_transform_of_the_kernel_is_smooth_where_its_series_takes_over() -> None:
    edge = np.array([20.0 - 1e-9, 20.0 + 1e-9])
    np.testing.assert_allclose(*_hilbert(edge), rtol=1e-8)
    np.testing.assert_allclose(_hilbert(np.array([1e9])), [-1 / (np.pi * 1e9)], rtol=1e-9)
