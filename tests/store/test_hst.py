"""HST WFC3/IR exposures, made up and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import fmbdask
from fmbdask.errors import InputError
from fmbdask.store.ramps import open_ramp

from .made_up import ramp, write_hst

TIMES = [8.0, 4.0, 2.0, 1.0, 0.0]


@pytest.fixture
def slopes() -> np.ndarray:
    return np.random.default_rng(0).normal(5, 1, (5, 26, 27)).astype(np.float32)


@pytest.mark.parametrize(("unit", "named"), [("COUNTS/S", "DN"), ("ELECTRONS/S", "electron")])
def test_slopes_become_counts_in_the_order_of_time(
    tmp_path: Path, slopes: np.ndarray, unit: str, named: str
) -> None:
    opened = open_ramp(write_hst(tmp_path / "x_ima.fits", slopes, TIMES, unit))
    np.testing.assert_allclose(opened[0], slopes[::-1] * np.array(TIMES[::-1])[:, None, None], rtol=1e-6)
    # the zero read was subtracted from all others: it is zero, and differences are what they were
    assert not opened[0, 0].values.any()
    np.testing.assert_array_equal(opened.read_times, TIMES[::-1])
    assert opened.attrs["units"] == named
    assert opened.attrs.get("gain") == (1.0 if named == "electron" else None)
    assert opened.attrs["reference_border"] == [5, 5, 5, 5]
    for frame in range(5):
        expected = np.zeros(slopes.shape[1:], np.uint8)
        expected[0, 4 - frame] = 2
        np.testing.assert_array_equal(opened.flags[0, frame], expected)


def test_counts_are_left_as_they_are(tmp_path: Path) -> None:
    data = ramp((5, 26, 27))
    path = write_hst(tmp_path / "x_raw.fits", data, TIMES, "COUNTS")
    with fits.open(path, mode="update") as hdus:
        hdus[0].header.update({f"ATODGN{q}": g for q, g in zip("ABCD", (2.3, 2.4, 2.3, 2.4), strict=True)})
        hdus[0].header.update({f"READNSE{q}": 20.0 for q in "ABCD"})
    opened = open_ramp(path)
    assert opened.dtype == np.uint16
    np.testing.assert_array_equal(opened.values[0], data[::-1])
    assert opened.attrs["gain"] == pytest.approx(2.35)
    assert opened.attrs["read_noise"] == pytest.approx(14.1421, abs=1e-3)


def test_quality_of_one_value_counts_for_all_pixels(tmp_path: Path, slopes: np.ndarray) -> None:
    path = write_hst(tmp_path / "x_ima.fits", slopes, TIMES)
    with fits.open(path) as hdus:
        constant = fits.ImageHDU(name="DQ", ver=2)
        constant.header.update({"NPIX1": 27, "NPIX2": 26, "PIXVALUE": 4})
        index = hdus.index_of(("DQ", 2))
        fits.HDUList([*hdus[:index], constant, *hdus[index + 1 :]]).writeto(tmp_path / "y_ima.fits")
    flags = open_ramp(tmp_path / "y_ima.fits").flags.values[0]
    assert (flags[3] == 1).all()
    assert flags[4].sum() == 2


@pytest.mark.parametrize(
    ("keyword", "value", "what"),
    [
        ("SAMPTIME", 4.0, "has frames of equal SAMPTIME: mend the headers"),
        ("SAMPTIME", "late", "says SAMPTIME = 'late': mend the header"),
        ("BUNIT", "COUNTS", r"frames in different units \(BUNIT = COUNTS, ELECTRONS/S\)"),
    ],
)
def test_headers_that_contradict_one_another(
    tmp_path: Path, slopes: np.ndarray, keyword: str, value: float | str, what: str
) -> None:
    path = write_hst(tmp_path / "x_ima.fits", slopes, TIMES)
    with fits.open(path, mode="update") as hdus:
        hdus["SCI", 1].header[keyword] = value
    with pytest.raises(InputError, match=what):
        open_ramp(path)


def test_four_reads_need_a_read_noise(tmp_path: Path) -> None:
    reads = ramp((4, 40, 40)) % 500
    path = write_hst(tmp_path / "x_ima.fits", reads.astype(np.float32), TIMES[-4:], "ELECTRONS")
    with pytest.raises(InputError, match=r"x_ima\.fits: 4 usable reads are too few .*give read_noise"):
        fmbdask.ramps.detect(open_ramp(path))
    assert fmbdask.ramps.detect(open_ramp(path, read_noise=140.0)).maps["mask"].sizes["y"] == 40


def test_the_real_exposure_is_ordered_in_time(real_data: Path) -> None:
    path = real_data / "ramps" / "ibxy01z8q_ima.fits"
    opened = open_ramp(path)
    with fits.open(path, memmap=False) as hdus:
        last, third = hdus["SCI", 1], hdus["SCI", 2]
        expected = last.data * last.header["SAMPTIME"]
        quality = hdus["DQ", 2].data
        assert third.header["SAMPNUM"] == 2
    assert opened.shape == (1, 4, 266, 266)
    np.testing.assert_allclose(opened.read_times, [0, 0.277815, 0.55563, 0.833445])
    np.testing.assert_allclose(opened.values[0, 3], expected, rtol=1e-6)
    np.testing.assert_array_equal(opened.flags.values[0, 2] == 2, (quality & 256 != 0) & (quality & 135 == 0))
    assert opened.attrs["units"] == "electron"
    assert opened.attrs["reference_border"] == [5, 5, 5, 5]
    # the stated noise of one read is that of the exposure: differences of reads scatter by 20 electrons
    scatter = np.diff(opened.values[0, :, 5:-5, 5:-5], axis=0)
    spread = 1.4826 * np.median(np.abs(scatter - np.median(scatter)))
    assert opened.attrs["read_noise"] == pytest.approx(spread / np.sqrt(2), rel=0.03)
