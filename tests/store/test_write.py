"""Writing: exposures, ingested stores, products and catalogues come back as they were, or are refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from astropy.io import fits

from fmbdask.errors import InputError, OutputExistsError
from fmbdask.regions import Region
from fmbdask.store.ramps import RampWriter, ingest, open_ramp, verify
from fmbdask.store.readers import open_source

from .made_up import litter, ramp, write_fits, write_jwst

ATTRS = {
    "units": "DN",
    "exposure": "made",
    "gain": 1.5,
    "read_noise": 12.0,
    "saturation": 60000.0,
    "reference_border": [4, 4, 2, 2],
    "amplifiers": 4,
    "amplifier_layout": "interleaved",
    "instrument": "TEST",
}


@pytest.mark.parametrize("file_format", ["fits", "zarr"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 5, 45, 33), (5, 45, 33)])
def test_an_exposure_written_in_strips_opens_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: str, dtype: Any, shape: tuple[int, ...]
) -> None:
    monkeypatch.setattr("fmbdask.store.layout.edge_for", lambda frames, itemsize: 16)
    data = ramp((2, 5, 45, 33), dtype)[: shape[0] if len(shape) == 4 else 1]
    path = tmp_path / "deep" / f"made.{file_format}"
    with RampWriter(path, shape, dtype, ATTRS, file_format, frame_time=2.0, reads_per_frame=3) as writer:
        for i in range(data.shape[0]):
            for y in reversed(range(0, 45, writer.strip)):
                # a copy in another process may write as well
                pickle.loads(pickle.dumps(writer)).write_rows(i, y, data[i, :, y : y + writer.strip])
        assert not path.exists()
    opened = open_ramp(path)
    np.testing.assert_array_equal(opened.values, data)
    assert opened.dtype == dtype
    # FITS says how long a read takes
    interval = {"read_interval": opened.attrs["read_interval"]} if file_format == "fits" else {}
    assert opened.attrs == {**ATTRS, "source": str(path), **interval}
    np.testing.assert_allclose(opened.read_times, 2.0 * (2 + 3 * np.arange(5)))
    assert (opened.reads_per_frame == 3).all()
    assert litter(tmp_path) == []


def test_written_fits_is_what_astropy_reads(tmp_path: Path) -> None:
    data = ramp((5, 20, 30))
    with RampWriter(tmp_path / "x.fits", data.shape) as writer:
        writer.write_rows(0, 0, data)
    with fits.open(tmp_path / "x.fits", memmap=False) as hdus:
        hdus.verify("exception")
        np.testing.assert_array_equal(hdus[0].data, data)


@pytest.mark.parametrize("file_format", ["fits", "zarr"])
def test_rows_that_nobody_wrote_are_no_zeros(tmp_path: Path, file_format: str) -> None:
    def forget() -> None:
        with RampWriter(tmp_path / "x", (2, 5, 20, 30), file_format=file_format) as writer:
            writer.write_rows(0, 0, ramp((5, 20, 30)))

    with pytest.raises(InputError, match=r"not given 20 of its 40 rows, the first of .* integration 1"):
        forget()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file_format", ["fits", "zarr"])
def test_an_error_while_writing_leaves_nothing(tmp_path: Path, file_format: str) -> None:
    def fail() -> None:
        with RampWriter(tmp_path / "x", (5, 20, 30), file_format=file_format) as writer:
            writer.write_rows(0, 0, ramp((5, 20, 30)))
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_strips_that_do_not_fit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmbdask.store.layout.edge_for", lambda frames, itemsize: 16)
    with RampWriter(tmp_path / "x.zarr", (5, 40, 30), file_format="zarr") as writer:
        for block, y0 in (
            (ramp((5, 16, 29)), 0),
            (ramp((4, 16, 30)), 0),
            (ramp((5, 16, 30), np.int32), 0),
            (ramp((5, 16, 30)), 32),
        ):
            with pytest.raises(InputError, match="give all frames of whole rows"):
                writer.write_rows(0, y0, block)
        with pytest.raises(InputError, match="multiples of 16 rows"):
            writer.write_rows(0, 0, ramp((5, 17, 30)))
        writer.write_rows(0, 0, ramp((5, 40, 30)))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"dtype": np.int16}, "values of type int16: use uint16"),
        ({"file_format": "asdf"}, "choose fits or zarr"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        RampWriter(tmp_path / "x", (5, 4, 4), **changes)


@pytest.fixture
def jwst(tmp_path: Path) -> Path:
    """An exposure with everything: integrations, flags, bad pixels, reference output, averaged groups."""
    rng = np.random.default_rng(0)
    shape = (2, 6, 37, 50)
    extra = {
        "GROUPDQ": rng.integers(0, 4, shape).astype(np.uint8),
        "PIXELDQ": rng.integers(0, 2, shape[2:]).astype(np.uint32),
        "REFOUT": ramp((2, 6, 37, 12)),
    }
    header = {"INSTRUME": "MIRI", "NFRAMES": 4, "GROUPGAP": 1, "TFRAME": 3.0, "SUBSTRT1": 1, "GAIN": 5.5}
    return write_jwst(tmp_path / "a_ramp.fits", ramp(shape), extra, **header)


def test_ingest_keeps_everything(tmp_path: Path, jwst: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmbdask.store.layout.edge_for", lambda frames, itemsize: 16)
    np.save(tmp_path / "noise.npy", np.full((37, 50), 2.5, np.float32))
    np.save(tmp_path / "lin.npy", np.ones((2, 37, 50), np.float32))
    calls = []
    out = ingest(
        jwst,
        tmp_path / "out" / "a.zarr",
        prepared={"row_noise": np.arange(12.0).reshape(6, 2)},
        progress=lambda *call: calls.append(call),
        read_noise=tmp_path / "noise.npy",
        linearity=tmp_path / "lin.npy",
    )
    before = open_ramp(jwst, read_noise=tmp_path / "noise.npy", linearity=tmp_path / "lin.npy")
    after = open_ramp(out)
    xr.testing.assert_equal(before.compute(), after.compute())
    assert {**after.attrs, "source": ""} == {**before.attrs, "source": ""}
    assert (
        after.coords.keys() == before.coords.keys() >= {"flags", "bad_pixel", "read_noise_map", "linearity_1"}
    )
    source, original = open_source(out), open_source(jwst)
    np.testing.assert_array_equal(source.prepared["row_noise"], np.arange(12.0).reshape(6, 2))
    assert source.reference_output is not None
    assert original.reference_output is not None
    whole = Region(1, 0, 37, 0, 12)
    np.testing.assert_array_equal(source.reference_output.read(whole), original.reference_output.read(whole))
    assert [(done, total) for done, total, _ in calls] == [(k, 6) for k in range(1, 7)]
    assert calls[-1][2] == before.nbytes
    assert verify(out) == 2 * 3 * 4
    stored = zarr.open_group(out, mode="r")
    assert stored["ramp"].metadata.zarr_format == 3
    assert stored["ramp"].chunks == (1, 6, 16, 16)
    assert litter(tmp_path) == []


def test_an_ingested_store_opens_in_xarray_alone(tmp_path: Path, jwst: Path) -> None:
    out = ingest(jwst, tmp_path / "a.zarr")
    alone = xr.open_zarr(out, consolidated=False)
    np.testing.assert_array_equal(alone["ramp"], open_ramp(jwst))
    assert alone["ramp"].dims == ("integration", "frame", "y", "x")


def chunk_file(store: Path) -> Path:
    return next(p for p in sorted((store / "ramp" / "c").rglob("*")) if p.is_file())


@pytest.mark.parametrize("place", [20, -9])
def test_a_flipped_byte_is_found(tmp_path: Path, jwst: Path, place: int) -> None:
    out = ingest(jwst, tmp_path / "a.zarr")
    content = bytearray(chunk_file(out).read_bytes())
    content[place] ^= 1
    chunk_file(out).write_bytes(content)
    with pytest.raises(
        InputError, match=r"a\.zarr: the chunk of integration 0, rows 0-36, columns 0-49 .*again"
    ):
        verify(out)


def test_a_chunk_that_cannot_be_decoded_is_told_when_read(tmp_path: Path, jwst: Path) -> None:
    out = ingest(jwst, tmp_path / "a.zarr")
    content = bytearray(chunk_file(out).read_bytes())
    content[:4] = b"\xff" * 4
    chunk_file(out).write_bytes(content)
    with pytest.raises(
        InputError, match=r"a\.zarr cannot be read at rows 0-36, columns 0-49 .*write the store"
    ):
        open_ramp(out).compute()


def test_a_missing_chunk_is_not_read_as_zero(tmp_path: Path, jwst: Path) -> None:
    out = ingest(jwst, tmp_path / "a.zarr")
    chunk_file(out).unlink()
    with pytest.raises(
        InputError, match="lacks 1 of its 2 chunks, which would read as 0: write the store again"
    ):
        open_ramp(out).compute()


def test_damage_while_writing_is_found_and_leaves_nothing(
    tmp_path: Path, jwst: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = zarr.Array.__setitem__

    def damaged(self: Any, key: Any, value: Any) -> None:
        original(self, key, value ^ 1 if value.dtype == np.uint16 else value)

    monkeypatch.setattr(zarr.Array, "__setitem__", damaged)
    with pytest.raises(InputError, match="differs from its checksum: ingest the exposure again"):
        ingest(jwst, tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == [jwst]


def test_zeros_are_written_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmbdask.store.layout.edge_for", lambda frames, itemsize: 16)
    data = np.zeros((5, 20, 30), np.uint16)
    data[4, 3, 2] = 1
    out = ingest(write_fits(tmp_path / "x.fits", data), tmp_path / "x.zarr")
    np.testing.assert_array_equal(open_ramp(out)[0], data)


def test_flags_that_are_all_zero_are_stored_too(tmp_path: Path) -> None:
    flags = {"GROUPDQ": np.zeros((1, 5, 20, 30), np.uint8)}
    out = ingest(write_jwst(tmp_path / "a.fits", ramp((1, 5, 20, 30)), flags), tmp_path / "a.zarr")
    assert not open_ramp(out).flags.values.any()


def test_a_number_beats_the_map_in_a_store(tmp_path: Path) -> None:
    np.save(tmp_path / "gain.npy", np.full((10, 12), 2.0))
    out = ingest(write_fits(tmp_path / "x.fits", ramp()), tmp_path / "x.zarr", gain=tmp_path / "gain.npy")
    assert "gain_map" in open_ramp(out).coords
    opened = open_ramp(out, gain=3.0)
    assert "gain_map" not in opened.coords
    assert opened.attrs["gain"] == 3.0


def test_ingest_does_not_overwrite_unasked(tmp_path: Path) -> None:
    first, second = (
        write_fits(tmp_path / "a.fits", ramp(seed=1)),
        write_fits(tmp_path / "b.fits", ramp(seed=2)),
    )
    out = ingest(first, tmp_path / "x.zarr")
    with pytest.raises(OutputExistsError, match=r"x\.zarr is already there"):
        ingest(second, out)
    np.testing.assert_array_equal(open_ramp(out)[0], ramp(seed=1))
    ingest(second, out, overwrite=True)
    np.testing.assert_array_equal(open_ramp(out)[0], ramp(seed=2))
    assert litter(tmp_path) == []


def test_only_ingested_stores_can_be_verified(tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "x.zarr").create_array("ramp", data=ramp())
    with pytest.raises(InputError, match="has no checksums"):
        verify(tmp_path / "x.zarr")


def test_a_chunk_that_was_cut_short_is_not_read(tmp_path: Path, jwst: Path) -> None:
    out = ingest(jwst, tmp_path / "a.zarr")
    chunk = chunk_file(out)
    os.truncate(chunk, chunk.stat().st_size // 2)
    with pytest.raises(InputError, match=r"is truncated or damaged: write the store again"):
        open_ramp(out).compute()
