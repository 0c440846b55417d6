"""JWST layouts, made up and real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from fmbdask.errors import InputError
from fmbdask.regions import Region
from fmbdask.store.ramps import ingest, open_ramp
from fmbdask.store.readers import open_source

from .made_up import ramp, write_jwst

SHAPE = (2, 6, 20, 24)
MIRI = "MIRI_5582_89_S_20180308-010230_SCE1"


def test_uncal_of_averaged_groups(tmp_path: Path) -> None:
    data = ramp(SHAPE)
    header = {"NINTS": 2, "NGROUPS": 6, "NFRAMES": 8, "GROUPGAP": 2, "TFRAME": 10.0, "TGROUP": 100.0}
    opened = open_ramp(write_jwst(tmp_path / "a_uncal.fits", data, {}, **header))
    np.testing.assert_array_equal(opened.values, data)
    assert opened.dtype == np.uint16
    np.testing.assert_allclose(opened.read_times, 45 + 100 * np.arange(6))
    assert (opened.reads_per_frame == 8).all()
    assert opened.attrs["read_interval"] == 10.0
    stored = open_ramp(ingest(tmp_path / "a_uncal.fits", tmp_path / "a.zarr"))
    assert stored.attrs["read_interval"] == 10.0
    # another time of a frame says nothing of the reads in it
    assert "read_interval" not in open_ramp(tmp_path / "a_uncal.fits", frame_time=100.0).attrs
    assert "flags" not in opened.coords


def test_ramp_with_flags_and_bad_pixels(tmp_path: Path) -> None:
    data = ramp(SHAPE).astype(np.float32)
    data[1, 2, 3, 4] = np.nan
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 8, SHAPE).astype(np.uint8)
    pixels = rng.choice(np.array([0, 1, 2, 2**31, 2**31 + 1], np.uint32), SHAPE[2:])
    path = write_jwst(tmp_path / "a_ramp.fits", data, {"GROUPDQ": groups, "PIXELDQ": pixels})
    opened = open_ramp(path)
    expected = groups & 3
    expected[1, 2, 3, 4] |= 1
    assert opened.dtype == np.float32
    np.testing.assert_array_equal(opened.values, data)
    np.testing.assert_array_equal(opened.flags, expected)
    np.testing.assert_array_equal(opened.bad_pixel, (pixels & 1).astype(bool))


def test_border_follows_from_the_place_on_the_detector(tmp_path: Path) -> None:
    place = {"INSTRUME": "NIRCAM", "SUBSTRT1": 2048 - 23, "SUBSTRT2": 1}
    opened = open_ramp(write_jwst(tmp_path / "a.fits", ramp(SHAPE), {}, NOUTPUTS=4, FASTAXIS=-1, **place))
    assert opened.attrs["reference_border"] == [4, 0, 0, 4]
    assert (opened.attrs["amplifiers"], opened.attrs["amplifier_layout"]) == (4, "contiguous")


def test_amplifiers_that_lie_along_rows_are_not_taken_for_columns(tmp_path: Path) -> None:
    opened = open_ramp(write_jwst(tmp_path / "a.fits", ramp(SHAPE), {}, NOUTPUTS=4, FASTAXIS=2))
    assert "amplifiers" not in opened.attrs


@pytest.mark.parametrize(
    ("name", "data"),
    [("GROUPDQ", np.zeros((2, 6, 20, 23), np.uint8)), ("PIXELDQ", np.zeros((19, 24), np.uint32))],
)
def test_flags_of_another_shape_are_refused(tmp_path: Path, name: str, data: np.ndarray) -> None:
    path = write_jwst(tmp_path / "a.fits", ramp(SHAPE), {name: data})
    with pytest.raises(InputError, match=rf"a\.fits\[2, {name}\] has shape .* or remove the extension"):
        open_source(path)


@pytest.mark.parametrize(("start", "border"), [(1, [0, 0, 4, 0]), (1009, [0, 0, 0, 4]), (500, [0, 0, 0, 0])])
def test_the_border_of_miri_is_where_the_detector_ends(tmp_path: Path, start: int, border: list[int]) -> None:
    opened = open_ramp(write_jwst(tmp_path / "a.fits", ramp(SHAPE), {}, INSTRUME="MIRI", SUBSTRT1=start))
    assert opened.attrs["reference_border"] == border


def test_raw_miri_frames_are_split_into_pixels_and_reference_output(tmp_path: Path) -> None:
    pixels, output = ramp((3, 5, 8, 12)), ramp((3, 5, 8, 3), seed=2)
    tail = output.transpose(0, 1, 3, 2).reshape(3, 5, 2, 12)
    frames = np.concatenate([pixels, tail], axis=2).reshape(15, 10, 12)
    image = fits.PrimaryHDU(frames)
    image.header.update({"INSTRUME": "MIRI", "FILETYPE": "raw", "NINT": 3, "NGROUPS": 5, "COLSTART": 1})
    image.writeto(tmp_path / "raw.fits")
    source = open_source(tmp_path / "raw.fits")
    reference = source.reference_output
    assert reference is not None
    assert source.attrs["reference_border"] == [0, 0, 4, 0]
    for i in range(3):
        np.testing.assert_array_equal(source.read(Region(i, 1, 7, 2, 11)), pixels[i, :, 1:7, 2:11])
        np.testing.assert_array_equal(
            source.reference_output.read(Region(i, 1, 8, 1, 3)), output[i, :, 1:, 1:]
        )


def test_counts_that_contradict_the_image_are_refused(tmp_path: Path) -> None:
    image = fits.PrimaryHDU(ramp((14, 10, 12)))
    image.header.update({"NINTS": 3, "NGROUPS": 5})
    image.writeto(tmp_path / "raw.fits")
    with pytest.raises(InputError, match="14 frames where its header counts 3 integrations of 5"):
        open_source(tmp_path / "raw.fits")


def test_the_real_miri_exposure_is_the_same_in_both_layouts(real_data: Path) -> None:
    raw = open_ramp(real_data / "ramps" / f"{MIRI}.fits")
    pipe = open_ramp(real_data / "ramps" / f"{MIRI}_pipe.fits")
    with fits.open(real_data / "ramps" / f"{MIRI}_pipe.fits", memmap=False) as hdus:
        science, output = hdus["SCI"].data, hdus["REFOUT"].data
    assert raw.shape == pipe.shape == (5, 50, 64, 72)
    np.testing.assert_array_equal(raw.values, science)
    np.testing.assert_array_equal(pipe.values, science)
    np.testing.assert_allclose(pipe.read_times, 0.085 * np.arange(1, 51))
    np.testing.assert_array_equal(raw.read_times, pipe.read_times)
    for opened in (raw, pipe):
        source = open_source(opened.attrs["source"])
        assert source.reference_output is not None
        found = [source.reference_output.read(Region(i, 0, 64, 0, 18)) for i in range(5)]
        np.testing.assert_array_equal(found, output)
        # the subarray touches the left edge of the detector only
        assert opened.attrs["reference_border"] == [0, 0, 4, 0]
        assert (opened.attrs["amplifiers"], opened.attrs["amplifier_layout"]) == (4, "interleaved")
        assert "gain" not in opened.attrs


def test_slopes_are_refused(real_data: Path) -> None:
    with pytest.raises(InputError, match="BUNIT = 'DN/s', which are slopes and no ramp"):
        open_source(real_data / "ramps" / f"{MIRI}_pipe_rateints.fits")
