"""Compressed FITS files: the same numbers as plain ones, damage told, and no copy left behind."""

from __future__ import annotations

import errno
import gzip
import os
import pickle
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from astropy.io import fits

from fmbdask.errors import InputError
from fmbdask.regions import Region
from fmbdask.store.catalog import result_names
from fmbdask.store.ramps import ingest, open_ramp
from fmbdask.store.readers import open_source, packed

from .made_up import ramp, write_fits, write_jwst

SHAPE = (2, 6, 20, 24)


def gzipped(path: Path) -> Path:
    packed_path = path.with_name(f"{path.name}.gz")
    packed_path.write_bytes(gzip.compress(path.read_bytes(), 1))
    return packed_path


def tiled(
    path: Path, data: np.ndarray[Any, Any], name: str = "", checksum: bool = True, **options: Any
) -> Path:
    image = fits.CompImageHDU(data, name=name or None, **options)
    image.header["GAIN"] = 1.5
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(path, checksum=checksum)
    return path


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1", "GZIP_2"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
def test_tiles_of_integers_are_lossless(tmp_path: Path, compression: str, dtype: Any) -> None:
    data = ramp(SHAPE, np.float64) % np.iinfo(dtype).max
    data = data.astype(dtype)
    opened = open_ramp(tiled(tmp_path / "a.fits.fz", data, compression_type=compression))
    np.testing.assert_array_equal(opened.values, data)
    assert opened.attrs["exposure"] == "a"
    assert opened.attrs["gain"] == 1.5
    assert (opened.dtype == np.uint16) == (np.dtype(dtype).kind == "u")


@pytest.mark.parametrize("tile", [(2, 6, 4, 24), (1, 4, 20, 10), (1, 1, 1, 24), (2, 1, 20, 24)])
def test_tiles_of_any_shape(tmp_path: Path, tile: tuple[int, ...]) -> None:
    data = ramp(SHAPE)
    opened = open_ramp(tiled(tmp_path / "a.fits", data, compression_type="RICE_1", tile_shape=tile))
    np.testing.assert_array_equal(opened.values, data)


def test_floating_point_tiles_read_as_astropy_reads_them(tmp_path: Path) -> None:
    data = np.random.default_rng(0).normal(1000, 20, SHAPE[1:]).astype(np.float32)
    path = tiled(tmp_path / "a.fits", data, compression_type="RICE_1", quantize_level=16)
    with fits.open(path) as hdus:
        theirs = np.array(hdus[1].data)
    np.testing.assert_array_equal(open_ramp(path).values[0], theirs)
    lossless = tiled(tmp_path / "b.fits", data, compression_type="GZIP_2", quantize_level=0)
    np.testing.assert_array_equal(open_ramp(lossless).values[0], data)


def test_gzip_of_a_jwst_exposure_with_flags_and_maps(tmp_path: Path) -> None:
    data = ramp(SHAPE)
    groups = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint8)
    pixels = (np.arange(SHAPE[2] * SHAPE[3]).reshape(SHAPE[2:]) % 7 == 0).astype(np.uint32)
    path = gzipped(write_jwst(tmp_path / "a_ramp.fits", data, {"GROUPDQ": groups, "PIXELDQ": pixels}))
    opened = open_ramp(path)
    np.testing.assert_array_equal(opened.values, data)
    np.testing.assert_array_equal(opened.flags, groups)
    np.testing.assert_array_equal(opened.bad_pixel, pixels.astype(bool))
    assert opened.attrs["source"] == str(path)
    assert opened.attrs["exposure"] == "a_ramp"


def test_gzip_around_tiles(tmp_path: Path) -> None:
    data = ramp()
    path = gzipped(tiled(tmp_path / "a.fits.fz", data, compression_type="RICE_1"))
    np.testing.assert_array_equal(open_ramp(path).values[0], data)


def test_tiles_beside_plain_images(tmp_path: Path) -> None:
    data = ramp()
    images = [fits.ImageHDU(ramp(seed=5), name="ERR"), fits.CompImageHDU(data, name="SCI")]
    images.append(fits.ImageHDU(ramp(seed=6), name="LAST"))
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(open_ramp(tmp_path / "a.fits").values[0], data)
    last = open_ramp(tmp_path / "a.fits", extension=3)
    np.testing.assert_array_equal(last.values[0], ramp(seed=6))


def test_a_source_unpacks_anew_in_another_process_and_leaves_nothing(tmp_path: Path) -> None:
    data = ramp((6, 30, 30))
    source = open_source(gzipped(write_fits(tmp_path / "a.fits", data)))
    packed._unpack.cache_clear()
    before = set(os.listdir(tempfile.gettempdir()))
    again = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(again.read(Region(0, 0, 30, 0, 30)), data)
    assert not [name for name in set(os.listdir(tempfile.gettempdir())) - before if "fmbdask" in name]


def test_a_file_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = packed._gunzip

    def counted(path: str) -> IO[bytes]:
        calls.append(path)
        return original(path)

    monkeypatch.setattr(packed, "_gunzip", counted)
    path = gzipped(write_fits(tmp_path / "a.fits", ramp((6, 300, 300))))
    open_ramp(path).compute()
    open_ramp(path).compute()
    assert calls == [str(path)]


def test_a_compressed_exposure_can_be_ingested(tmp_path: Path) -> None:
    out = ingest(gzipped(write_fits(tmp_path / "a.fits", ramp())), tmp_path / "a.zarr")
    np.testing.assert_array_equal(open_ramp(out).values[0], ramp())


def test_results_are_named_without_the_packing() -> None:
    assert result_names(["/d/a.fits.gz", "/d/b.fits.fz", "/d/c.fits"]) == ["a", "b", "c"]


@pytest.mark.parametrize(("place", "what"), [(-9, "is a damaged gzip file"), (900, "is a damaged gzip file")])
def test_damaged_gzip(tmp_path: Path, place: int, what: str) -> None:
    path = gzipped(write_fits(tmp_path / "a.fits", ramp()))
    content = bytearray(path.read_bytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.fits\.gz {what}.*copy it again"):
        open_ramp(path)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = gzipped(write_fits(tmp_path / "a.fits", ramp()))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"a\.fits\.gz is a damaged gzip file"):
        open_ramp(path)


def test_damaged_tiles_are_told_by_their_checksum(tmp_path: Path) -> None:
    path = tiled(tmp_path / "a.fits", ramp(), compression_type="RICE_1")
    content = bytearray(path.read_bytes())
    content[-2000] ^= 0x10
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.fits\[1\] differs from its checksum \(DATASUM\): copy"):
        open_ramp(path)


def test_truncated_tiles(tmp_path: Path) -> None:
    path = tiled(tmp_path / "a.fits", ramp((6, 60, 60)), compression_type="RICE_1")
    os.truncate(path, 20000)
    with pytest.raises(InputError, match=r"a\.fits(\[1\])? .*copy (the file|it) again"):
        open_ramp(path)


def test_no_room_to_unpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: str) -> IO[bytes]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packed, "_gunzip", full)
    path = gzipped(write_fits(tmp_path / "a.fits", ramp()))
    with pytest.raises(
        InputError, match=r"a\.fits\.gz does not fit into .* set TMPDIR to a folder with more"
    ):
        open_ramp(path)


def test_a_mapped_file_that_is_cut_short_is_not_touched(tmp_path: Path) -> None:
    path = write_fits(tmp_path / "a.fits", ramp((6, 60, 60)))
    opened = open_ramp(path)
    opened[0, 0].compute()
    os.truncate(path, 5000)
    with pytest.raises(InputError, match="has changed since it was opened"):
        opened.compute()
