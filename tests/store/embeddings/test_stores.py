"""Stores written and read back: odd sizes, borders of chunks and shards, appends that die, damage."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import fmbdask
from fmbdask.errors import InputError, LockedError, OutputExistsError
from fmbdask.regions import BLOCK, CHUNK_LIMIT
from fmbdask.store.embeddings import EmbeddingWriter, Modality, open_embeddings, write_embeddings, writer
from fmbdask.store.embeddings.layout import MANY_CHUNKS, chunk_rows, shard_rows
from fmbdask.store.embeddings.opening import read_store

from .made_up import vectors, write

cuts = st.lists(st.integers(0, 2 * BLOCK + 5), min_size=1, max_size=4)


@settings(max_examples=12)
@given(sizes=cuts, text=st.booleans(), twice=st.booleans(), shards=st.booleans())
def test_any_blocks_and_appends_give_the_same_store(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], text: bool, twice: bool, shards: bool
) -> None:
    path = tmp_path_factory.mktemp("store") / "e.zarr"
    total = sum(sizes)
    image, spectrum = vectors(total, 3), vectors(total, 2, 1)
    image[::7] = np.nan
    spectrum[1::5, 1] = np.inf
    ids = np.array([f"é{i}" for i in range(total)]) if text else np.arange(total) * 3
    z = np.linspace(0, 1, total)
    edges = np.cumsum([0, *sizes])
    modalities = [Modality("image", 3, model="m"), Modality("spectrum", 2)]
    first = 1 if twice else len(sizes)
    with pytest.MonkeyPatch.context() as patch:
        if shards:
            patch.setattr(writer, "shard_rows", lambda widths, objects: 2 * BLOCK)
        for part, append in ((slice(0, first), False), (slice(first, len(sizes)), True)):
            if append and not twice:
                continue
            with EmbeddingWriter(path, None if append else modalities, append=append) as out:
                for a, b in list(pairwise(edges))[part]:
                    both = {"image": image[a:b], "spectrum": spectrum[a:b]}
                    late = {"late": z[a:b]} if append else {}
                    out.write(ids[a:b], both, {"z": z[a:b], **late})
    ds = open_embeddings(path)
    np.testing.assert_array_equal(ds["image"].values, image)
    np.testing.assert_array_equal(ds["spectrum"].values, spectrum)
    np.testing.assert_array_equal(ds["valid_image"], ~np.isnan(image).any(axis=1))
    np.testing.assert_array_equal(ds["valid_spectrum"], np.isfinite(spectrum).all(axis=1))
    np.testing.assert_array_equal(ds["z"], z)
    if total:
        np.testing.assert_array_equal(ds["object_id"], ids)
    if twice and total > edges[first]:
        np.testing.assert_array_equal(np.isnan(ds["late"]), np.arange(total) < edges[first])
    if not total:
        return
    rows = np.random.default_rng(0).integers(-1, total, 50)
    stored = read_store(path).vectors("image")
    assert stored.plain
    expected = np.where((rows >= 0)[:, None], image[np.maximum(rows, 0)], np.nan)
    np.testing.assert_array_equal(stored.take(rows), expected)


@pytest.mark.filterwarnings("error")
def test_xarray_and_zarr_read_the_same_without_warnings(tmp_path: Path) -> None:
    image = vectors(20, 4)
    path = write(
        tmp_path / "e.zarr",
        [f"o{i}" for i in range(20)],
        {"image": image},
        {"ra": np.arange(20.0), "dec": np.zeros(20), "targetid": np.arange(20), "survey": ["sv3"] * 20},
        model="aion",
        version="1",
    )
    ours, theirs = fmbdask.open_embeddings(path), xr.open_zarr(path, consolidated=False)
    assert set(theirs.coords) == set(ours.coords)
    np.testing.assert_array_equal(theirs["image"].values, image)
    np.testing.assert_array_equal(np.asarray(theirs["object_id"]).astype("U3"), ours["object_id"])
    assert ours["image"].dims == ("object", "image_feature")
    assert ours["image"].attrs == {
        "model": "aion",
        "version": "1",
        "weights_sha256": "",
        "preprocessing": "",
        "embedding_key": "",
    }
    assert (ours.attrs["kind"], ours.attrs["layout"], ours["ra"].attrs["units"]) == ("embeddings", 1, "deg")
    assert ours["targetid"].dtype == np.int64
    assert ours["survey"].values[3] == "sv3"
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ours))["image"].values, image)
    np.testing.assert_array_equal(ours["image"][3:9:2, 1].values, image[3:9:2, 1])
    np.testing.assert_array_equal(ours["image"][-1].values, image[-1])


def test_positions_are_absent_where_nobody_has_one(tmp_path: Path) -> None:
    path = write(
        tmp_path / "e.zarr", [1, 2], {"image": vectors(2, 3)}, {"ra": [np.nan] * 2, "dec": [1, np.nan]}
    )
    ds = open_embeddings(path)
    assert "ra" not in ds.coords
    np.testing.assert_array_equal(ds["dec"], [1, np.nan])


@given(st.integers(1, 10**7), st.integers(1, 10**8))
def test_blocks_are_whole_chunks_and_shards_whole_blocks(features: int, objects: int) -> None:
    rows = chunk_rows(features)
    assert BLOCK % rows == 0
    assert rows == 1 or rows * features * 4 <= CHUNK_LIMIT
    shard = shard_rows([features], objects)
    assert (shard is None) == (-(-objects // rows) <= MANY_CHUNKS)
    assert shard is None or shard % BLOCK == 0


def test_codecs_of_others_are_read_too(tmp_path: Path) -> None:
    image = vectors(5000, 3)
    path = write(tmp_path / "e.zarr", np.arange(5000), {"image": image})
    group = zarr.open_group(path, mode="r+")
    attrs = dict(group["image"].attrs)
    del group["image"]
    group.create_array("image", data=image, chunks=(1000, 2), attributes=attrs)
    np.testing.assert_array_equal(open_embeddings(path)["image"].values, image)
    stored = read_store(path).vectors("image")
    assert not stored.plain
    np.testing.assert_array_equal(stored.take(np.array([7, -1, 3]))[[0, 2]], image[[7, 3]])


def test_a_zero_vector_is_no_vector(tmp_path: Path) -> None:
    image = np.array([[0, 0], [1, -1], [3e38, 3e38], [np.inf, -np.inf]], np.float32)
    path = write(tmp_path / "e.zarr", range(4), {"image": image})
    assert open_embeddings(path)["valid_image"].values.tolist() == [False, True, True, False]


def test_an_append_that_dies_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    first = vectors(BLOCK + 100, 3)
    path = write(tmp_path / "e.zarr", np.arange(len(first)), {"image": first}, {"z": np.ones(len(first))})
    code = f"""
        import os, numpy as np
        from fmbdask.store.embeddings import EmbeddingWriter, table
        table.put = lambda *_: os._exit(9)  # killed between the vectors and the columns
        with EmbeddingWriter({str(path)!r}, append=True) as out:
            out.write(np.arange(10**6, 10**6 + {2 * BLOCK}), {{"image": np.ones(({2 * BLOCK}, 3))}})
    """
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True)
    assert died.returncode == 9, died.stderr
    assert zarr.open_array(path / "image", mode="r").shape[0] > len(first)
    ds = open_embeddings(path)
    np.testing.assert_array_equal(ds["image"].values, first)
    assert ds["z"].sum() == len(first)
    second = vectors(50, 3, 1)
    with EmbeddingWriter(path, append=True) as out:
        out.write(np.arange(50) + 10**6, {"image": second})
    ds = open_embeddings(path)
    np.testing.assert_array_equal(ds["image"].values, np.concatenate([first, second]))
    assert np.isnan(ds["z"].values[-50:]).all()
    assert xr.open_zarr(path, consolidated=False).sizes["object"] == len(first) + 50


def test_an_append_that_fails_takes_back_what_it_wrote(tmp_path: Path) -> None:
    first = vectors(100, 3)
    path = write(tmp_path / "e.zarr", np.arange(100), {"image": first})
    with (
        pytest.raises(InputError, match="the object 99, which is in the store already"),
        EmbeddingWriter(path, append=True) as out,
    ):
        out.write(np.arange(99, 99 + BLOCK), {"image": vectors(BLOCK, 3)})
    theirs = xr.open_zarr(path, consolidated=False)
    np.testing.assert_array_equal(theirs["image"].values, first)


def test_one_process_appends_at_a_time(tmp_path: Path) -> None:
    path = write(tmp_path / "e.zarr", [1], {"image": vectors(1, 3)})
    with EmbeddingWriter(path, append=True) as out:
        out.write([2], {"image": vectors(1, 3)})
        with (
            pytest.raises(LockedError, match="appended to by another process"),
            EmbeddingWriter(path, append=True),
        ):
            pass
    late = EmbeddingWriter(path, append=True)
    with EmbeddingWriter(path, append=True) as out:
        out.write([3], {"image": vectors(1, 3)})
    with pytest.raises(LockedError, match="grew"), late:
        pass


def test_a_store_that_fails_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the object 7 more than once"):
        write(tmp_path / "e.zarr", [7, 8, 7], {"image": vectors(3, 2)})
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "e.zarr", [1], {"image": vectors(1, 2)})
    with pytest.raises(OutputExistsError):
        EmbeddingWriter(path, [Modality("image", 2)])
    with EmbeddingWriter(path, [Modality("image", 2)], overwrite=True) as out:
        out.write([5, 6], {"image": vectors(2, 2)})
    assert open_embeddings(path)["object_id"].values.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("ids", "blocks", "columns", "sentence"),
    [
        ([1, 2], {"image": vectors(3, 2)}, {}, "vectors of shape"),
        ([1, 2], {"image": vectors(2, 3)}, {}, "vectors of shape"),
        ([1], {"other": vectors(1, 2)}, {}, "no modality other"),
        ([1.5], {}, {}, "no whole numbers"),
        ([None, 3], {}, {}, "has no id"),
        (["a", 3, None], {}, {}, "kinds int, str"),
        ([1, 2], {}, {"z": [1]}, "z has 1 values"),
        ([1, 2], {}, {"dec": [0, 91]}, "dec of object 2 is 91"),
        ([1, 2], {}, {"ra": ["x", "y"]}, "ra is text"),
        ([1], {}, {"image": [1]}, "cannot be called image"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(
    tmp_path: Path, ids: list[object], blocks: dict[str, object], columns: dict[str, object], sentence: str
) -> None:
    with (
        pytest.raises(InputError, match=sentence),
        EmbeddingWriter(tmp_path / "e.zarr", [Modality("image", 2)]) as out,
    ):
        out.write(np.array([*ids, None], object)[:-1], blocks, columns)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["object", "ra", "valid_x", "a b", "x_feature", ""])
def test_names_that_mean_something_else_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="name of a modality"):
        EmbeddingWriter(tmp_path / "e.zarr", [Modality(name, 3)])


@pytest.mark.parametrize("shards", [False, True])
def test_damaged_chunks_are_an_error_not_a_value(
    tmp_path: Path, shards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shards:
        monkeypatch.setattr(writer, "shard_rows", lambda widths, objects: 2 * BLOCK)
    path = write(tmp_path / "e.zarr", np.arange(2 * BLOCK), {"image": vectors(2 * BLOCK, 3)})
    chunk = path / "image" / "c" / "0" / "0"
    os.truncate(chunk, chunk.stat().st_size - 8)
    ds = open_embeddings(path)
    with pytest.raises(InputError, match="truncated or damaged"):
        ds["image"].values  # noqa: B018
    chunk.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        ds["image"][:3].compute()


def test_what_is_no_store_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_embeddings(tmp_path / "no.zarr")
    with pytest.raises(InputError, match="no embedding store"):
        open_embeddings(tmp_path)
    zarr.create_group(str(tmp_path / "ramp.zarr")).create_array("ramp", shape=(2,), dtype="u2")
    with pytest.raises(InputError, match="fmbdask ramps detect"):
        open_embeddings(tmp_path / "ramp.zarr")
    path = write(tmp_path / "e.zarr", [1], {"image": vectors(1, 2)})
    group = zarr.open_group(path, mode="r+")
    group.attrs["layout"] = 2
    with pytest.raises(InputError, match="layout 2"):
        open_embeddings(path)
    group.attrs["layout"] = 1
    del group["valid_image"]
    with pytest.raises(InputError, match="lacks valid_image"):
        open_embeddings(path)


def test_datasets_in_memory_are_written(tmp_path: Path) -> None:
    path = write(tmp_path / "e.zarr", [1, 2], {"image": vectors(2, 3)}, {"z": [1.0, 2.0]}, model="m")
    ds = open_embeddings(path).load()
    again = open_embeddings(write_embeddings(ds, tmp_path / "f.zarr"))
    xr.testing.assert_identical(again.load(), ds)
    with pytest.raises(InputError, match="no embeddings"):
        write_embeddings(xr.Dataset(), tmp_path / "g.zarr")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_disk_too_short_is_refused_before_the_first_byte(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(small)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(InputError, match=r"needs 26.* MB and .* has 4.* MB free"):
            EmbeddingWriter(small / "e.zarr", [Modality("image", 768)], objects=2 * BLOCK)
        with (
            pytest.raises(InputError, match="cannot be written"),
            EmbeddingWriter(small / "e.zarr", [Modality("image", 768)]) as out,
        ):
            out.write(np.arange(2 * BLOCK), {"image": vectors(2 * BLOCK, 768)})
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
