"""Tables as CSV and Parquet: whole or not at all, and what is special about text survives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmbdask.errors import OutputExistsError
from fmbdask.survey.objects.tables import TableWriter, concatenated


def test_both_files_say_the_same(tmp_path: Path) -> None:
    ids = np.array(["plain", 'with "quotes"', "with, comma", "é"])
    with TableWriter(tmp_path / "a.csv", units={"x": "sigma"}) as writer:
        writer.write({"object_id": ids[:2], "x": np.array([1.5, np.nan]), "n": np.ma.masked_equal([1, 0], 0)})
        writer.write({"object_id": ids[2:], "x": np.array([2.0, 3.0]), "n": np.ma.masked_equal([3, 4], 0)})
    assert writer.count == 4
    csv, parquet = pd.read_csv(tmp_path / "a.csv"), pd.read_parquet(tmp_path / "a.parquet")
    for table in (csv, parquet):
        assert list(table) == ["object_id", "x", "n"]
        assert table["object_id"].tolist() == ids.tolist()
        np.testing.assert_array_equal(table["x"], [1.5, np.nan, 2.0, 3.0])
        np.testing.assert_array_equal(table["n"].astype(float), [1, np.nan, 3, 4])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "object_id,x,n"
    assert lines[2] == '"with ""quotes""",,'


def test_nothing_is_left_of_a_table_that_failed(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path / "a.csv")
    writer.__enter__()
    writer.write({"x": np.arange(3)})
    writer.__exit__(RuntimeError, RuntimeError(), None)
    assert not list(tmp_path.iterdir())
    (tmp_path / "a.csv").write_text("mine")
    with pytest.raises(OutputExistsError, match="already there"), TableWriter(tmp_path / "a.csv"):
        pass
    assert (tmp_path / "a.csv").read_text() == "mine"


def test_tables_of_several_models_become_one(tmp_path: Path) -> None:
    parts = []
    for name, ids in (("a", np.array([1, 2])), ("b", np.array([3]))):
        with TableWriter(tmp_path / f"{name}.csv") as writer:
            writer.write({"object_id": ids, "model": np.full(len(ids), name)})
        parts.append(tmp_path / f"{name}.csv")
    whole = concatenated(parts, tmp_path / "all.csv")
    assert whole.read_text() == "object_id,model\n1,a\n2,a\n3,b\n"
    assert pd.read_parquet(tmp_path / "all.parquet")["model"].tolist() == ["a", "a", "b"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.csv", "all.parquet"]
