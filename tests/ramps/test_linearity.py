"""Coefficients make counts linear, and say so where they cannot."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from fmbdask.errors import InputError
from fmbdask.ramps import detect
from fmbdask.ramps.detector import describe
from fmbdask.ramps.linearity import linearise

from .made_up import counts, labelled, with_map


def linear(ramp: xr.DataArray) -> xr.DataArray:
    return linearise(ramp, describe(ramp))


def coefficients(*values: float, rows: int = 40, columns: int = 40) -> dict[str, np.ndarray]:
    return {f"linearity_{k}": np.full((rows, columns), v, np.float32) for k, v in enumerate(values)}


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int32])
def test_the_polynomial_is_applied(dtype: type) -> None:
    ramp = with_map(labelled(counts(dtype=dtype)), **coefficients(100, 0.9, 2e-6))
    x = ramp.values.astype(float)
    expected = 100 + 0.9 * x + 2e-6 * x * x
    found = linear(ramp)
    assert found.dtype == dtype
    np.testing.assert_allclose(found.values, expected, atol=0.51 if found.dtype.kind in "ui" else 0.01)


def test_without_coefficients_nothing_happens() -> None:
    ramp = labelled(counts())
    assert linear(ramp) is ramp


def test_full_pixels_stay_full_and_unknown_ones_are_not_used() -> None:
    data = counts()
    data[6:, 3, 4] = 65535
    known = coefficients(0, 0.5)
    known["linearity_1"][5, 6] = np.nan
    found = linear(with_map(labelled(data), **known)).values[0]
    assert (found[6:, 3, 4] == 65535).all()
    assert (found[:, 5, 6] == 65535).all()
    maps = detect(with_map(labelled(data), **known)).maps
    assert np.isnan(maps["rate"].values[0, 5, 6])
    assert np.isfinite(maps["rate"].values[0, 7, 7])


def test_signed_counts_below_zero_stay_below_zero() -> None:
    data = (counts().astype(np.int32) - 5000).astype(np.int16)
    found = linear(with_map(labelled(data), **coefficients(0, 1)))
    np.testing.assert_array_equal(found.values[0], data)


def test_more_than_nine_powers_keep_their_order() -> None:
    values = [0.0, 1.0] + [0.0] * 9 + [1e-30]
    ramp = with_map(labelled(counts(dtype=np.float64)), **coefficients(*values))
    np.testing.assert_allclose(linear(ramp).values, ramp.values + 1e-30 * ramp.values**11, rtol=1e-5)


def test_a_missing_power_is_an_error() -> None:
    known = coefficients(0, 1, 2)
    del known["linearity_1"]
    with pytest.raises(InputError, match=r"linearity has coefficients .*: give one for every power from 0"):
        detect(with_map(labelled(counts(), source="dark.fits"), **known))


def test_chunks_do_not_matter() -> None:
    ramp = with_map(labelled(counts()), **coefficients(3, 1.1, 1e-6))
    cut = ramp.chunk({"frame": -1, "y": 13, "x": 7})
    np.testing.assert_array_equal(linear(ramp).values, linear(cut).values)
    assert detect(ramp).maps.identical(detect(cut).maps)
