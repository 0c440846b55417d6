"""Tables of named columns into stores: features, ids, labels, text, gaps, and what is wrong with a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from fmbdask.errors import InputError
from fmbdask.store.embeddings import (
    Imported,
    describe_store,
    export_embeddings,
    find_store,
    import_embeddings,
    join_embeddings,
    open_embeddings,
    select_objects,
    write_embeddings,
)
from fmbdask.store.embeddings.describing import as_text
from fmbdask.store.embeddings.sources import csv_table

from .made_up import vectors

TABLE = (
    "id,a,b,name,target,ra,dec,c\n"
    "007,1,2,x,1,10,20,true\n"
    "8,,3.5,y,0,11,21,false\n"
    "9,0,0,z,,12,22,false\n"
)  # fmt: skip


def stored(
    folder: Path, text: str | bytes, name: str = "t.csv", **options: Any
) -> tuple[xr.Dataset, Imported]:
    """A table as a store."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = import_embeddings(path, folder / "e.zarr", overwrite=True, **options)
    return open_embeddings(folder / "e.zarr"), done


def test_a_table_becomes_features_and_columns(tmp_path: Path) -> None:
    ds, done = stored(tmp_path, TABLE)
    assert list(ds.data_vars) == ["features"]
    assert ds["features"].attrs["feature_names"] == ["a", "b", "c"]
    np.testing.assert_array_equal(ds["features"], [[1, 2, 1], [np.nan, 3.5, 0], [0, 0, 0]])
    assert ds["valid_features"].values.tolist() == [True, False, True]  # zeros of a table are values
    assert ds["object_id"].values.tolist() == ["007", "8", "9"]
    assert ds["label"].values.tolist() == [1, 0, np.iinfo(np.int64).min]
    assert ds["name"].values.tolist() == ["x", "y", "z"]
    assert ds["dec"].values.tolist() == [20, 21, 22]
    assert str(done.modalities["features"]) == "2 valid vectors of 3 numbers, 1 not finite"
    told = " ".join(done.notes)
    assert "target became the column label" in told
    assert "text are no features: name" in told
    assert "1 rows are not valid: cells are empty, or no finite float32, in a (1)" in told


def test_the_same_table_in_parquet_and_npz(tmp_path: Path) -> None:
    columns = {
        "id": ["007", "8", "9"],
        "a": pa.array([1, None, 0], pa.int64()),
        "b": pa.array([2.0, 3.5, 0]),
        "name": pa.array(["x", "y", "z"]).dictionary_encode(),
        "target": pa.array([1, 0, None], pa.int8()),
        "ra": [10.0, 11, 12],
        "dec": [20.0, 21, 22],
        "c": [True, False, False],
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    import_embeddings(tmp_path / "t.parquet", tmp_path / "p.zarr")
    text, _ = stored(tmp_path, TABLE)
    other = open_embeddings(tmp_path / "p.zarr")
    xr.testing.assert_identical(text.load(), other.load())
    x = np.asfortranarray(vectors(5000, 3).astype(np.float64))
    x[1] = 0
    labels = np.arange(5000) % 2
    for packed in (np.savez, np.savez_compressed):
        packed(tmp_path / "t.npz", X=x, y=labels[:, None])
        ds = open_embeddings(find_store(tmp_path / "t.npz"))
        np.testing.assert_array_equal(ds["features"], x.astype(np.float32))
        np.testing.assert_array_equal(ds["label"], labels)
        assert ds["features"].attrs["feature_names"] == ["x0", "x1", "x2"]
        assert ds["valid_features"].values.all()


def test_a_large_table_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # blocks of the file, blocks of the store and pieces of the parser all differ; kinds widen late
    monkeypatch.setattr(csv_table, "BLOCK_BYTES", 10_000)
    n = 9000
    values = vectors(n, 3)
    lines = [f"{i},{v[0]!s},{v[1]!s},{v[2]!s},{i}" for i, v in enumerate(values)]
    lines[-1] = lines[-1].rpartition(",")[0] + ",0.5"
    lines[-2] = lines[-2].replace(",", ",,", 1).rpartition(",")[0]
    ds, done = stored(tmp_path, "object_id,a,b,c,late\n" + "\n".join(lines) + "\n")
    np.testing.assert_array_equal(ds["features"][: n - 2, :3], values[: n - 2])
    assert ds["features"].values[-1, 3] == 0.5
    assert np.isnan(ds["features"].values[-2, 0])
    assert done.modalities["features"].valid == n - 1
    lines[-1] = lines[-1].rpartition(",")[0] + ",junk"
    ds, done = stored(tmp_path, "object_id,a,b,c,late\n" + "\n".join(lines) + "\n")
    assert ds["features"].attrs["feature_names"] == ["a", "b", "c"]
    assert ds["late"].values[-1] == "junk"
    assert any("late holds 'junk' among numbers" in note for note in done.notes)


def test_columns_are_chosen_by_name(tmp_path: Path) -> None:
    ds, _ = stored(tmp_path, TABLE, modalities={"features": "b,a"})
    np.testing.assert_array_equal(ds["features"][0], [2, 1])
    assert ds["c"].values.tolist() == [1, 0, 0]
    ds, _ = stored(tmp_path, "id;e_0;e_1;z\n1;2;3;4\n", modalities={"image": "e", "rest": "z"})
    np.testing.assert_array_equal(ds["image"], [[2, 3]])
    np.testing.assert_array_equal(ds["rest"], [[4]])
    for key, sentence in (
        ("a,q", "q is no column, so"),
        ("a,name", "name is no column of numbers"),
        ("q", "no vectors q for features"),
        ("a,a", "names a column twice"),
    ):
        with pytest.raises(InputError, match=sentence):
            stored(tmp_path, TABLE, modalities={"features": key})


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("anomaly,x\nnormal,1\nanomaly,2\n,3\n", [0, 1, -1]),
        ("y,x1\n0.0,1\n1.0,2\n,3\n", [0, 1, -1]),
        ("x,y\n1,0\n2,1\n", None),  # beside x it is a coordinate
        ("class,x\n3,1\n4,2\n", None),
        ("is_outlier\tx\ntrue\t1\nfalse\t2\n", [1, 0]),
    ],
)
def test_labels(tmp_path: Path, text: str, labels: list[int] | None) -> None:
    ds, _ = stored(tmp_path, text)
    assert ("label" in ds.coords) == (labels is not None)
    if labels is not None:
        assert np.maximum(ds["label"].values, -1).tolist() == labels
        assert ds.sizes["features_feature"] == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "holds no objects"),
        ("id,name\n1,x\n", "no column of numbers"),
        ("a,b\n1,2\n3\n", "line 3 has 1 cells and the line of names 2"),
        ("# made by hand\na,b\n1,2\n1,2,3\n", "line 4 has 3 cells"),
        (b"a,b\n1,\xff\n", "UTF-8"),
        (b"a,\xff\n1,2\n", "names of columns that are not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "UTF-8"),
        ("a,b,a\n1,2,3\n", "two columns called a"),
        ("0.5,1.5\n1,2\n", "numbers where the names"),
        ("id,a\n1,2\n1,3\n", "object 1 more than once"),
        ("id,a\n1,2\n,3\n", "has no id"),
        ("ra,a\n400,3\n", "give degrees"),
    ],
)
def test_bad_tables_are_told_in_a_sentence(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        stored(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "e.zarr").exists()


def test_numbers_beyond_float32_are_counted(tmp_path: Path) -> None:
    ds, done = stored(tmp_path, "a,b\n1e300,2\n1,2\n")
    assert ds["valid_features"].values.tolist() == [False, True]
    assert "in a (1)" in done.notes[-1]


def test_a_table_stands_for_the_store_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(TABLE)
    assert open_embeddings(find_store(path)).sizes["object"] == 3
    path.write_text(TABLE + "10,1,1,w,0,1,1,true\n")
    assert open_embeddings(find_store(path)).sizes["object"] == 4


def test_names_of_features_go_where_vectors_go(tmp_path: Path) -> None:
    ds, _ = stored(tmp_path, TABLE)
    wanted = dict(ds["features"].attrs)
    assert select_objects(ds, ["8"])["features"].attrs == wanted
    written = write_embeddings(select_objects(ds, ["9", "8"]), tmp_path / "w.zarr")
    assert open_embeddings(written)["features"].attrs == wanted
    assert open_embeddings(written)["valid_features"].values.tolist() == [False, True]
    both = join_embeddings(ds, ds, names=("a", "b"))
    assert both["a_features"].attrs == both["b_features"].attrs == wanted
    export_embeddings(ds, tmp_path / "x.parquet")
    import_embeddings(tmp_path / "x.parquet", tmp_path / "x.zarr")
    again = open_embeddings(tmp_path / "x.zarr")
    assert again["features"].attrs == wanted
    assert again["valid_features"].values.tolist() == [True, False, True]
    assert "features a, b, c" in as_text(describe_store(tmp_path / "x.zarr"))
    (tmp_path / "more.csv").write_text("id,a,b,c\nq,1,2,3\n")
    assert import_embeddings(tmp_path / "more.csv", written, append=True).objects == 3
    (tmp_path / "more.csv").write_text("id,b,a,c\nr,1,2,3\n")
    with pytest.raises(InputError, match="other feature names"):
        import_embeddings(tmp_path / "more.csv", written, append=True)
