"""Lazy labelled arrays: laziness, chunks, overrides, maps."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import zarr
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbdask.errors import InputError
from fmbdask.regions import Region
from fmbdask.store.ramps import open_ramp
from fmbdask.store.readers import open_source
from fmbdask.store.readers.fits_cube import FitsCube

from .made_up import ramp, write_fits

SHAPE = (2, 5, 40, 50)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_fits(tmp_path / "x.fits", ramp(SHAPE))


def test_the_labelled_ramp(path: Path) -> None:
    opened = open_ramp(path)
    assert opened.name == "ramp"
    assert opened.dims == ("integration", "frame", "y", "x")
    assert opened.attrs["exposure"] == "x"
    assert opened.read_times.attrs["units"] == "frame"
    np.testing.assert_array_equal(opened.read_times, np.arange(5))
    np.testing.assert_array_equal(opened.values, ramp(SHAPE))


def test_opening_reads_no_pixel(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: FitsCube, region: Region) -> NDArray[Any]:
        raise AssertionError("read while opening")

    monkeypatch.setattr(FitsCube, "read", read)
    opened = open_ramp(path)
    with pytest.raises(AssertionError, match="read while opening"):
        opened.compute()


def test_a_chunk_is_one_read_of_all_frames(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmbdask.store.ramps.edge_for", lambda frames, itemsize: 16)
    reads = []
    original = FitsCube.read

    def read(self: FitsCube, region: Region) -> NDArray[Any]:
        reads.append(region)
        return original(self, region)

    monkeypatch.setattr(FitsCube, "read", read)
    opened = open_ramp(path)
    assert opened.chunks == ((1, 1), (5,), (16, 16, 8), (16, 16, 16, 2))
    np.testing.assert_array_equal(opened.values, ramp(SHAPE))
    assert len(reads) == len(set(reads)) == 2 * 3 * 4


def test_the_graph_holds_no_data_and_its_names_repeat(path: Path) -> None:
    first, again = open_ramp(path), open_ramp(path)
    assert len(pickle.dumps(first.data.dask)) < 20000
    assert first.data.name == again.data.name
    assert dask.base.tokenize(first.data) == dask.base.tokenize(again.data)
    write_fits(path, ramp((2, 5, 40, 51)))
    assert open_ramp(path).data.name != first.data.name


INDEX = st.one_of(st.integers(0, 4), st.slices(5), st.lists(st.integers(0, 4), min_size=1, max_size=3))


@given(st.tuples(st.integers(0, 1), INDEX, INDEX, INDEX))
def test_any_index_gives_what_numpy_gives(tmp_path_factory: pytest.TempPathFactory, key: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "indexed.fits"
    data = ramp((2, 5, 5, 5))
    if not path.exists():
        write_fits(path, data)
    opened = open_ramp(path)
    names = dict(zip(opened.dims, key, strict=True))
    expected = data[key[0]]
    for axis, k in zip((2, 1, 0), reversed(key[1:]), strict=True):
        expected = np.take(expected, np.arange(5)[k], axis=axis)
    np.testing.assert_array_equal(opened.isel(names).values, expected)


def test_numbers_override_the_header(tmp_path: Path) -> None:
    path = write_fits(tmp_path / "x.fits", ramp(SHAPE), GAIN=1.0, RDNOISE=9.0, REFBORD=2, FRAMETIM=3.0)
    opened = open_ramp(
        path,
        gain=2,
        read_noise="11.5",
        saturation=50000,
        reference_border=(1, 2, 3, 4),
        amplifiers=2,
        amplifier_layout="interleaved",
        frame_time=7.0,
    )
    assert (opened.attrs["gain"], opened.attrs["read_noise"], opened.attrs["saturation"]) == (2, 11.5, 50000)
    assert opened.attrs["reference_border"] == [1, 2, 3, 4]
    assert (opened.attrs["amplifiers"], opened.attrs["amplifier_layout"]) == (2, "interleaved")
    np.testing.assert_allclose(opened.read_times, 7.0 * np.arange(1, 6))
    assert open_ramp(path, reference_border=0).attrs["reference_border"] == [0, 0, 0, 0]


def test_what_the_user_says_cures_a_bad_header(tmp_path: Path) -> None:
    path = write_fits(tmp_path / "x.fits", ramp(SHAPE), GAIN=0, REFBORD="none")
    opened = open_ramp(path, gain=1.5, reference_border=0)
    assert opened.attrs["gain"] == 1.5
    assert opened.attrs["reference_border"] == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["fits", "extension", "npy"])
def test_maps_replace_numbers(tmp_path: Path, kind: str) -> None:
    path = write_fits(tmp_path / "x.fits", ramp(SHAPE), GAIN=1.0)
    values = np.random.default_rng(0).uniform(1, 2, SHAPE[2:])
    bad = (values > 1.9).astype(np.uint8)
    maps = {}
    for name, data in (("gain", values), ("bad", bad)):
        maps[name] = tmp_path / f"{name}.{'npy' if kind == 'npy' else 'fits'}"
        if kind == "npy":
            np.save(maps[name], data)
        else:
            write_fits(maps[name], data, name="SCI" if kind == "extension" else "")
    opened = open_ramp(path, gain=maps["gain"], bad_pixels=maps["bad"])
    assert "gain" not in opened.attrs
    assert opened.gain_map.dtype == np.float32
    np.testing.assert_array_equal(opened.gain_map, values.astype(np.float32))
    assert opened.gain_map.attrs["units"] == "electron/DN"
    np.testing.assert_array_equal(opened.bad_pixel, bad.astype(bool))


def test_linearity_becomes_one_map_per_power(tmp_path: Path, path: Path) -> None:
    coefficients = np.random.default_rng(0).normal(size=(3, *SHAPE[2:])).astype(np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(coefficients, name="COEFFS")]).writeto(tmp_path / "l.fits")
    opened = open_ramp(path, linearity=tmp_path / "l.fits")
    for k in range(3):
        np.testing.assert_array_equal(opened[f"linearity_{k}"], coefficients[k])


@pytest.mark.parametrize(
    ("override", "shape", "what"),
    [
        ("gain", (40, 49), r"given as gain, has shape \(40, 49\): give one of shape \(40, 50\)"),
        ("bad_pixels", (50, 40), r"given as bad_pixels, has shape \(50, 40\): give one of shape \(40, 50\)"),
        ("read_noise", (2, 40, 50), r"given as read_noise, has 3 dimensions"),
        ("linearity", (3, 40, 51), r"has shape \(3, 40, 51\): give one of shape \(coefficients, 40, 50\)"),
    ],
)
def test_maps_of_the_wrong_shape(tmp_path: Path, path: Path, override: str, shape: Any, what: str) -> None:
    np.save(tmp_path / "map.npy", np.ones(shape))
    with pytest.raises(InputError, match=what) as caught:
        open_ramp(path, **{override: tmp_path / "map.npy"})
    assert "map.npy" in str(caught.value)


def test_maps_that_are_no_maps(tmp_path: Path, path: Path) -> None:
    (tmp_path / "map.txt").write_text("1.0")
    zarr.create_group(tmp_path / "map.zarr")
    np.save(tmp_path / "words.npy", np.full(SHAPE[2:], "a"))
    for name, what in (
        ("map.txt", r"the map given as gain cannot be used: .*map\.txt is in no format"),
        ("absent.npy", r"the map given as gain cannot be used: .*absent\.npy does not exist"),
        ("map.zarr", r"map\.zarr, the map given as gain, is a Zarr store: give a FITS or \.npy file"),
        ("words.npy", r"words\.npy, the map given as gain, holds values of type <U1: give numbers"),
    ):
        with pytest.raises(InputError, match=what):
            open_ramp(path, gain=tmp_path / name)


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ({"gain": 0}, "gain is 0.0: give a number above 0"),
        ({"read_noise": "nan"}, "read_noise is nan: give a number above 0"),
        ({"reference_border": 30}, "leaves no pixel of x.fits with 40 x 50 pixels: give a smaller one"),
        ({"reference_border": (1, 2)}, r"reference_border is \(1, 2\): give one number"),
        ({"reference_border": -1}, "reference_border is -1: give one number"),
        ({"amplifiers": 51}, "51 amplifiers do not fit x.fits with 50 columns: give amplifiers from 1 to 50"),
        ({"amplifier_layout": "round"}, "amplifier_layout is 'round': give contiguous or interleaved"),
        ({"frame_time": 0.0}, "frame_time is 0.0: give seconds above 0"),
    ],
)
def test_values_that_cannot_be(path: Path, override: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        open_ramp(path, **override)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "|u1", "<i2", "<i4", ">f4", "<f8", "<f2"])
def test_npy_of_any_type_and_order(tmp_path: Path, dtype: str, order: Any) -> None:
    data = np.asarray(np.random.default_rng(0).integers(0, 120, SHAPE), dtype, order=order)
    np.save(tmp_path / "x.npy", data)
    source = open_source(tmp_path / "x.npy")
    found = source.read(Region(1, 3, 40, 5, 50))
    assert found.dtype in (np.uint16, np.float32, np.float64)
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, data[1, :, 3:, 5:])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["", "ramp", "data"])
def test_zarr_of_any_version(tmp_path: Path, zarr_format: Any, name: str) -> None:
    data = ramp(SHAPE)[0] if name == "data" else ramp(SHAPE)
    chunks = (*data.shape[:-2], 16, 16)
    if name:
        group = zarr.create_group(tmp_path / "x.zarr", zarr_format=zarr_format)
        group.create_array(name, data=data, chunks=chunks)
    else:
        zarr.create_array(tmp_path / "x.zarr", data=data, chunks=chunks, zarr_format=zarr_format)
    opened = open_ramp(tmp_path / "x.zarr")
    np.testing.assert_array_equal(opened.values, data.reshape(opened.shape))


def test_zarr_axes_in_another_order_are_refused(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "x.zarr")
    group.create_array("ramp", data=ramp(), dimension_names=("y", "x", "frame"))
    with pytest.raises(InputError, match=r"x\.zarr\[ramp\] has axes in order y, x, frame: store"):
        open_ramp(tmp_path / "x.zarr")


def test_chunks_that_make_reading_slow_are_told(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "x.zarr", shape=(450, 600, 600), chunks=(1, 600, 600), dtype=np.uint16)
    with pytest.warns(UserWarning, match="decodes 22 times what it needs: ingest the exposure first"):
        open_ramp(tmp_path / "x.zarr")


def test_zarr_timing_that_cannot_be_is_refused(tmp_path: Path) -> None:
    for name, values in (("read_times", [0.0, 1, 1, 2]), ("reads_per_frame", [1, 1, 0, 1])):
        group = zarr.create_group(tmp_path / f"{name}.zarr")
        group.create_array("ramp", data=ramp((4, 3, 3)))
        group.create_array(name, data=np.array(values))
        with pytest.raises(InputError, match=rf"{name}\.zarr\[{name}\] must hold 4"):
            open_ramp(tmp_path / f"{name}.zarr")
