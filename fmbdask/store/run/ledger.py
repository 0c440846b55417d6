"""The ledger: an index of the journals, in SQLite, with one writer. Deleted or damaged, it is built again.

The same journals give the same ledger in whatever order they are read: a unit that ended has ended, whoever
failed before or after; decisions name the generation or the epoch before which records count no more.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from .folder import RunFolder
from .journal import journals, read_journal
from .units import Part, Record, Unit

if TYPE_CHECKING:
    import pandas as pd

_TABLES = """
CREATE TABLE IF NOT EXISTS journal (path TEXT PRIMARY KEY, bytes INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS file (id INTEGER PRIMARY KEY, path TEXT UNIQUE);
CREATE TABLE IF NOT EXISTS anew (
  item INTEGER, stage INTEGER, generation INTEGER, PRIMARY KEY (item, stage)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retry (item INTEGER PRIMARY KEY, epoch INTEGER);
CREATE TABLE IF NOT EXISTS started (
  stage INTEGER, item INTEGER, region INTEGER, times INTEGER, PRIMARY KEY (stage, item, region)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ended (
  stage INTEGER, item INTEGER, region INTEGER, generation INTEGER, file INTEGER, offset INTEGER,
  length INTEGER, checksum BLOB, inputs BLOB, seconds REAL, read REAL, write REAL, cpu REAL, nbytes INTEGER,
  peak INTEGER, time REAL, worker INTEGER, extra TEXT, PRIMARY KEY (stage, item, region)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failed (
  stage INTEGER, item INTEGER, region INTEGER, generation INTEGER, epoch INTEGER, time REAL, worker TEXT,
  seconds REAL, cause TEXT, final INTEGER, counted INTEGER, note TEXT, log TEXT
);
CREATE INDEX IF NOT EXISTS failed_unit ON failed (item, stage, region);
CREATE TABLE IF NOT EXISTS void (file INTEGER, offset INTEGER, PRIMARY KEY (file, offset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (epoch INTEGER, time REAL, note TEXT, extra TEXT);
"""

#: Columns of the table of ended units that another generation replaces.
_ENDED = (
    "generation", "file", "offset", "length", "checksum", "inputs", "seconds", "read", "write", "cpu",
    "nbytes", "peak", "time", "worker", "extra",
)  # fmt: skip


class Ended(NamedTuple):
    """What is known of a unit that ended."""

    unit: Unit
    part: Part | None
    seconds: float
    read: float
    write: float
    cpu: float
    nbytes: int
    peak: int
    time: float
    worker: str
    extra: Mapping[str, Any]


class Failure(NamedTuple):
    """One failure that counts: of the current generation, and not retried since."""

    unit: Unit
    time: float
    worker: str
    seconds: float
    cause: str
    final: bool
    counted: bool
    note: str
    log: str


class Event(NamedTuple):
    """What happened to the run as a whole."""

    epoch: int
    time: float
    note: str
    extra: Mapping[str, Any]


class Totals(NamedTuple):
    """Sums over the units that ended: regions of each stage, bytes read, thread seconds.

    ``recent_bytes`` were read by the units that ended within the last ``recent_span`` seconds; ``last`` is
    when the last one ended.
    """

    regions: Mapping[int, int]
    nbytes: int
    seconds: float
    recent_bytes: int
    recent_span: float
    last: float


class Ledger:
    """Index of the journals of a run.

    Use :meth:`open` as the one writer, :meth:`snapshot` to look.
    """

    def __init__(self, folder: RunFolder, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._db = connection
        self._db.executescript(_TABLES)
        self._files: dict[str, int] = {p: i for i, p in self._db.execute("SELECT id, path FROM file")}

    @staticmethod
    def open(folder: RunFolder) -> Ledger:
        """Open the ledger to write, built anew where it is missing or damaged, and bring it up to date."""
        try:
            ledger = Ledger(folder, _connect(folder.ledger_file))
            if ledger._db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("damaged")
            ledger._check_journals()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise  # a full disk or a busy file is no damage
            for path in folder.path.glob(folder.ledger_file.name + "*"):
                path.unlink()
            ledger = Ledger(folder, _connect(folder.ledger_file))
        ledger.update()
        return ledger

    @staticmethod
    def snapshot(folder: RunFolder) -> Ledger:
        """Copy the ledger into memory and bring the copy up to date: the run may go on meanwhile."""
        memory = sqlite3.connect(":memory:")
        if folder.ledger_file.is_file():
            try:
                address = folder.ledger_file.absolute().as_uri() + "?mode=ro"
                with closing(sqlite3.connect(address, uri=True, timeout=10)) as source:
                    source.backup(memory)
            except sqlite3.DatabaseError:  # being built, or damaged: the journals are the truth
                memory = sqlite3.connect(":memory:")
        ledger = Ledger(folder, memory)
        ledger.update()
        return ledger

    def _check_journals(self) -> None:
        """Refuse a ledger that has read more of a journal than there is: it belongs to another past."""
        known = dict(self._db.execute("SELECT path, bytes FROM journal"))
        sizes = {self.folder.relative(p): size for p, size in journals(self.folder.journal)}
        if any(sizes.get(path, -1) < size for path, size in known.items()):
            raise sqlite3.DatabaseError("the journals are not those of this ledger")

    def update(self) -> int:
        """Read what journals hold beyond what is indexed; returns the number of records."""
        known = dict(self._db.execute("SELECT path, bytes FROM journal"))
        count = 0
        for path, size in journals(self.folder.journal):
            begin = known.get(self.folder.relative(path), 0)
            if size > begin:
                records, end = read_journal(path, begin)
                self.apply(records)
                self.seen(path, end)
                count += len(records)
        self.commit()
        return count

    def seen(self, path: Path, nbytes: int) -> None:
        """Note that a journal is indexed up to a position."""
        self._db.execute("INSERT OR REPLACE INTO journal VALUES (?, ?)", (self.folder.relative(path), nbytes))

    def apply(self, records: Iterable[Record]) -> None:
        """Index records. They reach the file with the next :meth:`commit`."""
        for record in records:
            getattr(self, f"_{record.kind}", self._unknown)(record)

    def commit(self) -> None:
        """Write what was indexed to the file."""
        self._db.commit()

    def _unknown(self, record: Record) -> None:
        """A record of a later version: leave it."""

    def _started(self, r: Record) -> None:
        self._db.execute(
            "INSERT INTO started VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1", r.unit
        )

    def _ended(self, r: Record) -> None:
        if r.generation < self.generation(r.unit.item, r.unit.stage):
            return
        part = r.part
        file = self._file(part.path) if part else None
        if (
            part
            and self._db.execute(
                "SELECT 1 FROM void WHERE file = ? AND offset = ?", (file, part.offset)
            ).fetchone()
        ):
            return
        self._db.execute(
            f"INSERT INTO ended VALUES ({', '.join('?' * 18)}) ON CONFLICT DO UPDATE SET "
            + ", ".join(f"{c} = excluded.{c}" for c in _ENDED)
            + " WHERE excluded.generation > ended.generation",
            (
                *r.unit, r.generation, file, part.offset if part else None, part.length if part else None,
                bytes.fromhex(part.checksum) if part else None, bytes.fromhex(r.inputs), r.seconds, r.read,
                r.write, r.cpu, r.nbytes, r.peak, r.time, self._file(r.worker),
                json.dumps(r.extra) if r.extra else None,
            ),
        )  # fmt: skip

    def _failed(self, r: Record) -> None:
        self._db.execute(
            f"INSERT INTO failed VALUES ({', '.join('?' * 13)})",
            (
                *r.unit, r.generation, r.epoch, r.time, r.worker, r.seconds, r.cause, r.final, r.counted,
                r.note, r.log,
            ),
        )  # fmt: skip

    _lost = _failed

    def _anew(self, r: Record) -> None:
        """The item begins anew from this stage on: what an earlier generation did counts no more."""
        self._db.execute(
            "INSERT INTO anew VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET generation = "
            "max(generation, excluded.generation)", (r.unit.item, r.unit.stage, r.generation),
        )  # fmt: skip
        self._db.execute(
            "DELETE FROM ended WHERE item = ? AND stage >= ? AND generation < ?",
            (r.unit.item, r.unit.stage, r.generation),
        )

    def _retry(self, r: Record) -> None:
        """Failures of the item before this epoch count no more."""
        self._db.execute(
            "INSERT INTO retry VALUES (?, ?) ON CONFLICT DO UPDATE SET epoch = max(epoch, excluded.epoch)",
            (r.unit.item, r.epoch),
        )

    def _void(self, r: Record) -> None:
        """A result was found damaged."""
        if r.part is None:
            return
        key = self._file(r.part.path), r.part.offset
        self._db.execute("INSERT OR IGNORE INTO void VALUES (?, ?)", key)
        self._db.execute(
            "DELETE FROM ended WHERE stage = ? AND item = ? AND region = ? AND file = ? AND offset = ?",
            (*r.unit, *key),
        )

    def _event(self, r: Record) -> None:
        self._db.execute(
            "INSERT INTO event VALUES (?, ?, ?, ?)", (r.epoch, r.time, r.note, json.dumps(dict(r.extra)))
        )

    def _file(self, path: str) -> int:
        """Number of a name that many rows share."""
        if path not in self._files:
            cursor = self._db.execute("INSERT INTO file (path) VALUES (?)", (path,))
            self._files[path] = int(cursor.lastrowid or 0)
        return self._files[path]

    def generation(self, item: int, stage: int | None = None) -> int:
        """How often an item was begun anew, at this stage or one before it; at any stage by default."""
        row = self._db.execute(
            "SELECT max(generation) FROM anew WHERE item = ?1 AND (?2 IS NULL OR stage <= ?2)", (item, stage)
        ).fetchone()
        return row[0] or 0

    def done(self, stage: int, item: int) -> set[int]:
        """Regions of an item that ended, :data:`~.units.PREPARE` and :data:`~.units.REDUCE` among them."""
        rows = self._db.execute("SELECT region FROM ended WHERE stage = ? AND item = ?", (stage, item))
        return {row[0] for row in rows}

    def done_counts(self, region: int | None = None) -> dict[tuple[int, int], int]:
        """Number of regions that ended, by (stage, item); or whether this one has (prepare, reduce)."""
        where = "region >= 0" if region is None else f"region = {int(region)}"
        rows = self._db.execute(f"SELECT stage, item, count(*) FROM ended WHERE {where} GROUP BY stage, item")
        return {(stage, item): n for stage, item, n in rows}

    def ended(self, stage: int | None = None, item: int | None = None) -> Iterator[Ended]:
        """Units that ended, in their order."""
        names = {i: path for path, i in self._files.items()}
        rows = self._db.execute(
            "SELECT stage, item, region, file, offset, length, checksum, seconds, read, write, cpu, nbytes, "
            "peak, time, worker, extra FROM ended WHERE (?1 IS NULL OR stage = ?1) "
            "AND (?2 IS NULL OR item = ?2) ORDER BY stage, item, region", (stage, item),
        )  # fmt: skip
        for s, i, region, file, offset, length, check, *numbers, worker, extra in rows:
            part = None if file is None else Part(names[file], offset, length, check.hex())
            more = json.loads(extra) if extra else {}
            yield Ended._make((Unit(s, i, region), part, *numbers, names[worker], more))

    def part(self, unit: Unit) -> Part | None:
        """Where the result of a unit lies; None if it has not ended or has none."""
        row = self._db.execute(
            "SELECT path, offset, length, checksum FROM ended JOIN file ON file.id = ended.file "
            "WHERE stage = ? AND item = ? AND region = ?", unit,
        ).fetchone()  # fmt: skip
        return None if row is None else Part(row[0], row[1], row[2], row[3].hex())

    def totals(self, since: float) -> Totals:
        """Sum up what ended; the recent past begins at ``since`` [s since 1970]."""
        regions = dict(self._db.execute("SELECT stage, count(*) FROM ended WHERE region >= 0 GROUP BY stage"))
        nbytes, seconds, last = self._db.execute(
            "SELECT coalesce(sum(nbytes), 0), coalesce(sum(seconds), 0), coalesce(max(time), 0) FROM ended"
        ).fetchone()
        recent, first = self._db.execute(
            "SELECT coalesce(sum(nbytes), 0), min(time - seconds) FROM ended WHERE time >= ?", (since,)
        ).fetchone()
        span = 0.0 if first is None else last - max(first, since)
        return Totals(regions, nbytes, seconds, recent, span, last)

    def timings(self) -> pd.DataFrame:
        """One row a unit that ended: where and how long it ran, what it read and the memory it took."""
        import pandas as pd

        rows = self._db.execute(
            "SELECT stage, item, region, time - seconds AS begin, time AS end, seconds, read, write, cpu, "
            "nbytes, peak, worker, extra FROM ended"
        )
        names = {i: path for path, i in self._files.items()}
        found = pd.DataFrame(rows.fetchall(), columns=[column[0] for column in rows.description])
        found["worker"] = found["worker"].map(names).astype("category")
        return found

    def failures(self, *, final: bool | None = None) -> list[Failure]:
        """Failures that count, of units that have not ended since."""
        rows = self._db.execute(
            "SELECT f.stage, f.item, f.region, f.time, f.worker, f.seconds, f.cause, f.final, f.counted, "
            "f.note, f.log FROM failed f LEFT JOIN retry r ON r.item = f.item "
            "WHERE f.epoch >= coalesce(r.epoch, 0) AND NOT EXISTS (SELECT 1 FROM anew a WHERE "
            "a.item = f.item AND a.stage <= f.stage AND a.generation > f.generation) "
            "AND NOT EXISTS (SELECT 1 FROM ended e WHERE e.stage = f.stage AND e.item = f.item "
            "AND e.region = f.region) AND (?1 IS NULL OR f.final = ?1) "
            "ORDER BY f.item, f.stage, f.region, f.time", (final,),
        )  # fmt: skip
        return [
            Failure(Unit(s, i, r), time, worker, seconds, cause, bool(last), bool(counted), note, log)
            for s, i, r, time, worker, seconds, cause, last, counted, note, log in rows
        ]

    def executions(self) -> dict[Unit, int]:
        """How often each unit was started."""
        return {
            Unit(s, i, r): n
            for s, i, r, n in self._db.execute("SELECT stage, item, region, times FROM started")
        }

    def events(self) -> list[Event]:
        """What happened to the run, in time."""
        rows = self._db.execute("SELECT epoch, time, note, extra FROM event ORDER BY time")
        return [Event(e, t, note, json.loads(extra)) for e, t, note, extra in rows]

    def abandon(self) -> None:
        """Forget what was indexed since the last commit, and close."""
        self._db.rollback()
        self._db.close()

    def close(self) -> None:
        """Commit and close."""
        self.commit()
        self._db.close()

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


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file for one writer; it is an index, so the disk need not be waited for."""
    connection = sqlite3.connect(path, timeout=30)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -65536")
    return connection
