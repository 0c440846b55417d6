"""What a coordinator writes down: after a look at who reigns, and even where a frozen one holds the index."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fmbdask.errors import SupersededError
from fmbdask.store.run.epochs import acquire
from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.ledger import Ledger
from fmbdask.store.run.units import Part, Record, Unit
from fmbdask.survey.running.chronicle import Chronicle

UNIT = Unit(0, 2, 1)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    found.make()
    return found


def test_decisions_are_in_the_journals_before_they_are_in_the_index(folder: RunFolder) -> None:
    with Chronicle(folder, acquire(folder.epochs)) as chronicle:
        chronicle.event("a worker was lost", {"worker": "n1"})
        chronicle.lost(Record("started", UNIT, cause="lost"), final=True, counted=False)
        assert chronicle.anew(0, 7, "it changed") == 1
        chronicle.commit()
    folder.ledger_file.unlink()
    with Ledger.open(folder) as ledger:
        assert [event.note for event in ledger.events()] == ["a worker was lost"]
        assert [(f.unit, f.final) for f in ledger.failures()] == [(UNIT, True)]
        assert ledger.generation(7) == 1


def test_results_are_known_before_they_are_committed(folder: RunFolder) -> None:
    part = Part("parts/00001/x.parts", 0, 10, "ab" * 16)
    with Chronicle(folder, acquire(folder.epochs)) as chronicle:
        chronicle.index([Record("ended", UNIT, part=part)], folder.journal / "00001" / "x.jsonl", 100)
        assert chronicle.part(UNIT) == part
        assert chronicle.parts(0, 2) == {UNIT: part}
        assert chronicle.ledger.done(0, 2) == set()


def test_nothing_is_written_under_another_reign(folder: RunFolder) -> None:
    with Chronicle(folder, acquire(folder.epochs)) as chronicle:
        chronicle.event("too late")
        (folder.epochs / "00002.json").write_text("{}")
        with pytest.raises(SupersededError):
            chronicle.commit()
    assert not list(folder.journal.rglob("*.jsonl"))


def test_an_index_that_a_frozen_process_holds_is_built_anew(folder: RunFolder) -> None:
    reign = acquire(folder.epochs)
    with Chronicle(folder, reign) as chronicle:
        chronicle.event("before")
        chronicle.commit()
    with closing(sqlite3.connect(folder.ledger_file, isolation_level=None)) as frozen:
        frozen.execute("BEGIN EXCLUSIVE")
        with Chronicle(folder, reign) as chronicle:
            chronicle.event("after")
            chronicle.commit()
            assert [event.note for event in chronicle.ledger.events()] == ["before", "after"]
