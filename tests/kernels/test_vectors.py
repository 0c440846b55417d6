"""Sums over features: against NumPy, and each row alone."""

from __future__ import annotations

import numpy as np
from fmbdask_kernels.vectors import cosines, weighted_squares
from hypothesis import given
from hypothesis import strategies as st


@given(count=st.integers(0, 20), width=st.integers(1, 70), seed=st.integers(0, 99))
def test_sums_equal_those_of_numpy(count: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    one, other = random.normal(size=(2, count, width)).astype(np.float32)
    a, b = one.astype(np.float64), other.astype(np.float64)
    want = (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    np.testing.assert_allclose(cosines(one, other), want, rtol=1e-12, atol=1e-13)
    folds, weights = random.integers(0, 3, count), random.uniform(size=(3, width))
    squares = weighted_squares(one, folds, weights)
    np.testing.assert_allclose(squares, (weights[folds] * a**2).sum(axis=1), rtol=1e-12)
    for k in range(count):  # a row knows nothing of those beside it
        assert cosines(one[k:], other[k:])[0] == cosines(one, other)[k]
        assert weighted_squares(one[k:], folds[k:], weights)[0] == squares[k]


def test_large_and_zero_vectors() -> None:
    large = np.full((1, 8), 3e38, np.float32)
    np.testing.assert_allclose(cosines(large, -large), [-1.0])
    assert np.isnan(cosines(large, 0 * large)).all()
