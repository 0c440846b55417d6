"""The table of what failed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from fmbdask.store.run.items import read_items, write_items
from fmbdask.store.run.units import PREPARE, Record, Unit
from fmbdask.survey.reporting.failures import COLUMNS, describe, failures, write_failures

from .runs import item_done, make_run, write


def failed(item: int, region: int, **fields: object) -> Record:
    return Record("failed", Unit(0, item, region), epoch=1, **fields)  # type: ignore[arg-type]


def test_each_failed_unit_is_one_row_with_its_attempts(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write(
        folder,
        [
            *item_done(0, 1.0),
            failed(1, PREPARE, cause="data", final=True, note="x1.fits is cut short"),
            failed(2, 1, cause="io", note="stale handle"),
            failed(2, 1, cause="io", note="stale handle", final=True, log="Traceback\n  line"),
            failed(3, 0, cause="io", note="once"),
        ],
    )
    found = failures(folder.path)
    assert list(found.columns) == list(COLUMNS)
    assert found[["name", "unit", "region", "cause", "attempts"]].values.tolist() == [
        ["x1", "prepare", -1, "data", 1],
        ["x2", "map", 1, "io", 2],
    ]
    text = describe(found)
    assert text.startswith("x1  detect, prepare, 1 attempt")
    assert "x1.fits is cut short" in text
    assert "| Traceback" in text
    assert "2 inputs failed" in text
    assert "Traceback" not in describe(found, log=False)


def test_what_a_dead_neighbour_took_along_is_no_attempt(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    taken = Record("lost", Unit(0, 1, 0), epoch=1, cause="lost", counted=False)
    write(folder, [taken, taken, failed(1, 0, cause="data", final=True, note="bad")])
    assert failures(folder.path)["attempts"].tolist() == [1]


def test_inputs_that_could_not_be_planned_are_listed(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", inputs=2)
    items = read_items(folder.items_file)
    write_items(folder.items_file, [items[0], replace(items[1], problem="x1.fits is a named pipe")])
    found = failures(folder.path)
    assert found["error"].tolist() == ["x1.fits is a named pipe"]
    assert found["unit"].tolist() == ["open"]


def test_csv_reads_back(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    write(folder, [failed(1, PREPARE, cause="data", final=True, note='a "quoted", one\nline')])
    read = pd.read_csv(write_failures(folder.path))
    assert read["error"].tolist() == ['a "quoted", one\nline']


def test_nothing_failed(tmp_path: Path) -> None:
    assert describe(failures(make_run(tmp_path / "run").path)) == "nothing failed"
