"""Journals: what happened, line by line, in files that only grow. They are the truth of a run.

A process that works on a span of units writes a journal of its own, so nobody shares a file. Each line is
handed to the operating system at once, so that a killed process loses none; it is forced to the disk at
least every second and at the end, so that a dead machine loses at most the last second. A torn last line is
ignored.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from .folder import at_once, sync_folder
from .units import Record

#: Longest time that lines may wait to be forced to the disk [s].
SYNC_INTERVAL = 1.0


def journal_path(folder: Path, epoch: int, name: str) -> Path:
    """Make up the name of a new journal; no two executions ever share one."""
    return folder / f"{epoch:05d}" / f"{name}-{uuid4().hex[:8]}.jsonl"


def task_journal(folder: Path, epoch: int, number: int) -> Path:
    """Journal of a task: a task is done once, so whoever finds the file must not do it."""
    return folder / f"{epoch:05d}" / f"task-{number:07d}.jsonl"


class JournalWriter:
    """Appends records to a new journal.

    Parameters
    ----------
    path : Path
        From :func:`journal_path` or :func:`task_journal`; must not exist.
    beside : callable, optional
        Called when lines are forced to the disk: brings there what they speak of, at the same time. (Should
        the machine die between the two, a checksum in the line tells that it is not there.)

    Raises
    ------
    FileExistsError
        If it exists.
    OSError
        As the file system says; a full disk among them.
    """

    def __init__(self, path: Path, beside: Callable[[], None] | None = None) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # a file of this name is not the journal
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None
        self.path = path
        self._beside = beside
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        self._unnamed = list(path.parents[:2])
        self._synced = time.monotonic()

    def write(self, record: Record) -> None:
        """Append one record."""
        line = _encode(record.as_json()).encode() + b"\n"
        written = os.write(self._file, line)
        try:
            while written < len(line):  # a nearly full disk takes a piece: the rest must fail loudly
                written += os.write(self._file, line[written:])
        except OSError:  # take the piece back, lest it spoils the next line
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise
        if time.monotonic() - self._synced > SYNC_INTERVAL:
            self.sync()

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        waits = [partial(os.fsync, self._file), *(partial(sync_folder, path) for path in self._unnamed)]
        at_once(waits if self._beside is None else [self._beside, *waits])
        self._unnamed = []
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close."""
        try:
            self.sync()
        finally:
            os.close(self._file)

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _number(value: Any) -> Any:
    """A number of NumPy as one of Python, anything else as text."""
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) == 1 else str(value)


_encode = json.JSONEncoder(separators=(",", ":"), default=_number, skipkeys=True).encode


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline wants to be recorded, as values of JSON: what is none becomes text.

    Raises
    ------
    ValueError
        If it contains itself.
    """
    found: dict[str, Any] = json.loads(_encode(dict(values))) if values else {}
    return found


def read_journal(path: Path, start: int = 0) -> tuple[list[Record], int]:
    """Read the whole lines of a journal from a position on.

    Returns
    -------
    list of Record, int
        Damaged lines are left out; and the position after the last whole line [byte].
    """
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    records = []
    for line in whole.split(b"\n")[:-1]:
        try:
            records.append(Record.from_json(json.loads(line.decode())))
        except (ValueError, TypeError, KeyError):
            continue
    return records, start + len(whole)


def journals(folder: Path) -> Iterator[tuple[str, int]]:
    """Every journal below a folder, by its name relative to it, and its size [byte], in order."""
    epochs = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()) if folder.is_dir() else []
    for epoch in epochs:
        with os.scandir(folder / epoch) as entries:
            found = sorted((e.name, e.stat().st_size) for e in entries if e.name.endswith(".jsonl"))
        yield from ((f"{epoch}/{name}", size) for name, size in found)
