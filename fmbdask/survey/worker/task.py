"""What a worker does: the units of a task one after the other, each caught by itself and journalled here.

The journal is the truth; what :func:`run_task` returns is the same records once more, so that a coordinator
need not read them.
"""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import FmbdaskError, RunError, SupersededError
from ...store.run.epochs import check_reign
from ...store.run.folder import RunFolder
from ...store.run.items import Item
from ...store.run.journal import plain
from ...store.run.units import Part, Record, Unit
from ..pipelines.protocol import Context
from .book import Book
from .doing import Doing
from .loading import load_pipeline

#: A unit is not started unless so many times its expected time, and a margin [s], are left to its job.
SAFETY, MARGIN = 1.5, 2.0
#: Lines of a traceback that are kept.
LOG_LINES = 20
_FULL = {errno.ENOSPC, errno.EDQUOT}
#: Errors of file systems that may be gone the next time, also below an error that says the input is bad.
_PASSING = {
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EAGAIN,
    errno.ENOTCONN,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EMFILE,
    errno.ENFILE,
    errno.EREMOTEIO,
}


@dataclass(frozen=True)
class Task:
    """Units that one worker does one after the other, in this order.

    Attributes
    ----------
    number : int
        Unique in the epoch.
    epoch : int
        Whose reign it is; nothing is done under a later one.
    run : str
        Directory of the run.
    units : tuple of Unit
    items : mapping
        Items of the units by index. For the reduction of the run: all that were reduced, and under
        :data:`~fmbdask.store.run.units.WHOLE_RUN` an item with the generation of the reduction if not 0.
    known : mapping
        Results of earlier units that these need: what was prepared, regions of a reduction, products.
    seconds : mapping
        Expected time of a unit by kind, ``prepare``, ``map``, ``reduce`` [s]; may be empty.
    allowance : int
        Anonymous memory that the worker process may use [byte]; 0 for no guard.
    """

    number: int
    epoch: int
    run: str
    units: tuple[Unit, ...]
    items: Mapping[int, Item]
    known: Mapping[Unit, Part] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    allowance: int = 0


@dataclass(frozen=True)
class TaskResult:
    """What became of a task.

    Attributes
    ----------
    records : tuple of Record
        As in the journal, in its order.
    journal : str
        Path of the journal, relative to the run; empty if it could not be made.
    nbytes : int
        Size of the journal [byte].
    left : tuple of Unit
        Units that must be done by another task. Units of an item of which one failed are not among them.
    why_left : str
        ``walltime``, ``stop``, ``superseded``, ``space`` or ``begun`` (the task was begun before: its
        journal says what became of it); empty if nothing was left.
    """

    records: tuple[Record, ...] = ()
    journal: str = ""
    nbytes: int = 0
    left: tuple[Unit, ...] = ()
    why_left: str = ""


def run_task(task: Task) -> TaskResult:
    """Do the units of a task.

    A unit that fails is recorded with its cause, and the other units of its item are skipped. Nothing is
    started after the run was asked to stop, after another coordinator took over, when the disk is full, or
    when it could not end before the walltime of the job (``SLURM_JOB_END_TIME`` or ``FMBDASK_JOB_END`` in
    the environment, in seconds since 1970).

    Raises
    ------
    RunError
        If the pipeline cannot be loaded, or the journal cannot be written for another reason than a full
        disk; what was recorded before is in the journal.
    """
    folder = RunFolder(Path(task.run))
    pipeline = load_pipeline(folder)
    why, left = "", task.units
    generations = {index: item.generation for index, item in task.items.items()}
    book = None
    try:
        book = Book(folder, task.epoch, task.number, generations, task.allowance)
        with book:
            doing = Doing(folder, pipeline, task.epoch, dict(task.items), dict(task.known), book.parts)
            why, left = _do_all(task, doing, book)
    except SupersededError:
        why = "superseded"
    except FileExistsError:  # Dask does a task again when the worker that held its result is lost
        why = "begun"
    except OSError as error:
        if not is_full(error):
            raise RunError(
                f"the journal of the run in {task.run} cannot be written ({error.strerror}): "
                "see that the folder is mounted and may be written to on every worker, then resume"
            ) from error
        why = "space"
    if book is None:
        return TaskResult(left=left, why_left=why)
    return TaskResult(tuple(book.records), folder.relative(book.path), book.nbytes, left, why)


def _do_all(task: Task, doing: Doing, book: Book) -> tuple[str, tuple[Unit, ...]]:
    """Do what can be done; why the rest was left, and the rest."""
    failed: set[int] = set()
    slowest: dict[str, float] = {}
    end = job_end()
    why = ""
    waiting = list(task.units)
    while waiting:
        unit = waiting[0]
        if unit.item in failed:
            waiting.pop(0)
            continue
        expected = max(task.seconds.get(unit.kind, 0.0), slowest.get(unit.kind, 0.0))
        why = _why_not(doing, end, expected)
        if why:
            break
        begin = time.perf_counter()
        try:
            if not _do(unit, doing, book):
                failed.add(unit.item)
        except SupersededError:
            why = "superseded"
            break
        except OSError as error:
            if not is_full(error):
                raise
            why = "space"
            break
        slowest[unit.kind] = max(slowest.get(unit.kind, 0.0), time.perf_counter() - begin)
        waiting.pop(0)
    return why, tuple(unit for unit in waiting if unit.item not in failed)


def _why_not(doing: Doing, end: float | None, expected: float) -> str:
    """Why no further unit may begin; empty if it may."""
    try:
        check_reign(doing.folder.epochs, doing.epoch)
    except SupersededError:
        return "superseded"
    if doing.folder.stop_file.exists():
        return "stop"
    if end is not None and time.time() + SAFETY * expected + MARGIN > end:
        return "walltime"
    return ""


def _do(unit: Unit, doing: Doing, book: Book) -> bool:
    """Do one unit and record it; whether it ended well.

    Raises
    ------
    SupersededError
    OSError
        If a disk is full, or the journal cannot be written.
    """
    context = Context(doing.folder)
    with book.unit(unit) as ticket:
        try:
            part = doing.do(unit, context)
            extra = plain(context.extra)
        except SupersededError:
            raise
        except (Exception, SystemExit) as error:
            record = ticket.record("failed", context, **_reason(error, doing.damaged))
        else:
            record = ticket.record("ended", context, part=part, inputs=context.inputs, extra=extra)
        book.write(record)
    if record.cause == "space":
        raise OSError(errno.ENOSPC, record.note)
    return record.kind == "ended"


def _reason(error: BaseException, damaged: list[Unit]) -> dict[str, Any]:
    """Fields of the record of a failure."""
    text = " ".join(str(error).split()) or type(error).__name__
    if damaged:
        return {"cause": "io", "note": text, "extra": {"damaged": [list(unit) for unit in damaged]}}
    if is_full(error):
        return {"cause": "space", "counted": False, "note": text}
    if isinstance(error, MemoryError):
        return {"cause": "memory", "note": f"out of memory: {text}"}
    if isinstance(error, FmbdaskError) and not _errnos(error) & _PASSING:
        return {"cause": "data", "final": True, "note": text}
    if isinstance(error, OSError | FmbdaskError):
        return {"cause": "io", "note": text}
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    note = f"unexpected {type(error).__name__}: {text}"
    return {"cause": "code", "final": True, "note": note, "log": "\n".join(lines[-LOG_LINES:])}


def is_full(error: BaseException) -> bool:
    """Whether a disk or a quota is full, also below an error of another library."""
    return bool(_errnos(error) & _FULL)


def _errnos(error: BaseException | None) -> set[int]:
    """Numbers of the errors of the system that led to an error."""
    found: set[int] = set()
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            found.add(error.errno)
        error = error.__cause__ or error.__context__
    return found


def job_end() -> float | None:
    """When the job of this process ends, in seconds since 1970; None if nobody said so."""
    for name in ("FMBDASK_JOB_END", "SLURM_JOB_END_TIME"):
        try:
            return float(os.environ[name])
        except (KeyError, ValueError):
            continue
    return None
