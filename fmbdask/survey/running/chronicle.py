"""What a coordinator writes down: its own journal of decisions, and the index of everybody's records.

Records wait in memory until they are committed, which happens only after a look at who reigns: a coordinator
that froze and was replaced leaves nothing behind, not even a lock on the index.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ...store.run.epochs import Reign
from ...store.run.folder import RunFolder
from ...store.run.journal import JournalWriter, journal_path, read_journal
from ...store.run.ledger import Ledger
from ...store.run.units import PREPARE, REDUCE, WHOLE_RUN, Part, Record, Unit
from ..worker.book import worker_name


class Chronicle:
    """Journal of a coordinator and ledger of its run.

    Parameters
    ----------
    folder : RunFolder
    reign : Reign
    """

    def __init__(self, folder: RunFolder, reign: Reign) -> None:
        self.folder, self.reign = folder, reign
        self.ledger = open_ledger(folder)
        self._journal: JournalWriter | None = None
        self._own: list[Record] = []
        self._others: list[Record] = []
        self._seen: dict[Path, int] = {}
        self._parts: dict[Unit, Part] = {}

    def index(self, records: Iterable[Record], journal: Path, nbytes: int) -> None:
        """Take in the records of a journal up to a position."""
        for record in records:
            self._others.append(record)
            if record.kind == "ended" and record.part is not None:
                self._parts[record.unit] = record.part
        self._seen[journal] = nbytes

    def index_journal(self, journal: Path) -> list[Record]:
        """Take in a whole journal whose process is gone; an empty list if it was never begun."""
        try:
            records, end = read_journal(journal)
        except FileNotFoundError:
            return []
        self.index(records, journal, end)
        return records

    def part(self, unit: Unit) -> Part | None:
        """Where the result of a unit lies, committed or not."""
        return self._parts.get(unit) or self.ledger.part(unit)

    def parts(self, stage: int, item: int) -> dict[Unit, Part]:
        """Where the results of all units of an item in a stage lie."""
        found = {e.unit: e.part for e in self.ledger.ended(stage, item) if e.part is not None}
        return found | {u: p for u, p in self._parts.items() if (u.stage, u.item) == (stage, item)}

    def event(self, note: str, extra: Mapping[str, Any] | None = None) -> None:
        """What happened to the run as a whole."""
        self._decide("event", Unit(0, WHOLE_RUN, PREPARE), note=note, extra=dict(extra or {}))

    def lost(self, record: Record, *, final: bool, counted: bool) -> None:
        """A unit that started and did not end, or one that is not tried again: as the record of it says."""
        now, epoch = time.time(), self.reign.epoch
        self._own.append(
            replace(record, kind="lost", final=final, counted=counted, time=now, epoch=epoch, part=None)
        )

    def void(self, unit: Unit, part: Part, note: str) -> None:
        """A result was found damaged."""
        self._parts.pop(unit, None)
        self._decide("void", unit, part=part, note=note)

    def anew(self, stage: int, item: int, note: str) -> int:
        """An item, or the reduction of the run, begins anew from a stage on; returns its generation."""
        generation = self.ledger.generation(item) + 1
        self._parts = {u: p for u, p in self._parts.items() if u.item != item or u.stage < stage}
        self._decide("anew", Unit(stage, item, REDUCE), generation=generation, note=note)
        return generation

    def retry(self, item: int) -> None:
        """Failures of an item count no more."""
        self._decide("retry", Unit(0, item, REDUCE))

    def commit(self) -> None:
        """Write down what was decided, then index everything.

        Raises
        ------
        SupersededError
            If another coordinator has taken over: nothing was written.
        OSError, sqlite3.OperationalError
            If the disk is full.
        """
        self.reign.check()
        if self._own:
            if self._journal is None:
                path = journal_path(self.folder.journal, self.reign.epoch, "coordinator")
                self._journal = JournalWriter(path)
            written, self._own = self._own, []
            for record in written:
                self._journal.write(record)
            self._journal.sync()
            self._others += written
            self._seen[self._journal.path] = os.stat(self._journal.path).st_size
        if self._others or self._seen:
            self.ledger.apply(self._others)
            for path, nbytes in self._seen.items():
                self.ledger.seen(path, nbytes)
            self.ledger.commit()
            self._others.clear()
            self._seen.clear()
            self._parts.clear()

    def _decide(self, kind: str, unit: Unit, **fields: Any) -> None:
        self._own.append(
            Record(kind, unit, epoch=self.reign.epoch, time=time.time(), worker=worker_name(), **fields)
        )

    def __enter__(self) -> Chronicle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # what was not committed is in the journals of those who did it
        try:
            if self._journal is not None:
                self._journal.close()
        finally:
            self.ledger.__exit__(kind, error, trace)


def open_ledger(folder: RunFolder) -> Ledger:
    """Open the ledger, anew if a process that no longer reigns holds it: it is only an index."""
    try:
        return Ledger.open(folder)
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
    for path in folder.path.glob(folder.ledger_file.name + "*"):
        path.unlink(missing_ok=True)
    return Ledger.open(folder)
