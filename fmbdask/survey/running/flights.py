"""Tasks that were given to workers, and what their journals say of them while and after they are done."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distributed.client import done_callback

from ...errors import FmbdaskError
from ...store.run.journal import read_journal, task_journal
from ...store.run.units import Record, Unit
from ..worker.book import worker_name
from ..worker.serial import serial
from ..worker.task import Task, TaskResult, run_task


@dataclass(frozen=True)
class Refusal:
    """Why a worker could not do a task, through no fault of its units."""

    worker: str
    reason: str


def try_task(task: Task) -> TaskResult | Refusal:
    """Do a task; what keeps it from being done at all is told with the worker where that happened."""
    try:
        with serial():
            return run_task(task)
    except Exception as error:
        text = " ".join(str(error).split())
        return Refusal(
            worker_name(), text if isinstance(error, FmbdaskError) else f"{type(error).__name__}: {text}"
        )


def try_packed(content: bytes) -> bytes:
    """As :func:`try_task`, of a task that is pickled; so is what it returns.

    Dask looks into everything else on its way, and the scheduler makes objects of it.
    """
    return pickle.dumps(try_task(pickle.loads(content)), protocol=5)


async def arrivals(futures: Mapping[int, Any], tell: Callable[[int], None]) -> None:
    """Tell the number of each task that is over, whatever became of it; to be run by the client's loop.

    ``Future.add_done_callback`` would go through another thread for each of them.
    """
    await asyncio.gather(*(done_callback(f, partial(_tell, tell, n)) for n, f in futures.items()))


def _tell(tell: Callable[[int], None], number: int, future: Any) -> None:
    tell(number)


def fetch(client: Any, flights: Mapping[int, Flight], patience: float) -> dict[int, TaskResult | Refusal]:
    """What tasks that ended well returned, fetched together.

    Returns
    -------
    dict
        Without those that must be asked for one by one, to learn what became of them.
    """
    ended = {n: flight.future for n, flight in flights.items() if flight.future.status == "finished"}
    found: list[bytes] = []

    async def gather() -> list[bytes]:
        got: list[bytes] = await client.gather(list(ended.values()), errors="skip", asynchronous=True)
        return got

    with suppress(Exception):  # a worker was lost with its results, or the scheduler is gone
        found = client.sync(gather, callback_timeout=patience)
    if len(found) != len(ended):
        return {}
    return {number: pickle.loads(content) for number, content in zip(ended, found, strict=True)}


@dataclass
class Flight:
    """A task at a worker.

    Attributes
    ----------
    task : Task
    future : distributed.Future
    patience : float
        Longest time that any of its units may take [s].
    since : float
        When it was submitted, or its journal was last seen to have grown, on the coordinator's clock [s].
    alone : bool
        Whether it has a worker process for itself.
    size : int
        Size of its journal then [byte]; -1 before it began.
    """

    task: Task
    future: Any
    patience: float
    since: float
    alone: bool = False
    size: int = -1

    @property
    def journal(self) -> Path:
        """Its journal; there is none before it began."""
        return task_journal(Path(self.task.run) / "journal", self.task.epoch, self.task.number)

    def stands_still(self, now: float) -> bool:
        """Look at the journal: whether it has begun and not grown for longer than a unit may take."""
        if self.size < 0 and now - self.since < self.patience / 2:
            return False  # most tasks are over by then: the file system is not asked
        try:
            size = self.journal.stat().st_size
        except OSError:
            return False
        if size != self.size:
            self.size, self.since = size, now
        return now - self.since > self.patience

    def look(self) -> list[Record]:
        """What its journal says now."""
        try:
            return read_journal(self.journal)[0]
        except OSError:
            return []


def in_hand(records: Sequence[Record]) -> Unit | None:
    """The unit that started and neither ended nor failed: the last one, or none."""
    found = None
    for record in records:
        if record.kind == "started":
            found = record.unit
        elif record.kind in ("ended", "failed") and record.unit == found:
            found = None
    return found


def process_of(records: Sequence[Record]) -> str:
    """The process that wrote a journal: host, process id, and address."""
    return records[-1].worker if records else ""


def address_of(process: str) -> str:
    """Address of the Dask worker in a process; empty if it is none."""
    return process.split("/", 2)[2] if process.count("/") >= 2 else ""
