"""Items of a run in columns: they come back as they were, also when there are many kinds of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbdask.store.run.items import Item, ItemTable, read_items, write_items
from fmbdask.store.run.suffixes import suffix_of, suffixes

NAMES = ("a.fits", "exposure_000017.fits", "b.fits.gz", "long name.FITS.fz", "x.zarr", ".hidden", "plain")

paths = st.builds("/{}/{}".format, st.sampled_from(("data", "d.ir")), st.sampled_from(NAMES))
shapes = st.sampled_from([(), (1, 12, 40, 48), (2, 12, 40, 48), (10, 768)])


@st.composite
def tables(draw: st.DrawFn) -> list[Item]:
    kinds = st.tuples(shapes, st.sampled_from([(0,), (4,), (4, 2)]), st.sampled_from([0.0, 0.5, 1.5]))
    rows = []
    for index in range(draw(st.integers(0, 12))):
        shape, regions, seconds = draw(kinds)
        size, header = draw(st.integers(0, 2**40)), draw(st.sampled_from(["", "ab"]))
        problem, generation = draw(st.sampled_from(["", "", "it is empty"])), draw(st.integers(0, 2))
        rows.append(
            Item(
                index, f"n{index}", draw(paths), size, index, header, shape, "uint16", 128, regions, 7, 8,
                seconds, 9, generation, problem,
            )
        )  # fmt: skip
    return rows


@given(tables())
def test_items_come_back(rows: list[Item]) -> None:
    table = ItemTable.of(rows)
    assert list(table) == rows
    assert table == rows
    assert [table[n] for n in range(len(rows))] == rows
    assert list(table[1:3]) == rows[1:3]
    assert list(table.usable) == [item for item in rows if not item.problem]
    assert table.unusable == {item.index for item in rows if item.problem}
    assert sum(n * kind.units for kind, n in table.counts()) == sum(item.units for item in rows)
    assert {suffix_of(kind.path) for kind in table.kinds} == {suffix_of(item.path) for item in rows}


@given(tables())
def test_items_come_back_from_a_file(tmp_path_factory: pytest.TempPathFactory, rows: list[Item]) -> None:
    path = tmp_path_factory.mktemp("items") / "items.parquet"
    write_items(path, rows)
    found = read_items(path)
    assert found == rows
    assert len(found.kinds) == len(ItemTable.of(rows).kinds)


@given(st.lists(paths))
def test_suffixes_of_many_are_those_of_each(found: list[str]) -> None:
    codes, known = suffixes(pa.array(found, pa.large_string()))
    assert [known[code] for code in codes] == [suffix_of(path) for path in found]


def test_a_file_of_several_pieces_keeps_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmbdask.store.run.items._ROWS", 7)
    rows = [Item(n, f"n{n}", f"/d/{n}.fits", regions=(n % 3,), problem="bad" * (n == 9)) for n in range(40)]
    write_items(tmp_path / "items.parquet", rows)
    assert read_items(tmp_path / "items.parquet") == rows


def test_items_are_found_by_their_index() -> None:
    table = ItemTable.of([Item(index, f"n{index}", "x.fits") for index in (3, 5, 8)])
    assert [table.place(index) for index in (3, 4, 8, 9)] == [0, None, 2, None]
    assert table.by_index[5].name == "n5"
    assert list(table.by_index) == [3, 5, 8]
    with pytest.raises(KeyError):
        table.by_index[4]
    with pytest.raises(IndexError):
        table[3]
    assert table.where(np.array([True, False, True])).indices.tolist() == [3, 8]
