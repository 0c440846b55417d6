"""Questions to the ledger of a run, and what it answers."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .units import REDUCE, Part, Unit

if TYPE_CHECKING:
    import pandas as pd


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
    """Sums over the units that ended: regions and reduced items of each stage, bytes read, thread seconds.

    ``recent_bytes`` were read by the units that ended within the last ``recent_span`` seconds; ``last`` is
    when the last one ended.
    """

    regions: Mapping[int, int]
    reduced: Mapping[int, int]
    nbytes: int
    seconds: float
    recent_bytes: int
    recent_span: float
    last: float


class Answers:
    """What a ledger knows; see :class:`~.ledger.Ledger` for how it came to know.

    Parameters
    ----------
    connection : sqlite3.Connection
        To a file or memory with the tables of a ledger.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def generation(self, item: int, stage: int | None = None) -> int:
        """How often an item was begun anew, at this stage or one before it; at any stage by default."""
        row = self._db.execute(
            "SELECT max(generation) FROM anew WHERE item = ?1 AND (?2 IS NULL OR stage <= ?2)", (item, stage)
        ).fetchone()
        return int(row[0] or 0)

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
        names = self._workers()
        wanted = {"stage": stage, "item": item}
        where = " AND ".join(f"{k} = :{k}" for k, v in wanted.items() if v is not None)
        rows = self._db.execute(
            "SELECT stage, item, region, path, offset, length, checksum, seconds, read, write, cpu, nbytes, "
            "peak, time, worker, extra FROM ended LEFT JOIN file ON file.id = ended.file "
            f"WHERE {where or 'true'} ORDER BY stage, item, region", wanted,
        )  # fmt: skip
        for s, i, region, path, offset, length, check, *numbers, worker, extra in rows:
            part = None if path is None else Part(path, offset, length, check.hex())
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
        rows = self._db.execute(  # all in one pass: there may be tens of millions
            "SELECT stage, sum(region >= 0), sum(nbytes), sum(seconds), max(time), "
            "sum(iif(time >= ?1, nbytes, 0)), min(iif(time >= ?1, time - seconds, NULL)), "
            f"sum(region = {REDUCE} AND item >= 0) FROM ended GROUP BY stage", (since,),
        ).fetchall()  # fmt: skip
        last = max((row[4] for row in rows), default=0)
        begins = [row[6] for row in rows if row[6] is not None]
        return Totals(
            regions={row[0]: row[1] for row in rows if row[1]},
            reduced={row[0]: row[7] for row in rows if row[7]},
            nbytes=sum(row[2] for row in rows),
            seconds=sum(row[3] for row in rows),
            recent_bytes=sum(row[5] for row in rows),
            recent_span=last - max(min(begins), since) if begins else 0.0,
            last=last,
        )

    def timings(self) -> pd.DataFrame:
        """One row a unit that ended: where and how long it ran, what it read and the memory it took."""
        import pandas as pd

        rows = self._db.execute(
            "SELECT stage, item, region, time - seconds AS begin, time AS end, seconds, read, write, cpu, "
            "nbytes, peak, worker, extra FROM ended"
        )
        found = pd.DataFrame(rows.fetchall(), columns=[column[0] for column in rows.description])
        found["worker"] = found["worker"].map(self._workers()).astype("category")
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
            "ORDER BY f.item, f.stage, f.region, f.time, f.worker, f.cause, f.note, f.final, "
            "f.counted, f.seconds, f.log", (final,),
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
        rows = self._db.execute(
            "SELECT epoch, time, note, extra FROM event ORDER BY time, epoch, note, extra"
        )
        return [Event(e, t, note, json.loads(extra)) for e, t, note, extra in rows]

    def _workers(self) -> dict[int, str]:
        """Names of the processes that ended units."""
        return dict(self._db.execute("SELECT id, name FROM worker"))
