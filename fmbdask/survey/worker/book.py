"""What a task writes down while it is done: its journal, the results of its units, and who is to blame."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from ...store.run.epochs import check_reign
from ...store.run.folder import RunFolder
from ...store.run.journal import JournalWriter, task_journal
from ...store.run.parts import PartWriter
from ...store.run.units import Record, Unit
from ..pipelines.protocol import Context
from .guard import EXIT_STATUS, Watch


class Ticket:
    """The unit in hand: when it began."""

    def __init__(self, book: Book, unit: Unit) -> None:
        self._book, self.unit = book, unit
        self._begin, self._cpu = time.perf_counter(), time.thread_time()

    def record(self, kind: str, context: Context, **fields: Any) -> Record:
        """What is known of the unit now that it is over."""
        return self._book.record(
            kind,
            self.unit,
            seconds=time.perf_counter() - self._begin,
            read=context.seconds["read"],
            write=context.seconds["write"],
            cpu=time.thread_time() - self._cpu,
            nbytes=context.nbytes,
            peak=self._book.watch.end(),
            **fields,
        )

    def seconds(self) -> float:
        """For how long it has been in hand [s]."""
        return time.perf_counter() - self._begin


class Book:
    """Journal and parts of one execution of a task, and the watch over its memory.

    Parameters
    ----------
    folder : RunFolder
    epoch, number : int
        Of the task.
    generations : mapping
        Generations of its items.
    allowance : int
        Anonymous memory that the process may use [byte].

    Raises
    ------
    SupersededError
        If another coordinator has taken over.
    FileExistsError
        If the task was begun before.
    OSError
        If the journal cannot be made.
    """

    def __init__(
        self, folder: RunFolder, epoch: int, number: int, generations: Mapping[int, int], allowance: int
    ) -> None:
        check_reign(folder.epochs, epoch)
        self.path = task_journal(folder.journal, epoch, number)
        self.parts = PartWriter(folder, f"{epoch:05d}/{self.path.stem}")
        self.records: list[Record] = []
        self.watch = Watch(allowance, self._exceeded)
        self._epoch, self._generations, self._worker = epoch, generations, worker_name()
        self._ticket: Ticket | None = None
        self._journal = JournalWriter(self.path, beside=self.parts.sync)

    def record(self, kind: str, unit: Unit, **fields: Any) -> Record:
        """A record of a unit, by this process and now."""
        return Record(
            kind,
            unit,
            generation=self._generations.get(unit.item, 0),
            epoch=self._epoch,
            time=time.time(),
            worker=self._worker,
            **fields,
        )

    def write(self, record: Record) -> None:
        """Write a record to the journal."""
        self._journal.write(record)
        self.records.append(record)

    @property
    def nbytes(self) -> int:
        """Size of the journal [byte]."""
        return self.path.stat().st_size

    def unit(self, unit: Unit) -> InHand:
        """A unit is in hand inside this block."""
        return InHand(self, unit)

    def _exceeded(self, used: int, alone: bool) -> None:
        """The process ends at once: say why, and for which unit."""
        ticket, allowance = self._ticket, self.watch.allowance
        if ticket is None:
            return
        note = (
            f"needed more than {allowance / 1e6:.0f} MB of anonymous memory: its process was ended "
            f"at {used / 1e6:.0f} MB"
        )
        self._journal.write(
            self.record(
                "failed",
                ticket.unit,
                seconds=ticket.seconds(),
                peak=used,
                cause="memory",
                counted=alone,
                note=note,
                extra={"allowance": allowance, "used": used},
            )
        )
        self._journal.sync()

    def __enter__(self) -> Book:
        self.watch.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.watch.__exit__(kind, error, trace)
        try:
            self._journal.close()
        finally:
            self.parts.close()


class InHand:
    """Records the start of a unit, and has its memory watched until the block ends."""

    def __init__(self, book: Book, unit: Unit) -> None:
        self._book, self._unit = book, unit

    def __enter__(self) -> Ticket:
        book = self._book
        if not book.watch.begin():
            book.write(
                book.record("event", self._unit, note="a worker process had grown too large and was replaced")
            )
            book._journal.sync()
            os._exit(EXIT_STATUS)
        book.write(book.record("started", self._unit))
        book._ticket = Ticket(book, self._unit)
        return book._ticket

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._book._ticket = None
        self._book.watch.end()


def worker_name() -> str:
    """This process for people: host, process id, and the address of the Dask worker if it is one."""
    address = ""
    if "distributed" in sys.modules:
        from distributed import get_worker

        with suppress(ValueError):  # not a worker
            address = f"/{get_worker().address}"
    return f"{socket.gethostname()}/{os.getpid()}{address}"
