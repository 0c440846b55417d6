"""Stores written for other tools, and the commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr

from fmbdask.cli.app import main
from fmbdask.errors import InputError, OutputExistsError
from fmbdask.regions import BLOCK
from fmbdask.store.embeddings import export_embeddings, import_embeddings, open_embeddings

from .made_up import save_records, vectors, write

torch = pytest.importorskip("torch")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Objects of which some lack a modality or a value."""
    n = BLOCK + 7
    image, spectrum = vectors(n, 4), vectors(n, 3, 1)
    image[1], spectrum[2, 0] = np.nan, np.inf
    t = np.arange(n)
    t[3] = np.iinfo(np.int64).min
    columns = {"ra": np.linspace(0, 1, n), "dec": np.full(n, 2.0), "targetid": t, "s": ["", *["x"] * (n - 1)]}
    return write(
        tmp_path / "e.zarr", np.arange(n), {"image": image, "spectrum": spectrum}, columns, model="aion"
    )


@pytest.mark.parametrize("suffix", [".pt", ".parquet"])
def test_what_is_exported_imports_as_it_was(store: Path, tmp_path: Path, suffix: str) -> None:
    ds = open_embeddings(store)
    path = export_embeddings(ds, tmp_path / f"x{suffix}")
    wanted = {"image": "embedding_hsc", "spectrum": "embedding_spectrum"} if suffix == ".pt" else None
    import_embeddings(path, tmp_path / "f.zarr", modalities=wanted)
    again = open_embeddings(tmp_path / "f.zarr")
    for variable in again.data_vars.values():
        variable.attrs = ds["image"].attrs
    xr.testing.assert_equal(again.load(), ds.load())
    with pytest.raises(OutputExistsError):
        export_embeddings(ds, path)


def test_the_benchmark_finds_its_keys(store: Path, tmp_path: Path) -> None:
    export_embeddings(open_embeddings(store), tmp_path / "x.pt")
    records = torch.load(tmp_path / "x.pt", weights_only=True)
    assert list(records[0]) == ["object_id", "ra", "dec", "targetid", "embedding_hsc", "embedding_spectrum"]
    assert records[0]["embedding_hsc"].shape == (4,)
    assert records[0]["embedding_hsc"].untyped_storage().nbytes() == 16
    assert "embedding_hsc" not in records[1]
    assert "targetid" not in records[3]
    again = save_records(tmp_path / "astropt.pt", 2)
    import_embeddings(again, tmp_path / "f.zarr")
    export_embeddings(open_embeddings(tmp_path / "f.zarr"), tmp_path / "y.pt")
    assert set(torch.load(tmp_path / "y.pt", weights_only=True)[0]) == {
        "object_id",
        "targetid",
        "redshift",
        "embedding_images",
        "embedding_spectra",
    }


def test_parquet_tells_units_of_vectors_and_gaps(store: Path, tmp_path: Path) -> None:
    export_embeddings(open_embeddings(store), tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.schema.field("image").type.list_size == 4
    assert table.schema.field("image").metadata == {b"model": b"aion"}
    assert [table[name].null_count for name in ("image", "spectrum", "targetid", "s")] == [1, 0, 1, 1]


def test_exports_that_cannot_be_are_refused(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ds = open_embeddings(store)
    with pytest.raises(InputError, match="no known format"):
        export_embeddings(ds, tmp_path / "x.csv")
    with pytest.raises(InputError, match="no objects"):
        export_embeddings(ds.isel(object=slice(0, 0)), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no embeddings"):
        export_embeddings(xr.Dataset(), tmp_path / "x.parquet")
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    with pytest.raises(InputError, match="1 kB are free: choose fewer"):
        export_embeddings(ds, tmp_path / "x.pt")


def run(*words: object) -> int | str | None:
    """Exit status of a command."""
    try:
        main(["embeddings", *map(str, words)])
    except SystemExit as end:
        return end.code
    return 0


def test_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_records(tmp_path / "astropt_embeddings.pt", 6)
    assert run("import", "astropt_embeddings.pt", "--model", "astropt", "-o", "A.zarr") == 0
    said = capsys.readouterr()
    assert "A.zarr: 6 objects added, 6 in all" in said.out
    assert "6/6 objects imported" in said.err
    assert run("info", "A.zarr", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["objects"], told["ids"], told["modalities"]["image"]["valid"]) == (6, "text", 6)
    assert told["modalities"]["image"]["rows_of_chunk"] == BLOCK
    assert run("info", "astropt_embeddings.pt") == 0
    assert "spectrum: 3 features, 6 valid (100 %)" in capsys.readouterr().out
    Path("ids.csv").write_text("object_id,rank\no4,1\no1,2\n")
    assert run("select", "A.zarr", "--ids", "ids.csv", "-o", "B.zarr") == 0
    assert run("select", "A.zarr", "--id", "o5", "--id", "o1", "-o", "C.zarr") == 0
    assert run("join", "B.zarr", "C.zarr", "--names", "b,c", "-o", "D.zarr") == 0
    assert "3 objects, 1 in both, 1 only in B.zarr, 1 only in C.zarr" in capsys.readouterr().out
    assert list(open_embeddings("D.zarr").data_vars) == ["b_image", "b_spectrum", "c_image", "c_spectrum"]
    assert run("export", "A.zarr", "--ids", "ids.csv", "-o", "x.parquet") == 0
    assert pq.read_table("x.parquet")["object_id"].to_pylist() == ["o1", "o4"]
    np.save("v.npy", vectors(2, 3))
    assert run("import", "v.npy", "--modality", "image", "-o", "E.zarr") == 0
    assert "Note: v.npy has no object ids" in capsys.readouterr().err


def test_bad_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("info", "none.zarr") == 1
    assert capsys.readouterr().err.startswith("Error: none.zarr is neither a store")
    assert run("select", "A.zarr", "-o", "B.zarr") == 2
    assert run("join", "A.zarr", "B.zarr", "--names", "a", "-o", "C.zarr") == 2
    assert run("import", "x.pt", "--modality", "=b", "-o", "C.zarr") == 2
