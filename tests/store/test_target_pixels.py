"""Kepler and TESS target pixel files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from fmbdask.errors import InputError
from fmbdask.store.checks import check_exposure
from fmbdask.store.ramps import ingest, open_ramp

from .made_up import ramp, write_fits, write_target_pixels

CADENCES = 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    flux = rng.normal(500, 20, (CADENCES, 5, 4)).astype(np.float32)
    flux[7, 2, 3] = np.nan
    raw = rng.integers(1000, 90000, flux.shape)
    raw[9, 1, 1] = -1
    days = 2668.0 + 0.02 * np.arange(CADENCES)
    days[[3, 20]] = np.nan
    quality = np.zeros(CADENCES, np.int32)
    quality[5], quality[6], quality[8] = 8192, 128, 2
    return write_target_pixels(tmp_path / "star.fits", flux, raw, days, quality)


def kept(path: Path, column: str) -> np.ndarray:
    with fits.open(path, memmap=False) as hdus:
        table = hdus[1].data
        return np.asarray(table[column])[np.isfinite(table["TIME"])]


def test_fluxes_of_the_cadences_that_have_a_time(path: Path) -> None:
    with pytest.warns(UserWarning, match=r"star\.fits: 2 of 30 cadences have no time and are left out"):
        opened = open_ramp(path)
    assert opened.shape == (1, 28, 5, 4)
    np.testing.assert_array_equal(opened.values[0], kept(path, "FLUX"))
    steps = np.diff(opened.read_times)
    np.testing.assert_allclose(steps[:2], 0.02 * 86400)
    np.testing.assert_allclose(steps[2], 0.04 * 86400)
    assert opened.attrs["units"] == "electron/s"
    assert opened.attrs["accumulating"] is False
    assert "2 of 30 cadences have no time and are left out" in opened.attrs["notes"]
    assert opened.attrs["instrument"] == "Kepler Photometer"


@pytest.mark.filterwarnings("ignore:.*cadences have no time")
def test_quality_becomes_flags_but_cosmic_rays_stay(path: Path) -> None:
    flags = open_ramp(path).flags.values[0]
    unusable = flags.all(axis=(1, 2))
    assert list(np.flatnonzero(unusable)) == [7]
    assert flags[6, 2, 3] == 1
    assert flags.sum() == 20 + 1


@pytest.mark.filterwarnings("ignore:.*cadences have no time")
def test_raw_counts_are_exact(path: Path) -> None:
    opened = open_ramp(path, extension="raw_cnts")
    expected = kept(path, "RAW_CNTS").astype(np.float64)
    expected[expected == -1] = np.nan
    np.testing.assert_array_equal(opened.values[0], expected)
    assert opened.attrs["units"] == "DN"
    assert opened.attrs["gain"] == 113.31
    with pytest.raises(InputError, match=r"star\.fits\[1\] has no pixels in a column BKG: give FLUX or RAW"):
        open_ramp(path, extension="BKG")
    with pytest.raises(InputError, match=r"only FLUX can be accumulated"):
        open_ramp(path, extension="RAW_CNTS", accumulate=True)


@pytest.mark.filterwarnings("ignore:.*cadences have no time")
def test_the_integral_over_time_is_a_ramp(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"star\.fits holds fluxes that do not accumulate.* accumulate=True"):
        check_exposure(open_ramp(path))
    opened = open_ramp(path, accumulate=True)
    check_exposure(opened)
    assert "accumulating" not in opened.attrs
    assert opened.attrs["units"] == "electron"
    flux = kept(path, "FLUX").astype(np.float64)
    flux[6, 2, 3] = np.nanmedian(flux[:, 2, 3])
    steps = np.diff(opened.read_times.values, prepend=0)[:, None, None]
    np.testing.assert_allclose(np.diff(opened.values[0], axis=0, prepend=0), flux * steps)
    assert opened.flags.values[0, 6, 2, 3] == 1
    stored = open_ramp(ingest(path, tmp_path / "s.zarr", accumulate=True))
    np.testing.assert_array_equal(stored.values, opened.values)
    with pytest.raises(InputError, match="do not accumulate"):
        check_exposure(open_ramp(ingest(path, tmp_path / "f.zarr")))


def test_only_target_pixel_files_can_be_accumulated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.fits is no target pixel file.*: leave accumulate out"):
        open_ramp(write_fits(tmp_path / "x.fits", ramp()), accumulate=True)


def test_a_truncated_table(path: Path) -> None:
    os.truncate(path, 9500)
    with pytest.raises(InputError, match=r"star\.fits(\[\d\])? (is truncated|cannot be read)"):
        open_ramp(path)


@pytest.mark.filterwarnings("ignore:.*cadences have no time")
def test_a_real_target_pixel_file(real_data: Path) -> None:
    path = real_data / "ramps" / "test-tpf-star.fits"
    opened = open_ramp(path)
    assert opened.shape == (1, 1287, 3, 3)
    np.testing.assert_array_equal(opened.values[0], kept(path, "FLUX"))
    raw = open_ramp(path, extension="RAW_CNTS")
    np.testing.assert_array_equal(raw.values[0], kept(path, "RAW_CNTS"))
    np.testing.assert_allclose(np.diff(opened.read_times).min(), 1765.6, atol=0.5)
    assert "3 of 1290 cadences have no time" in opened.attrs["notes"]
