"""The ledger: an index of the journals, in SQLite, with one writer. Deleted or damaged, it is built again.

The same journals give the same ledger in whatever order they are read, in one go or piece by piece:

- a unit that ended has ended, whoever failed before or after;
- of several results of a unit the one of the highest generation counts, the earliest of these (others wait
  as ``spare``, for the case that the first is found damaged);
- decisions name the generation, the epoch or the very result that counts no more.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from ...errors import RunError
from .answers import Answers, Ended, Event, Failure, Totals
from .folder import RunFolder
from .journal import journals, read_journal
from .tables import TABLES, VERSION, break_seal, connect, seal, sealed
from .units import Record, Unit

__all__ = ["Ended", "Event", "Failure", "Ledger", "Totals"]

_COLUMNS = 17
_VALUES = f"VALUES ({', '.join('?' * _COLUMNS)})"
_UNIT = "stage = ? AND item = ? AND region = ?"
#: Which of several results of a unit counts comes first.
_PREFERENCE = "ORDER BY generation DESC, time, (SELECT path FROM file WHERE id = file), offset LIMIT 1"
#: Names of journals are kept relative to the run.
_JOURNAL = "journal/"
#: Records that are indexed at once, and how many of these batches are committed at once.
_BATCH, _COMMIT = 20_000, 10

Row = tuple[Any, ...]


class Ledger(Answers):
    """Index of the journals of a run.

    Use :meth:`open` as the one writer, :meth:`snapshot` to look.
    """

    def __init__(self, folder: RunFolder, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self.folder = folder
        self._writes = False
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"ledger of version {version}")
        if version == 0:
            self._db.executescript(TABLES)
        self._recall()

    def _recall(self) -> None:
        """Read again what is kept in memory: names come and go in bunches, decisions are few."""
        self._files: dict[str, int] = {}
        self._names: dict[str, int] = dict(self._db.execute("SELECT name, id FROM worker"))
        self._begun: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for item, stage, generation in self._db.execute("SELECT item, stage, generation FROM anew"):
            self._begun[item].append((stage, generation))
        self._void: set[Row] = set(self._db.execute("SELECT stage, item, region, file, offset FROM void"))

    @staticmethod
    def open(folder: RunFolder) -> Ledger:
        """Open the ledger to write, built anew where it is missing or damaged, and bring it up to date.

        Raises
        ------
        RunError
            If the file cannot be written, or a journal not be read.
        sqlite3.OperationalError
            If the disk is full, or another process holds the ledger.
        """
        ledger = None
        try:
            try:
                intact = sealed(folder.ledger_file)
                if intact is False:
                    raise sqlite3.DatabaseError("changed since it was closed")
                break_seal(folder.ledger_file)
                ledger = Ledger(folder, connect(folder.ledger_file))
                # fails at once where nobody may write, or another does
                ledger._db.execute(f"PRAGMA user_version = {VERSION}")
                # of one that was not closed: finds torn pages and rows out of order, 0.8 s a million units
                if not intact and ledger._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                    raise sqlite3.DatabaseError("damaged")
                ledger._check_journals()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                    raise  # a full disk or a busy file is no damage
                if ledger is not None:
                    ledger.abandon()
                for path in folder.path.glob(folder.ledger_file.name + "*"):
                    path.unlink()
                ledger = Ledger(folder, connect(folder.ledger_file))
        except (sqlite3.OperationalError, OSError) as error:
            if ledger is not None:
                ledger._db.close()
            if any(word in str(error) for word in ("locked", "full", "No space")):
                raise
            raise RunError(
                f"{folder.ledger_file} cannot be written ({error}): see that the folder of the run may be "
                "written to"
            ) from None
        ledger._writes = True
        ledger.update()
        return ledger

    @staticmethod
    def snapshot(folder: RunFolder) -> Ledger:
        """Copy the ledger into memory and bring the copy up to date: the run may go on meanwhile.

        Raises
        ------
        RunError
            If a journal cannot be read.
        """
        memory = sqlite3.connect(":memory:")
        intact = sealed(folder.ledger_file) if folder.ledger_file.is_file() else False
        if intact is not False:
            try:
                with closing(connect(folder.ledger_file, read_only=True)) as source:
                    source.backup(memory)
                if not intact:  # reads every page of it
                    memory.execute("SELECT count(*), sum(length) FROM ended").fetchone()
                ledger = Ledger(folder, memory)
                ledger.update()
                return ledger
            except sqlite3.DatabaseError:  # being built, held, or damaged: the journals are the truth
                memory = sqlite3.connect(":memory:")
        ledger = Ledger(folder, memory)
        ledger.update()
        return ledger

    def _check_journals(self) -> None:
        """Refuse a ledger that has read more of a journal than there is: it belongs to another past."""
        there = dict(journals(self.folder.journal))
        for path, size in self._db.execute("SELECT path, bytes FROM journal"):
            if there.get(path.removeprefix(_JOURNAL), -1) < size:
                raise sqlite3.DatabaseError("the journals are not those of this ledger")

    def update(self) -> int:
        """Read what journals hold beyond what is indexed; returns the number of records.

        Raises
        ------
        RunError
            If a journal cannot be read.
        """
        count, batch, positions, batches = 0, list[Record](), dict[Path, int](), 0

        def index() -> None:
            self.apply(batch)
            for path, end in positions.items():
                self.seen(path, end)
            batch.clear()
            positions.clear()

        known = dict(self._db.execute("SELECT path, bytes FROM journal"))
        for name, size in journals(self.folder.journal):
            begin = known.get(_JOURNAL + name, 0)
            if size <= begin:
                continue
            path = self.folder.journal / name
            try:
                records, positions[path] = read_journal(path, begin)
            except OSError as error:
                raise RunError(
                    f"{path} cannot be read ({error.strerror}): it says what was done; make it readable"
                ) from None
            batch += records
            count += len(records)
            if len(batch) >= _BATCH:
                index()
                batches += 1
                if batches % _COMMIT == 0:
                    self.commit()
        index()
        self.commit()
        return count

    def seen(self, path: Path, nbytes: int) -> None:
        """Note that a journal is indexed up to a position."""
        self._db.execute(
            "INSERT INTO journal VALUES (?, ?) ON CONFLICT DO UPDATE SET bytes = max(bytes, excluded.bytes)",
            (self.folder.relative(path), nbytes),
        )

    def apply(self, records: Iterable[Record]) -> None:
        """Index records. They reach the file with the next :meth:`commit`."""
        kinds: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            kinds[record.kind].append(record)
        how: Mapping[str, Callable[[list[Record]], None]] = {
            "started": self._apply_started, "ended": self._apply_ended, "failed": self._apply_failed,
            "lost": self._apply_failed, "anew": self._apply_anew, "retry": self._apply_retry,
            "void": self._apply_void, "event": self._apply_events,
        }  # fmt: skip
        try:
            for kind in kinds.keys() & how.keys():  # those of a later version are left alone
                how[kind](kinds[kind])
        except sqlite3.Error:
            self._forget()
            raise

    def commit(self) -> None:
        """Write what was indexed to the file; while somebody reads it, that waits for the next time."""
        try:
            self._db.commit()
        except sqlite3.Error as error:
            if "locked" in str(error):
                return
            self._forget()
            raise

    def _forget(self) -> None:
        """What is in memory must be what is in the file, after an error too."""
        self._db.rollback()
        self._recall()

    def _apply_started(self, records: list[Record]) -> None:
        self._db.executemany(
            "INSERT INTO started VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
            [r.unit for r in records],
        )

    def _apply_ended(self, records: list[Record]) -> None:
        rows = []
        for r in records:
            path, offset, length, check = (
                (r.part.path, r.part.offset, r.part.length, r.part.checksum) if r.part else ("", 0, 0, "")
            )
            file = self._file(path) if path else 0
            if r.generation < self._first_generation(r.unit) or (*r.unit, file, offset) in self._void:
                continue
            rows.append(
                (
                    *r.unit, r.generation, file, offset, length, bytes.fromhex(check), r.seconds, r.read,
                    r.write, r.cpu, r.nbytes, r.peak, r.time, self._worker(r.worker),
                    json.dumps(dict(r.extra)) if r.extra else None,
                )
            )  # fmt: skip
        found = self._db.executemany(f"INSERT OR IGNORE INTO ended {_VALUES}", rows)
        if found.rowcount < len(rows):
            for row in rows:
                self._compare(row)

    def _compare(self, row: Row) -> None:
        """Keep the better one of two results of a unit, and the other as a spare one."""
        there = self._db.execute(f"SELECT * FROM ended WHERE {_UNIT}", row[:3]).fetchone()
        if there[4:6] == row[4:6]:
            return
        self._db.executemany(f"INSERT OR IGNORE INTO spare {_VALUES}", (row, there))
        self._choose(row[:3])

    def _choose(self, unit: Row) -> None:
        """Let the best spare result of a unit count."""
        self._db.execute(f"DELETE FROM ended WHERE {_UNIT}", unit)
        self._db.execute(f"INSERT INTO ended SELECT * FROM spare WHERE {_UNIT} {_PREFERENCE}", unit)
        self._db.execute(
            f"DELETE FROM spare WHERE {_UNIT} AND (file, offset) IN "
            f"(SELECT file, offset FROM ended WHERE {_UNIT})", (*unit, *unit),
        )  # fmt: skip

    def _apply_failed(self, records: list[Record]) -> None:
        self._db.executemany(
            f"INSERT INTO failed VALUES ({', '.join('?' * 13)})",
            [
                (
                    *r.unit, r.generation, r.epoch, r.time, r.worker, r.seconds, r.cause, r.final, r.counted,
                    r.note, r.log,
                )
                for r in records
            ],
        )  # fmt: skip

    def _apply_anew(self, records: list[Record]) -> None:
        """The item begins anew from this stage on: what an earlier generation did counts no more."""
        for r in records:
            self._begun[r.unit.item].append((r.unit.stage, r.generation))
            self._db.execute(
                "INSERT INTO anew VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET generation = "
                "max(generation, excluded.generation)", (r.unit.item, r.unit.stage, r.generation),
            )  # fmt: skip
            for table in ("ended", "spare"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE item = ? AND stage >= ? AND generation < ?",
                    (r.unit.item, r.unit.stage, r.generation),
                )

    def _apply_retry(self, records: list[Record]) -> None:
        """Failures of the item before this epoch count no more."""
        self._db.executemany(
            "INSERT INTO retry VALUES (?, ?) ON CONFLICT DO UPDATE SET epoch = max(epoch, excluded.epoch)",
            [(r.unit.item, r.epoch) for r in records],
        )

    def _apply_void(self, records: list[Record]) -> None:
        """A result was found damaged."""
        for r in records:
            if r.part is None:
                continue
            key = (*r.unit, self._file(r.part.path), r.part.offset)
            self._void.add(key)
            self._db.execute("INSERT OR IGNORE INTO void VALUES (?, ?, ?, ?, ?)", key)
            where = f"WHERE {_UNIT} AND file = ? AND offset = ?"
            self._db.execute(f"DELETE FROM spare {where}", key)
            if self._db.execute(f"DELETE FROM ended {where}", key).rowcount:
                self._choose(r.unit)

    def _apply_events(self, records: list[Record]) -> None:
        self._db.executemany(
            "INSERT INTO event VALUES (?, ?, ?, ?)",
            [(r.epoch, r.time, r.note, json.dumps(dict(r.extra))) for r in records],
        )

    def _first_generation(self, unit: Unit) -> int:
        """The lowest generation of a unit that counts."""
        begun: Sequence[tuple[int, int]] = self._begun.get(unit.item, ())
        return max((generation for stage, generation in begun if stage <= unit.stage), default=0)

    def _file(self, path: str) -> int:
        """Number of a file that many rows share."""
        if path not in self._files:
            if len(self._files) > 10_000:
                self._files.clear()
            self._files[path] = self._number("file", "path", path)
        return self._files[path]

    def _worker(self, name: str) -> int:
        """Number of a process."""
        if name not in self._names:
            self._names[name] = self._number("worker", "name", name)
        return self._names[name]

    def _number(self, table: str, column: str, value: str) -> int:
        self._db.execute(f"INSERT OR IGNORE INTO {table} ({column}) VALUES (?)", (value,))
        row = self._db.execute(f"SELECT id FROM {table} WHERE {column} = ?", (value,)).fetchone()
        return int(row[0])

    def abandon(self) -> None:
        """Forget what was indexed since the last commit, and close."""
        self._db.rollback()
        self._db.close()
        if self._writes:
            seal(self.folder.ledger_file)

    def close(self) -> None:
        """Commit and close."""
        self.commit()
        self.abandon()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # a full disk: what is not in the index is in the journals
        if error is None:
            self.close()
        else:
            self._db.close()
