"""FITS cubes: every way of storing numbers gives the numbers back, against the formula and astropy."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from fmbdask_kernels.bytes import unsigned16
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbdask.errors import InputError
from fmbdask.regions import Region, tile_regions
from fmbdask.store.readers import open_source
from fmbdask.store.readers.decode import STORED

from .made_up import ramp, write_fits, write_frames

SHAPES = st.tuples(st.integers(1, 3), st.integers(4, 7), st.integers(1, 19), st.integers(1, 21))
SCALES = st.sampled_from(
    [
        (1.0, 0.0),
        (1.0, 32768.0),
        (1.0, -128.0),
        (1.0, 2.0**31),
        (0.25, 0.0),
        (1.7, 1234.5),
        (1.0, 0.5),
        (2.0, 7.0),
    ]
)


def stored_values(bitpix: int, shape: tuple[int, ...], seed: int) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    dtype = np.dtype(STORED[bitpix])
    if bitpix < 0:
        return rng.normal(0, 1000, shape).astype(dtype)
    limits = np.iinfo(dtype)
    reach = 2**40 if bitpix == 64 else limits.max
    values = rng.integers(max(limits.min, -reach), reach, shape, endpoint=True).astype(dtype)
    values.flat[:2] = [max(limits.min, -reach), reach]
    return values


def write_stored(
    path: Path, stored: NDArray[Any], bitpix: int, scale: float, zero: float, blank: int | None
) -> None:
    """Write the words as they are, with the header we want: astropy would scale them."""
    header = fits.Header()
    header["SIMPLE"] = True
    header["BITPIX"] = bitpix
    header["NAXIS"] = stored.ndim
    for axis, size in enumerate(reversed(stored.shape), 1):
        header[f"NAXIS{axis}"] = size
    if (scale, zero) != (1.0, 0.0):
        header["BSCALE"] = scale
        header["BZERO"] = int(zero) if zero.is_integer() else zero
    if blank is not None:
        header["BLANK"] = blank
    body = stored.tobytes()
    path.write_bytes(header.tostring(padding=True).encode() + body + bytes(-len(body) % 2880))


@settings(max_examples=120)
@given(st.sampled_from(sorted(STORED)), SHAPES, SCALES, st.booleans(), st.integers(0, 2**32 - 1))
def test_any_storage_gives_its_numbers_back(
    bitpix: int, shape: tuple[int, int, int, int], scaling: tuple[float, float], blanked: bool, seed: int
) -> None:
    stored = stored_values(bitpix, shape if shape[0] > 1 else shape[1:], seed)
    scale, zero = scaling
    blank = int(stored.flat[-1]) if blanked and bitpix > 0 else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.fits"
        write_stored(path, stored, bitpix, scale, zero, blank)
        source = open_source(path)
        found = np.stack([source.read(Region(i, 0, shape[2], 0, shape[3])) for i in range(shape[0])])
        window = source.read(Region(shape[0] - 1, shape[2] // 2, shape[2], shape[3] // 3, shape[3]))
        flags = source.read_flags(Region(0, 0, shape[2], 0, shape[3]))
        if blank is None:  # astropy stumbles over BLANK in bytes and unsigned integers
            with fits.open(path, memmap=False) as hdus:
                theirs = np.asarray(hdus[0].data, np.float64).reshape(shape)
            np.testing.assert_allclose(found, theirs, rtol=3e-7, atol=1e-3 * (bitpix < 32))
    exact = stored.astype(np.float64) * scale + zero
    if blank is not None:
        exact[stored == blank] = np.nan
    exact = exact.reshape(shape)
    assert source.shape == shape
    assert found.dtype == source.dtype
    assert found.dtype.isnative
    assert found.dtype in (np.uint16, np.float32, np.float64)
    np.testing.assert_array_equal(found, exact.astype(found.dtype))
    np.testing.assert_array_equal(window, found[-1][:, shape[2] // 2 :, shape[3] // 3 :])
    assert window.flags.c_contiguous
    np.testing.assert_array_equal(flags, np.isnan(exact[0]).astype(np.uint8))
    if (bitpix, scale, zero, blank) == (16, 1.0, 32768.0, None) or (bitpix, scale, zero) == (8, 1.0, 0.0):
        assert (found.dtype == np.uint16) == (blank is None)


@given(SHAPES, st.data())
def test_the_byte_kernel_equals_numpy(shape: tuple[int, int, int, int], data: st.DataObject) -> None:
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 2**16, shape).astype(np.uint16)
    stored = (values.astype(np.int32) - 32768).astype(">i2").view("=u2")
    stored.flags.writeable = False
    y0 = data.draw(st.integers(0, shape[2] - 1))
    x0 = data.draw(st.integers(0, shape[3] - 1))
    out = np.empty((shape[1], shape[2] - y0, shape[3] - x0), np.uint16)
    unsigned16(stored, shape[0] - 1, y0, x0, out)
    reference = (stored.view(">i2").astype(np.int32) + 32768).astype(np.uint16)
    np.testing.assert_array_equal(out, reference[-1, :, y0:, x0:])


@settings(max_examples=30)
@given(SHAPES, st.sampled_from([np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64]))
def test_frames_in_extensions_equal_the_cube(shape: tuple[int, int, int, int], dtype: Any) -> None:
    cube = np.random.default_rng(3).integers(0, 120, shape[1:]).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = write_frames(Path(folder) / "x.fits", list(cube))
        source = open_source(path)
        found = source.read(Region(0, 0, shape[2], shape[3] // 2, shape[3]))
    assert source.shape == (1, *shape[1:])
    np.testing.assert_array_equal(found, cube[:, :, shape[3] // 2 :])


def test_sections_agree_with_astropy(tmp_path: Path) -> None:
    path = write_fits(tmp_path / "x.fits", ramp((2, 5, 40, 50)), name="SCI")
    source = open_source(path)
    with fits.open(path) as hdus:
        for region in tile_regions(source.shape, 16):
            theirs = hdus["SCI"].section[region.integration, :, region.y, region.x]
            np.testing.assert_array_equal(source.read(region), theirs)


def test_a_source_is_small_and_pickles(tmp_path: Path) -> None:
    data = ramp((8, 64, 64))
    source = open_source(write_fits(tmp_path / "x.fits", data))
    packed = pickle.dumps(source)
    assert len(packed) < 4000
    np.testing.assert_array_equal(pickle.loads(packed).read(Region(0, 0, 64, 0, 64)), data)


def test_a_file_that_changed_after_opening_is_not_read(tmp_path: Path) -> None:
    path = write_fits(tmp_path / "x.fits", ramp(seed=1))
    source = open_source(path)
    write_fits(path, ramp((7, 10, 12), seed=2))
    with pytest.raises(InputError, match="changed since it was opened"):
        source.read(Region(0, 0, 10, 0, 12))


def test_keywords_become_attributes_and_times(tmp_path: Path) -> None:
    header = {
        "GAIN": 1.8,
        "RDNOISE": 14.0,
        "SATURATE": 62000,
        "NOUTPUTS": 4,
        "FRAMETIM": 2.5,
        "NFRAMES": 4,
        "GROUPGAP": 1,
        "REFBORD": "4,4,2,2",
        "INSTRUME": "TEST",
    }
    source = open_source(write_fits(tmp_path / "night.fits", ramp(), **header))
    assert dict(source.attrs) == {
        "exposure": "night",
        "source": str(tmp_path / "night.fits"),
        "units": "DN",
        "gain": 1.8,
        "read_noise": 14.0,
        "saturation": 62000.0,
        "amplifiers": 4,
        "amplifier_layout": "contiguous",
        "reference_border": "4,4,2,2",
        "instrument": "TEST",
        "read_interval": 2.5,
    }
    # reads 1-4 average to 2.5 frame times; five frame times from frame to frame
    assert source.read_times is not None
    np.testing.assert_allclose(source.read_times, 2.5 * (2.5 + 5 * np.arange(6)))
    np.testing.assert_array_equal(source.reads_per_frame, 4)


def test_what_no_keyword_tells_stays_unknown(tmp_path: Path) -> None:
    source = open_source(write_fits(tmp_path / "x.fits", ramp()))
    assert set(source.attrs) == {"exposure", "source", "units"}
    assert source.read_times is None


def test_the_cube_named_sci_is_chosen_among_several(tmp_path: Path) -> None:
    data = ramp()
    images = [fits.ImageHDU(ramp(seed=5), name="ERR"), fits.ImageHDU(data, name="SCI")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "x.fits")
    np.testing.assert_array_equal(open_source(tmp_path / "x.fits").read(Region(0, 0, 10, 0, 12)), data)
