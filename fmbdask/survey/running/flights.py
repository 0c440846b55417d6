"""Tasks that were given to workers, and what their journals say of them while and after they are done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
