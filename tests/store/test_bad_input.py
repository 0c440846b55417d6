"""Bad input: every kind is one clear sentence that names the file and says what to do."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from astropy.io import fits

from fmbdask.errors import InputError
from fmbdask.store.checks import check_exposure
from fmbdask.store.ramps import open_ramp

from .made_up import ramp, write_fits, write_frames


def truncated(folder: Path) -> Path:
    path = write_fits(folder / "x.fits", ramp((6, 60, 60)))
    os.truncate(path, 30000)
    return path


def truncated_extension(folder: Path) -> Path:
    path = write_fits(folder / "x.fits", ramp((6, 60, 60)), name="SCI")
    os.truncate(path, 30000)
    return path


def truncated_npy(folder: Path) -> Path:
    np.save(folder / "x.npy", ramp())
    os.truncate(folder / "x.npy", 500)
    return folder / "x.npy"


def no_image(folder: Path) -> Path:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=np.arange(3))])
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(folder / "x.fits")
    return folder / "x.fits"


def several_cubes(folder: Path) -> Path:
    images = [fits.ImageHDU(ramp(), name=name) for name in ("A", "B")]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(folder / "x.fits")
    return folder / "x.fits"


def unreadable_header(folder: Path) -> Path:
    path = folder / "x.fits"
    path.write_bytes(b"SIMPLE  =                    T" + b"\xff" * 5000)
    return path


def gain_that_is_text(folder: Path) -> Path:
    return write_fits(folder / "x.fits", ramp(), GAIN="high")


def gain_below_zero(folder: Path) -> Path:
    return write_fits(folder / "x.fits", ramp(), GAIN=-1.0)


def no_integrations(folder: Path) -> Path:
    return write_fits(folder / "x.fits", ramp(), NINTS=0)


def frame_time_in_words(folder: Path) -> Path:
    return write_fits(folder / "x.fits", ramp(), FRAMETIM="long")


def border_in_words(folder: Path) -> Path:
    return write_fits(folder / "x.fits", ramp(), REFBORD="four")


def border_without_pixels(folder: Path) -> Path:
    return write_fits(folder / "x.fits", ramp(), REFBORD=5)


def frames_of_different_shape(folder: Path) -> Path:
    return write_frames(folder / "x.fits", [*ramp((4, 10, 12)), np.zeros((10, 11), np.uint16)])


def frames_stored_differently(folder: Path) -> Path:
    return write_frames(folder / "x.fits", [*ramp((4, 10, 12)), np.zeros((10, 12), np.float32)])


def three_frames_in_extensions(folder: Path) -> Path:
    return write_frames(folder / "x.fits", list(ramp((3, 10, 12))))


def objects(folder: Path) -> Path:
    np.save(folder / "x.npy", np.array([{}, 1], object), allow_pickle=True)
    return folder / "x.npy"


def complex_numbers(folder: Path) -> Path:
    np.save(folder / "x.npy", np.zeros((5, 4, 4), complex))
    return folder / "x.npy"


def broken_npy_header(folder: Path) -> Path:
    (folder / "x.npy").write_bytes(b"\x93NUMPY\x01\x00\x10\x00nonsense nonsense")
    return folder / "x.npy"


def wrong_suffix(folder: Path) -> Path:
    np.save(folder / "x.npy", ramp())
    return (folder / "x.npy").rename(folder / "x.fits")


def gzipped_array(folder: Path) -> Path:
    np.save(folder / "x.npy", ramp())
    (folder / "x.npy.gz").write_bytes(gzip.compress((folder / "x.npy").read_bytes()))
    return folder / "x.npy.gz"


def images_of_a_mosaic(folder: Path) -> Path:
    images = [fits.ImageHDU(frame) for frame in ramp((4, 10, 12))]
    for number, image in enumerate(images):
        image.header["DETSEC"] = f"[{1 + 12 * number}:{12 + 12 * number},1:10]"
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(folder / "x.fits")
    return folder / "x.fits"


def images_of_different_things(folder: Path) -> Path:
    frames = list(ramp((4, 10, 12)).astype(np.float32))
    return write_frames(folder / "x.fits", frames, ["FLUX", "IVAR", "MODEL", "SKY"])


def calibrated_flux(folder: Path) -> Path:
    return write_fits(folder / "x.fits", ramp(), BUNIT="MJy/sr")


def text(folder: Path) -> Path:
    (folder / "x.txt").write_text("frame,y,x\n")
    return folder / "x.txt"


def empty(folder: Path) -> Path:
    (folder / "x.fits").touch()
    return folder / "x.fits"


def plain_folder(folder: Path) -> Path:
    (folder / "x").mkdir()
    return folder / "x"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "x")
    return folder / "x"


def store_without_ramp(folder: Path) -> Path:
    zarr.create_group(folder / "x.zarr")
    return folder / "x.zarr"


def store_of_broken_metadata(folder: Path) -> Path:
    (folder / "x.zarr").mkdir()
    (folder / "x.zarr" / "zarr.json").write_text("{")
    return folder / "x.zarr"


CASES: list[tuple[Callable[[Path], Path], str, str]] = [
    (truncated, r"x\.fits\[0\] is truncated: the file has 30000 bytes", "copy the file again"),
    (truncated_extension, r"x\.fits\[1, SCI\] is truncated", "copy the file again"),
    (truncated_npy, r"x\.npy is truncated", "copy the file again"),
    (no_image, r"x\.fits has no image in any extension", "give a file that holds a ramp"),
    (
        several_cubes,
        r"x\.fits holds several cubes \(extensions 1 A, 2 B\)",
        "give the ramp's number or name as extension",
    ),
    (unreadable_header, r"x\.fits\[0\] has a header without an END card", "get a fresh copy"),
    (gain_that_is_text, r"x\.fits gives 'high' as its gain \(GAIN\)", "give gain as a number"),
    (gain_below_zero, r"x\.fits gives -1\.0 as its gain \(GAIN\)", "mend the file"),
    (no_integrations, r"x\.fits says NINTS = 0", "mend the header"),
    (frame_time_in_words, r"x\.fits says FRAMETIM = 'long'", "mend the header"),
    (border_in_words, r"border \(REFBORD\) that .*x\.fits gives is 'four'", "give one number of pixels"),
    (border_without_pixels, r"border \[5, 5, 5, 5\].* leaves no pixel of x\.fits", "give a smaller one"),
    (frames_of_different_shape, r"x\.fits\[5\] has shape \(10, 11\) where", "give frames of one shape"),
    (frames_stored_differently, r"x\.fits\[5\] and .*x\.fits\[1\] differ in BITPIX", "store all frames"),
    (three_frames_in_extensions, r"x\.fits \(one frame per extension\) has 3 frames", "at least 4"),
    (objects, r"x\.npy holds Python objects", "save a plain array"),
    (complex_numbers, r"x\.npy holds values of type complex128", "give real numbers"),
    (broken_npy_header, r"x\.npy has no readable NumPy header", "save the array again"),
    (wrong_suffix, r"x\.fits is named like a FITS file but holds a NumPy array", "rename it"),
    (gzipped_array, r"x\.npy\.gz is a NumPy array compressed by gzip", "gunzip"),
    (images_of_a_mosaic, r"x\.fits\[2\] and .*x\.fits\[1\] differ in DETSEC, as .* a mosaic", "one detector"),
    (
        images_of_different_things,
        r"x\.fits\[2, IVAR\] and .*x\.fits\[1, FLUX\] have different names",
        "alike",
    ),
    (calibrated_flux, r"x\.fits\[0\] says BUNIT = 'MJy/sr', which is calibrated flux", "before flux"),
    (text, r"x\.txt is in no format that can be read", "give FITS, .npy, Zarr, HDF5 or ASDF"),
    (empty, r"x\.fits is empty", "copy the file again"),
    (plain_folder, r"x is a folder without Zarr metadata", "give a Zarr store"),
    (pipe, r"x is not a file", "give FITS, .npy, Zarr"),
    (store_without_ramp, r"x\.zarr has no array named ramp or data", "name the array"),
    (store_of_broken_metadata, r"x\.zarr has Zarr metadata that cannot be read", "write the store again"),
    (lambda folder: folder / "absent.fits", r"absent\.fits does not exist", "check the path"),
]


@pytest.mark.parametrize(("make", "what", "cure"), CASES)
def test_bad_files(tmp_path: Path, make: Callable[[Path], Path], what: str, cure: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        open_ramp(make(tmp_path))
    sentence = str(caught.value)
    assert cure in sentence
    assert "\n" not in sentence
    assert str(tmp_path) in sentence or "x.fits" in sentence


@pytest.mark.parametrize("file_format", ["fits", "npy", "zarr"])
@pytest.mark.parametrize(
    ("shape", "what"),
    [
        ((9,), "has 1 dimension, shape"),
        ((9, 9), "has 2 dimensions, shape"),
        ((1, 2, 5, 9, 9), "has 5 dimensions, shape"),
        ((3, 9, 9), "has 3 frames along the ramp, shape"),
        ((2, 1, 9, 9), "has 1 frame along the ramp, shape"),
    ],
)
def test_wrong_dimensions_and_too_few_frames(
    tmp_path: Path, file_format: str, shape: tuple[int, ...], what: str
) -> None:
    path = tmp_path / f"x.{file_format}"
    if file_format == "fits":
        write_fits(path, ramp(shape))
    elif file_format == "npy":
        np.save(path, ramp(shape))
    else:
        zarr.create_group(path).create_array("ramp", data=ramp(shape))
    with pytest.raises(InputError, match=what) as caught:
        open_ramp(path)
    assert re.search(r"x\.(fits|npy|zarr)", str(caught.value))
    assert "give" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write_fits(tmp_path / "x.fits", ramp())
    path.chmod(0)
    with pytest.raises(InputError, match="ask its owner"):
        open_ramp(path)


def test_a_file_that_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_fits(tmp_path / "x.fits", ramp())
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=r"x\.fits may not be read: ask its owner"):
        open_ramp(path)


@pytest.mark.parametrize("shape", [(5, 7, 33), (4, 1, 1), (5, 131, 17), (3, 4, 9, 5)])
def test_non_square_odd_and_small_frames_are_no_error(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = ramp(shape)
    opened = open_ramp(write_fits(tmp_path / "x.fits", data))
    np.testing.assert_array_equal(opened.values.reshape(shape), data)
    assert "reference_border" not in opened.attrs


def saved(folder: Path, data: np.ndarray[Any, Any]) -> Path:
    np.save(folder / "x.npy", data)
    return folder / "x.npy"


def test_constant_exposure(tmp_path: Path) -> None:
    opened = open_ramp(saved(tmp_path, np.full((5, 40, 30), 7, np.uint16)))
    with pytest.raises(InputError, match=r"x\.npy is 7 in every frame and pixel: give an exposure that"):
        check_exposure(opened)


def test_constant_second_integration(tmp_path: Path) -> None:
    data = ramp((2, 5, 40, 30))
    data[1] = 0
    with pytest.raises(InputError, match=r"x\.npy \(integration 1\) is 0 in every frame"):
        check_exposure(open_ramp(saved(tmp_path, data)))


def test_one_differing_value_outside_all_samples_is_enough(tmp_path: Path) -> None:
    data = np.full((5, 200, 200), 7, np.uint16)
    data[3, 60, 130] = 8
    check_exposure(open_ramp(saved(tmp_path, data)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_exposure_without_a_finite_value(tmp_path: Path, value: float) -> None:
    opened = open_ramp(saved(tmp_path, np.full((5, 40, 30), value, np.float32)))
    with pytest.raises(InputError, match=r"x\.npy holds no finite value"):
        check_exposure(opened)


def test_some_nan_and_infinite_values_are_flagged(tmp_path: Path) -> None:
    data = ramp((5, 40, 30)).astype(np.float32)
    data[1, 2, 3], data[4, 30, 20] = np.nan, np.inf
    opened = open_ramp(saved(tmp_path, data))
    check_exposure(opened)
    np.testing.assert_array_equal(opened.flags.values[0], (~np.isfinite(data)).astype(np.uint8))


@pytest.mark.parametrize("level", [None, 60000.0])
def test_saturated_from_the_first_frame(tmp_path: Path, level: float | None) -> None:
    data = np.full((5, 40, 30), 65535, np.uint16)
    data[:, :4], data[1:, 20, 20] = 3000, 65534
    if level is not None:
        data[:, 4:] -= 2000
    opened = open_ramp(saved(tmp_path, data), saturation=level, reference_border=4)
    with pytest.raises(InputError, match=r"x\.npy is saturated in every pixel from the first frame"):
        check_exposure(opened)


def test_saturated_in_some_pixels_is_no_error(tmp_path: Path) -> None:
    data = ramp((5, 40, 30))
    data[:, :39] = 65535
    check_exposure(open_ramp(saved(tmp_path, data)))


def test_saturation_maps_are_looked_at(tmp_path: Path) -> None:
    np.save(tmp_path / "level.npy", np.full((40, 30), 90, np.float32))
    opened = open_ramp(saved(tmp_path, ramp((5, 40, 30))), saturation=tmp_path / "level.npy")
    with pytest.raises(InputError, match="saturated in every pixel"):
        check_exposure(opened)
