"""Files of every format into stores: what they hold, what is missing in them, and what is wrong with them."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fmbdask.errors import InputError, OutputExistsError
from fmbdask.store.embeddings import find_store, import_embeddings, open_embeddings
from fmbdask.store.embeddings.sources.torch_file import TorchRecords

from .made_up import save_records, vectors, write

torch = pytest.importorskip("torch")


def test_a_file_of_the_benchmark(tmp_path: Path) -> None:
    path = save_records(tmp_path / "astropt_embeddings.pt", 5)
    weights = tmp_path / "w.bin"
    weights.write_bytes(b"abc")
    seen: list[tuple[int, int]] = []
    done = import_embeddings(
        path,
        tmp_path / "e.zarr",
        model="astropt",
        version="2",
        weights=weights,
        preprocessing="asinh",
        progress=lambda n, total, _: seen.append((n, total)),
    )
    ds = open_embeddings(tmp_path / "e.zarr")
    np.testing.assert_array_equal(ds["image"], vectors(5, 4, 1))
    np.testing.assert_array_equal(ds["spectrum"], vectors(5, 3, 2))
    assert ds["object_id"].values.tolist() == [f"o{i}" for i in range(5)]
    assert ds["targetid"].values.tolist() == [39627000000000000 + i for i in range(5)]
    np.testing.assert_array_equal(ds["redshift"], np.arange(5) / 2)
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert ds["image"].attrs == {
        "model": "astropt",
        "version": "2",
        "weights_sha256": sha256,
        "preprocessing": "asinh",
        "embedding_key": "embedding_images",
    }
    assert (done.added, done.objects, seen, done.notes) == (5, 5, [(5, 5)], [])
    assert str(done.modalities["image"]) == "5 valid vectors of 4 numbers"


def test_keys_of_aion(tmp_path: Path) -> None:
    records = [{"object_id": 7, **{f"embedding_{k}": torch.ones(2) for k in ("hsc", "spectrum", "hsc_desi")}}]
    torch.save(records, tmp_path / "x.pt")
    import_embeddings(tmp_path / "x.pt", tmp_path / "e.zarr")
    ds = open_embeddings(tmp_path / "e.zarr")
    keys = {name: v.attrs["embedding_key"] for name, v in ds.data_vars.items()}
    assert keys == {
        "image": "embedding_hsc",
        "spectrum": "embedding_spectrum",
        "joint": "embedding_hsc_desi",
    }
    assert ds["object_id"].dtype == np.int64


def test_every_kind_of_number_and_missing_vectors(tmp_path: Path) -> None:
    wide = torch.arange(12.0).reshape(3, 4)
    records: list[dict[str, Any]] = [
        {
            "object_id": np.int64(1),
            "a": torch.tensor([1.5, 2.5], dtype=torch.bfloat16),
            "z": torch.tensor(0.5),
        },
        {
            "object_id": np.int32(2),
            "a": torch.tensor([1.5, 2.5], dtype=torch.float16),
            "flag": np.bool_(True),
        },
        {
            "object_id": torch.tensor(3),
            "a": wide[1, ::2],
            "z": np.float32(2),
            "flag": True,
            "name": np.str_("é"),
        },
        {"object_id": 4, "a": torch.tensor([[5, 6]]), "z": None, "name": "b"},
        {"object_id": 5, "a": torch.tensor([1.0, float("nan")], dtype=torch.float64), "z": np.float64(3)},
        {"object_id": 6, "other": {"x": 1}},
        {"object_id": 7, "a": torch.zeros(2)},
        {"object_id": 8, "a": torch.ones(1).expand(2)},
    ]
    torch.save(records, tmp_path / "x.pt")
    done = import_embeddings(tmp_path / "x.pt", tmp_path / "e.zarr")
    ds = open_embeddings(tmp_path / "e.zarr")
    expected = [[1.5, 2.5], [1.5, 2.5], [4, 6], [5, 6], [1, np.nan], [np.nan, np.nan], [0, 0], [1, 1]]
    np.testing.assert_array_equal(ds["a"], np.array(expected, np.float32))
    assert ds["valid_a"].values.tolist() == [True] * 4 + [False] * 3 + [True]
    tally = done.modalities["a"]
    assert (tally.valid, tally.missing, tally.not_finite, tally.zero) == (5, 1, 1, 1)
    np.testing.assert_array_equal(ds["z"], [0.5, np.nan, 2, np.nan, 3, np.nan, np.nan, np.nan])
    assert ds["name"].values.tolist() == ["", "", "é", "b", "", "", "", ""]
    assert ds["flag"].values.tolist()[1:3] == [1, 1]
    assert [note for note in done.notes if "other" in note]


def test_modalities_are_chosen_by_key(tmp_path: Path) -> None:
    path = save_records(tmp_path / "x.pt", 2, ("embedding_images", "embedding_hsc"))
    with pytest.raises(InputError, match="--modality"):
        import_embeddings(path, tmp_path / "e.zarr")
    done = import_embeddings(path, tmp_path / "e.zarr", modalities={"hsc": "embedding_hsc"})
    assert list(done.modalities) == ["hsc"]
    assert "embedding_images was not chosen" in done.notes[0]
    with pytest.raises(InputError, match="no vectors nothing for hsc"):
        import_embeddings(path, tmp_path / "f.zarr", modalities={"hsc": "nothing"})


class Evil:
    """Runs a command when it is unpickled by anything that lets it."""

    def __reduce__(self) -> Any:
        return os.system, ("touch was-here",)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save([{"object_id": Evil(), "embedding_images": torch.ones(2)}], "x.pt")
    with pytest.raises(InputError, match=r"without running what it contains \(the name (posix|nt)\.system\)"):
        import_embeddings("x.pt", "e.zarr")
    assert sorted(os.listdir()) == ["x.pt"]


def test_files_do_not_change_what_reads_them(tmp_path: Path) -> None:
    # a pickle that sets an attribute of the class a tensor is made by
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x06\x00\x00\x00lengthK\x05s\x86b."
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("x/data.pkl", program)
    with pytest.raises(InputError):
        TorchRecords(tmp_path / "x.pt")
    assert len(TorchRecords(save_records(tmp_path / "y.pt", 3)).ids) == 3


def test_files_of_older_numpy_are_read(tmp_path: Path) -> None:
    path = save_records(tmp_path / "x.pt", 3)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "old.pt", "w") as old:
        for entry in archive.infolist():
            content = archive.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            old.writestr(entry.filename, content)
    assert TorchRecords(tmp_path / "old.pt").columns["targetid"][2] == 39627000000000002


@pytest.mark.parametrize(
    ("records", "sentence"),
    [
        ({"embedding_images": 3}, "holds a dict"),
        ([], "holds no objects"),
        ([3], "record 0 is a int"),
        ([{"object_id": 1}], "holds no embeddings"),
        ([{"embedding_images": torch.ones(2)}], "no object_id"),
        ([{"object_id": 1, "embedding_images": torch.ones(2)}, {"embedding_images": torch.ones(2)}], "no id"),
        (
            [{"object_id": i // 2, "embedding_images": torch.ones(2)} for i in range(3)],
            "object 0 more than once",
        ),
        (
            [{"object_id": i, "embedding_images": torch.ones(2 + i)} for i in range(2)],
            "object 1 has 3 numbers",
        ),
        ([{"object_id": 1, "embedding_images": torch.ones(2, 2)}], r"shape \(2, 2\)"),
        ([{"object_id": i, "embedding_images": torch.ones(2)} for i in (1, "a")], "kinds int, str"),
        ([{"object_id": 1, "embedding_images": np.ones(2)}], "numpy"),
        ([{3: 1}], "are no text"),
    ],
)
def test_wrong_records_are_refused_in_a_sentence(tmp_path: Path, records: Any, sentence: str) -> None:
    torch.save(records, tmp_path / "x.pt")
    with pytest.raises(InputError, match=sentence):
        import_embeddings(tmp_path / "x.pt", tmp_path / "e.zarr")
    assert not (tmp_path / "e.zarr").exists()


def test_damaged_torch_files_are_refused(tmp_path: Path) -> None:
    whole = save_records(tmp_path / "x.pt").read_bytes()
    broken = tmp_path / "y.pt"
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"no complete \.pt file"):
            import_embeddings(broken, tmp_path / "e.zarr")
    old = io.BytesIO()
    torch.save([1], old, _use_new_zipfile_serialization=False)
    broken.write_bytes(old.getvalue())
    with pytest.raises(InputError, match=r"save an old one again"):
        import_embeddings(broken, tmp_path / "e.zarr")
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps([{"object_id": 1}], 2)[:-3])
    with pytest.raises(InputError, match="cannot be read"):
        import_embeddings(broken, tmp_path / "e.zarr")


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_is_more_than_a_sentence(tmp_path: Path, seed: int, whole_file: bytes) -> None:
    rng = np.random.default_rng(seed)
    damaged = np.frombuffer(whole_file, np.uint8).copy()
    # half of the changes hit the pickle, the others anything
    start = whole_file.index(b"object_id") if seed % 2 else 0
    at = rng.integers(start, start + 600 if seed % 2 else len(damaged), 3)
    damaged[at] = rng.integers(0, 256, 3)
    (tmp_path / "x.pt").write_bytes(damaged.tobytes())
    refused = ""
    try:
        records = TorchRecords(tmp_path / "x.pt")
        blocks = list(records.blocks(4))
    except InputError as error:
        refused = str(error)
    assert "x.pt" in refused or sum(len(b.vectors) for b in blocks) > 0


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound `.pt` file."""
    return save_records(tmp_path_factory.mktemp("whole") / "x.pt").read_bytes()


def test_memory_too_small_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_records(tmp_path / "x.pt")
    free = type("Memory", (), {"available": 1000})()
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    with pytest.raises(InputError, match=r"of memory .* 1 kB are free: split it"):
        import_embeddings(path, tmp_path / "e.zarr")


def test_torch_is_not_needed_to_read(tmp_path: Path) -> None:
    path = save_records(tmp_path / "x.pt")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from fmbdask.store.embeddings import import_embeddings, export_embeddings, open_embeddings\n"
        f"import_embeddings({str(path)!r}, {str(tmp_path / 'e.zarr')!r})\n"
        f"export_embeddings(open_embeddings({str(tmp_path / 'e.zarr')!r}), {str(tmp_path / 'y.pt')!r})\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "needs torch, which is missing: pip install 'fmbdask[models]'" in ended.stderr.splitlines()[-1]
    assert open_embeddings(tmp_path / "e.zarr").sizes["object"] == 5


def table(n: int = 10) -> dict[str, Any]:
    """Arrays of n objects."""
    return {
        "object_id": np.array([f"o{i}" for i in range(n)]),
        "RA": np.linspace(0, 359, n).astype(">f4"),
        "dec": np.linspace(-90, 90, n),
        "embedding_images": vectors(n, 4),
        "spectrum": vectors(n, 3, 1).astype(np.float64),
        "redshift": np.arange(n, dtype=np.float32),
        "targetid": np.arange(n, dtype=np.uint64),
    }


def check_table(store: Path, n: int = 10) -> None:
    ds, expected = open_embeddings(store), table(n)
    np.testing.assert_array_equal(ds["image"], expected["embedding_images"])
    np.testing.assert_array_equal(ds["spectrum"], expected["spectrum"].astype(np.float32))
    np.testing.assert_array_equal(ds["object_id"], expected["object_id"])
    np.testing.assert_array_equal(ds["ra"], expected["RA"])
    np.testing.assert_array_equal(ds["redshift"], expected["redshift"])
    assert ds["targetid"].dtype == np.int64


@pytest.mark.parametrize("packed", [False, True])
def test_npz(tmp_path: Path, packed: bool) -> None:
    n = 4100
    (np.savez_compressed if packed else np.savez)(tmp_path / "x.npz", **table(n))
    import_embeddings(tmp_path / "x.npz", tmp_path / "e.zarr")
    check_table(tmp_path / "e.zarr", n)


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path: Path, order: Any) -> None:
    image = vectors(10, 3)
    np.save(tmp_path / "x.npy", np.asarray(image, order=order))
    with pytest.raises(InputError, match="--modality NAME"):
        import_embeddings(tmp_path / "x.npy", tmp_path / "e.zarr")
    done = import_embeddings(tmp_path / "x.npy", tmp_path / "e.zarr", modalities={"image": "image"})
    assert "numbered from 0" in done.notes[0]
    (tmp_path / "ids.txt").write_text("\n".join(f"{i}" for i in range(10, 20)))
    again = import_embeddings(
        tmp_path / "x.npy",
        tmp_path / "e.zarr",
        modalities={"image": "image"},
        ids=tmp_path / "ids.txt",
        append=True,
    )
    assert (again.objects, again.notes) == (20, [])
    ds = open_embeddings(tmp_path / "e.zarr")
    assert ds["object_id"].values.tolist() == list(range(20))
    np.testing.assert_array_equal(ds["image"], np.concatenate([image, image]))


def test_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, values in table().items():
            values = values.astype(h5py.string_dtype()) if values.dtype.kind == "U" else values
            file[f"deep/{name}"] = values
    import_embeddings(tmp_path / "x.h5", tmp_path / "e.zarr")
    check_table(tmp_path / "e.zarr")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file.create_dataset("image", (10, 2), "f4", chunks=(5, 2))[:5] = 1
    with pytest.raises(InputError, match="parts of image were never written"):
        import_embeddings(tmp_path / "y.h5", tmp_path / "e.zarr", overwrite=True)


@pytest.mark.parametrize("kind", ["list", "fixed", "large", "columns"])
def test_parquet(tmp_path: Path, kind: str) -> None:
    values = table()
    wanted = None
    columns: dict[str, Any] = {}
    for name, array in values.items():
        if array.ndim == 1:
            columns[name] = pa.array(array.astype(array.dtype.newbyteorder("=")))
        elif kind == "columns":
            columns |= {f"{name}_{i}": array[:, i] for i in range(array.shape[1])}
            wanted = {"image": "embedding_images_", "spectrum": "spectrum"}
        elif kind == "fixed":
            columns[name] = pa.FixedSizeListArray.from_arrays(array.reshape(-1), array.shape[1])
        else:
            of = pa.large_list if kind == "large" else pa.list_
            columns[name] = pa.array(list(array), of(pa.from_numpy_dtype(array.dtype)))
    pq.write_table(pa.table(columns), tmp_path / "x.parquet", row_group_size=7)
    import_embeddings(tmp_path / "x.parquet", tmp_path / "e.zarr", modalities=wanted)
    check_table(tmp_path / "e.zarr")


def test_parquet_with_gaps(tmp_path: Path) -> None:
    columns = {
        "object_id": [1, 2, 3],
        "targetid": pa.array([2**60 + 1, None, 3], pa.int64()),
        "image": pa.array([[1.0, 2.0], None, [3.0, None]], pa.list_(pa.float32())),
        "fixed": pa.FixedSizeListArray.from_arrays(
            pa.array(range(6)), 2, mask=pa.array([False, True, False])
        ),
        "nested": pa.array([{"a": 1}] * 3),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    done = import_embeddings(tmp_path / "x.parquet", tmp_path / "e.zarr")
    ds = open_embeddings(tmp_path / "e.zarr")
    np.testing.assert_array_equal(ds["image"], [[1, 2], [np.nan, np.nan], [3, np.nan]])
    np.testing.assert_array_equal(ds["fixed"], [[0, 1], [np.nan, np.nan], [4, 5]])
    assert ds["valid_image"].values.tolist() == [True, False, False]
    assert ds["targetid"].values.tolist() == [2**60 + 1, np.iinfo(np.int64).min, 3]
    assert str(done.modalities["image"]) == "1 valid vectors of 2 numbers, 1 missing, 1 not finite"
    assert "nested was not chosen" in done.notes[0]
    columns["image"] = pa.array([[1.0, 2.0], None, [3.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="image of object 3 has 1 numbers, others 2"):
        import_embeddings(tmp_path / "x.parquet", tmp_path / "f.zarr")


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet", ".h5"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    n = 300
    path = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(path, vectors(n, 3))
    elif suffix == ".npz":
        np.savez(path, object_id=np.arange(n), image=vectors(n, 3))
    elif suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["image"] = vectors(n, 3)
    else:
        pq.write_table(pa.table({"object_id": range(n), "image": list(vectors(n, 3))}), path)
    whole = path.read_bytes()
    for cut in (0, 20, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="cannot be read"):
            import_embeddings(path, tmp_path / "e.zarr", modalities={"image": "image"})
    assert not (tmp_path / "e.zarr").exists()


def test_wrong_arrays_are_refused_in_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "e.zarr"
    np.savez(tmp_path / "a.npz", image=np.array([[None]]))
    with pytest.raises(InputError, match="holds Python objects"):
        import_embeddings(tmp_path / "a.npz", out)
    np.savez(tmp_path / "a.npz", image=vectors(3, 2), spectrum=vectors(4, 2))
    with pytest.raises(InputError, match="4 rows, another array 3"):
        import_embeddings(tmp_path / "a.npz", out)
    np.savez(tmp_path / "a.npz", image=np.ones((2, 2, 2)))
    with pytest.raises(InputError, match=r"shape \(2, 2, 2\)"):
        import_embeddings(tmp_path / "a.npz", out)
    np.savez(tmp_path / "a.npz", object_id=[1, 2], image=vectors(3, 2))
    with pytest.raises(InputError, match="2 values for 3 objects"):
        import_embeddings(tmp_path / "a.npz", out)
    np.savez(tmp_path / "a.npz", image=np.ones((0, 2)))
    with pytest.raises(InputError, match="holds no objects"):
        import_embeddings(tmp_path / "a.npz", out)
    (tmp_path / "a.fits").touch()
    with pytest.raises(InputError, match="fmbdask ramps detect"):
        import_embeddings(tmp_path / "a.fits", out)
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="no known format"):
        import_embeddings(tmp_path / "a.txt", out)
    with pytest.raises(InputError, match="does not exist"):
        import_embeddings(tmp_path / "b.npz", out)


def test_appending_takes_what_the_same_model_made(tmp_path: Path) -> None:
    out = tmp_path / "e.zarr"
    np.savez(tmp_path / "a.npz", object_id=[1, 2], image=vectors(2, 3), spectrum=vectors(2, 2))
    np.savez(tmp_path / "b.npz", object_id=[3], image=vectors(1, 3))
    np.savez(tmp_path / "c.npz", object_id=[4], image=vectors(1, 4))
    np.savez(tmp_path / "d.npz", object_id=[5], joint=vectors(1, 4))
    import_embeddings(tmp_path / "a.npz", out, model="aion")
    with pytest.raises(OutputExistsError):
        import_embeddings(tmp_path / "b.npz", out)
    assert import_embeddings(tmp_path / "b.npz", out, append=True).objects == 3
    assert open_embeddings(out)["valid_spectrum"].values.tolist() == [True, True, False]
    for name, options, sentence in (
        ("b", {}, "the object 3, which is in the store already"),
        ("c", {}, "vectors of 4 numbers for image"),
        ("d", {}, "no modality joint"),
        ("b", {"model": "astropt"}, "made with model aion, not astropt"),
    ):
        with pytest.raises(InputError, match=sentence):
            import_embeddings(tmp_path / f"{name}.npz", out, append=True, **options)
    assert open_embeddings(out).sizes["object"] == 3


def test_a_torch_file_stands_for_the_store_beside_it(tmp_path: Path) -> None:
    path = save_records(tmp_path / "aions_embeddings.pt")
    store = find_store(path)
    assert store == tmp_path / "aions_embeddings.zarr"
    assert open_embeddings(store)["image"].attrs["model"] == "aion"
    before = (store / "zarr.json").stat().st_mtime_ns
    assert find_store(str(path)) == store == find_store(store)
    assert (store / "zarr.json").stat().st_mtime_ns == before
    save_records(path, 7)
    assert open_embeddings(find_store(path)).sizes["object"] == 7
    other = save_records(tmp_path / "mine.pt")
    write(tmp_path / "mine.zarr", [1], {"image": vectors(1, 2)})
    with pytest.raises(InputError, match="not made from"):
        find_store(other)


def test_what_stands_for_no_store_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "a.fits").touch()
    (tmp_path / "a.h5").touch()
    with pytest.raises(InputError, match="fmbdask ramps detect"):
        find_store(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"import .*a\.h5 -o .*a\.zarr"):
        find_store(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"neither a store nor a table"):
        find_store("astropt")
