"""A run made of journals alone: what status, failures and report read, without the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fmbdask.store.run.folder import LAYOUT, RunFolder, write_json
from fmbdask.store.run.items import Item, write_items
from fmbdask.store.run.journal import JournalWriter, journal_path
from fmbdask.store.run.units import PREPARE, REDUCE, WHOLE_RUN, Record, Unit

BEGIN = 1_790_000_000.0
WORKER = "n1/17/tcp://10.0.0.1:4000"


def make_run(path: Path, *, inputs: int = 4, regions: int = 3) -> RunFolder:
    """The folder of a planned run of one stage."""
    folder = RunFolder(path)
    folder.make()
    about = {
        "layout": LAYOUT, "name": "darks", "pipeline": "ramps", "stages": ["detect"], "cluster": "local",
        "config": {"name": "darks"}, "versions": {"fmbdask": "0"},
    }  # fmt: skip
    write_json(folder.run_file, about)
    items = [
        Item(i, f"x{i}", f"/data/x{i}.fits", regions=(regions,), nbytes=regions * 1000, seconds=1.0)
        for i in range(inputs)
    ]
    write_items(folder.items_file, items)
    return folder


def ended(unit: Unit, at: float, seconds: float = 1.0, **fields: Any) -> list[Record]:
    """The two records of a unit that ended at a time after the begin."""
    started = Record("started", unit, epoch=1, worker=WORKER, time=BEGIN + at - seconds)
    return [
        started,
        Record("ended", unit, epoch=1, worker=WORKER, time=BEGIN + at, seconds=seconds, **fields),
    ]


def item_done(item: int, at: float, regions: int = 3) -> list[Record]:
    """All records of an item, one second a unit."""
    records = ended(Unit(0, item, PREPARE), at)
    for region in range(regions):
        numbers = {"nbytes": 1000, "peak": 3 * 10**8, "read": 0.25, "write": 0.125}
        records += ended(Unit(0, item, region), at + 1 + region, **numbers)
    return records + ended(Unit(0, item, REDUCE), at + 1 + regions, write=0.5)


def run_done(at: float) -> list[Record]:
    """The records of the reduction of the run."""
    return ended(Unit(0, WHOLE_RUN, REDUCE), at)


def write(folder: RunFolder, records: list[Record], name: str = "task-0000001") -> None:
    """Put records into a journal of the first epoch."""
    with JournalWriter(journal_path(folder.journal, 1, name)) as journal:
        for record in records:
            journal.write(record)
