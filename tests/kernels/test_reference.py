"""Offsets that pixels share, against plain NumPy and against offsets that were put in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fmbdask_kernels.reference import active_sums, group_offsets
from hypothesis import given, settings
from hypothesis import strategies as st

from .reference import reference as dense

FEW = settings(max_examples=25, derandomize=True)


def strip(frames: int, rows: int, columns: int, seed: int, dtype: Any = np.uint16) -> np.ndarray[Any, Any]:
    random = np.random.default_rng(seed)
    pedestal = random.integers(4000, 6000, (rows, columns))
    return (pedestal + np.rint(8 * random.standard_normal((frames, rows, columns)))).astype(dtype)


@FEW
@given(
    st.integers(4, 9), st.integers(1, 5), st.integers(1, 23), st.integers(1, 4), st.integers(0, 99),
    st.sampled_from([np.uint16, np.float32, np.int32]),
)  # fmt: skip
def test_group_offsets_equal_numpy(
    frames: int, rows: int, columns: int, groups: int, seed: int, dtype: Any
) -> None:
    border = strip(frames, rows, columns, seed, dtype)
    border[frames // 2, 0, 0] += 900
    used = np.arange(frames)[seed % 2 :]
    group = np.arange(columns) % (groups + 1) - 1
    means, number = group_offsets(border, used, group, groups)
    expected, counts = dense.group_offsets(border, used, group, groups)
    np.testing.assert_array_equal(number, counts)
    np.testing.assert_allclose(means, expected, atol=1e-6)


@FEW
@given(
    st.integers(4, 9), st.integers(1, 6), st.integers(1, 40), st.integers(0, 99), st.booleans(),
    st.sampled_from([np.uint16, np.float32, np.float64]),
)  # fmt: skip
def test_active_sums_equal_numpy(
    frames: int, rows: int, columns: int, seed: int, sloped: bool, dtype: Any
) -> None:
    random = np.random.default_rng(seed)
    data = strip(frames, rows, columns, seed, dtype)
    data[frames // 2 :, 0, 0] += 700
    if data.dtype.kind == "f":
        data[1, 0, -1] = np.nan
    used = np.arange(frames)[seed % 2 :]
    column = random.normal(0, 5, (used.size, columns)).astype(np.float32)
    gradient = (random.normal(0, 5, (used.size, columns)) * sloped).astype(np.float32)
    height = (random.uniform(-0.5, 0.5, rows) * sloped).astype(np.float32)
    weight = (random.random((rows, columns)) < 0.8).astype(np.float32)
    offset = column[:, None].astype(np.float64) + gradient[:, None] * height[:, None]
    cell = 1 + seed % 9
    found = active_sums(data, used, column, gradient, height, 40.0, weight, cell)
    for got, expected in zip(found, dense.active_sums(data, used, offset, 40.0, weight, cell), strict=True):
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=0.05)


def test_an_offset_of_each_group_comes_out_in_every_read() -> None:
    border = strip(20, 4, 64, 1).astype(np.float64)
    group = np.arange(64) // 32 * 2 + np.arange(64) % 2
    wanted = np.random.default_rng(3).normal(0, 30, (20, 4))
    wanted -= wanted.mean(axis=0)
    means, _ = group_offsets(border + wanted[:, None, group], np.arange(20), group, 4)
    np.testing.assert_allclose(means, wanted, atol=5 * 8 / np.sqrt(64))


@pytest.mark.parametrize("height", [200.0, 40000.0, -3000.0])
def test_hit_reference_pixels_are_rejected(height: float) -> None:
    border = strip(20, 4, 64, 1, np.float32)
    group = np.zeros(64, np.int64)
    clean, number = group_offsets(border, np.arange(20), group, 1)
    border[9, 2, 11:14] += height
    means, fewer = group_offsets(border, np.arange(20), group, 1)
    assert fewer[9, 0] <= number[9, 0] - 3
    # the pixel's own mean over time carries a share of the hit
    assert np.abs(means - clean).max() < 0.3 + 3 * abs(height) / 20 / 256


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_stay_out(value: float) -> None:
    border = strip(8, 4, 16, 1, np.float32)
    border[3, 1, 5] = value
    group = np.zeros(16, np.int64)
    means, number = group_offsets(border, np.arange(8), group, 1)
    assert np.isfinite(means).all()
    assert number.max() == 63
    data = strip(8, 6, 16, 2, np.float32)
    data[3, 1, 5] = value
    flat = np.zeros((8, 16), np.float32)
    whole = np.ones((6, 16), np.float32)
    found = active_sums(data, np.arange(8), flat, flat, np.zeros(6, np.float32), 50.0, whole, 4)
    assert all(np.isfinite(part).all() for part in found)


def test_groups_without_a_pixel_have_no_offset() -> None:
    means, number = group_offsets(strip(6, 2, 8, 1), np.arange(6), np.full(8, 1), 3)
    assert (number[:, [0, 2]] == 0).all()
    assert (means[:, [0, 2]] == 0).all()
    assert (number[:, 1] > 0).all()
