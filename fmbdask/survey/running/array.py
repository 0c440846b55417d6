"""Parts of a run without workers of Dask: each process does every n-th input by itself, then one finishes.

For sites that allow job arrays and nothing else. Journals are the same, so that a coordinator can take over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

import numpy as np

from ...cluster.local import cores
from ...errors import RunError
from ...store.run.epochs import Reign, acquire_part
from ...store.run.folder import RunFolder
from ...store.run.items import Item, ItemTable
from ...store.run.journal import JournalWriter, journal_path
from ...store.run.ledger import Ledger
from ...store.run.units import REDUCE, WHOLE_RUN, Part, Record, Unit
from ..pipelines import make
from ..planning.plan import Plan
from ..worker.task import Task, TaskResult
from .coordinator import Stopped
from .flights import Refusal, try_task
from .leftovers import Leftovers
from .making import Maker
from .outcome import Run, look
from .pace import Pace, Report
from .policy import Policy, Setback
from .schedule import Schedule
from .stages import setbacks
from .working import asking, costs_of
from .working import work as coordinate

#: How often an end that somebody asks for is noticed [s].
TICK = 0.5
#: Names of inputs that a message lists.
SHOWN = 5
#: Numbers of tasks that one claim of a part may use.
_NUMBERS = 1_000_000


def work(
    path: str | os.PathLike[str],
    part: int,
    parts: int,
    *,
    threads: int | None = None,
    progress: Report | None = None,
) -> Run:
    """Do every ``parts``-th input of a planned run in this process, beginning with the ``part``-th.

    Parameters
    ----------
    path : path
        Folder of the run, from ``fmbdask survey plan``.
    part, parts : int
        Which part, from 1, and how many there are.
    threads : int, optional
        Units that are done side by side; one a core by default.
    progress : callable, optional
        Called with (regions done, regions, text), of this part.

    Returns
    -------
    Run
        As it is now: :func:`finish` makes the catalogue when all parts are done.

    Raises
    ------
    LockedError
        If a coordinator, or another process with the same part, is at work.
    RunError
        If nothing can be done here.
    """
    folder = RunFolder.at(path)
    folder.make()
    stopped = ""
    reign = acquire_part(folder.epochs, part, parts)
    try:
        folder.stop_file.unlink(missing_ok=True)
        with Ledger.snapshot(folder) as ledger, asking(folder) as asked:
            worker = _Part(folder, ledger, reign, part, parts)
            try:
                worker.run(threads or cores(), asked, progress)
            except Stopped as reason:
                stopped = str(reason)
    finally:
        reign.release()
    return look(folder, stopped)


def finish(path: str | os.PathLike[str], *, progress: Report | None = None) -> Run:
    """Make the catalogue of a run whose parts are done.

    Raises
    ------
    RunError
        If inputs are not done: says which, and what to do.
    LockedError
        If a part or a coordinator is at work.
    """
    folder = RunFolder.at(path)
    plan = Plan.load(folder.path)
    with Ledger.snapshot(folder) as ledger:
        stage = _stage(ledger, len(plan.items[0].regions) if len(plan.items) else 1)
        if stage is None:
            return look(folder)
        over = {item for s, item in ledger.done_counts(REDUCE) if s == stage}
        over |= {failure.unit.item for failure in ledger.failures(final=True)}
        part = _taking_part(plan.items, ledger, stage)
        missing = part.where(~np.isin(part.indices, list(over)))
    if len(missing):
        names = ", ".join(item.name for item in missing[:SHOWN])
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise RunError(
            f"{len(missing)} of {len(plan.items)} inputs are not done ({names}{more}): "
            f"{_cure(folder, missing)}`fmbdask survey resume {folder.path}` does them"
        )
    return coordinate(folder, cluster="threads", workers=1, last=stage, progress=progress)


def _cure(folder: RunFolder, missing: Sequence[Item]) -> str:
    """Which parts to run again, where parts are known."""
    counts = {int(p.name.split(".")[0].rpartition("-")[2]) for p in folder.epochs.glob("part-*-of-*.json")}
    if len(counts) != 1:
        return ""
    parts = counts.pop()
    numbers = sorted({item.index % parts + 1 for item in missing})
    shown = ", ".join(map(str, numbers[:20])) + (", ..." if len(numbers) > 20 else "")
    return f"run parts {shown} of {parts} again, or "


def _stage(ledger: Ledger, stages: int) -> int | None:
    """The first stage whose reduction of the run has not ended; None if all have."""
    done = ledger.done_counts(REDUCE)
    return next((stage for stage in range(stages) if (stage, WHOLE_RUN) not in done), None)


def _taking_part(items: ItemTable, ledger: Ledger, stage: int) -> ItemTable:
    """Items that take part in a stage."""
    usable = items.usable
    if not stage:
        return usable
    done = [item for s, item in ledger.done_counts(REDUCE) if s == stage - 1]
    return usable.where(np.isin(usable.indices, done))


class _Part:
    """One process at work on its part; it knows itself what a chronicle tells the maker of tasks."""

    def __init__(self, folder: RunFolder, ledger: Ledger, reign: Reign, part: int, parts: int) -> None:
        self.folder, self.ledger, self.reign = folder, ledger, reign
        self._plan = Plan.load(folder.path)
        self._stage = _stage(ledger, len(make(self._plan.config).stages))
        items = _taking_part(self._plan.items, ledger, self._stage or 0)
        self._items = items.where(items.indices % parts == part - 1)
        self._name, self._number = f"part-{part:05d}", (part * 1000 + reign.claim) * _NUMBERS
        self._costs = costs_of(self._plan)
        self._maker = Maker(self, self._items.by_index, self._costs)
        self._leftovers = Leftovers(folder)
        self._journal: JournalWriter | None = None

    def part(self, unit: Unit) -> Part | None:
        """Where the result of a unit lies."""
        return self.ledger.part(unit)

    def parts(self, stage: int, item: int) -> dict[Unit, Part]:
        """Where the results of all units of an item in a stage lie."""
        return {e.unit: e.part for e in self.ledger.ended(stage, item) if e.part is not None}

    def run(self, threads: int, asked: Callable[[], str], progress: Report | None) -> None:
        """Do what is to be done."""
        stage = self._stage
        if stage is None:
            return
        config = self._plan.config
        done = self.ledger.done_counts(REDUCE)
        self._schedule = Schedule(
            stage,
            self._items,
            costs=lambda item: self._costs(stage, item),
            done=lambda index: self.ledger.done(stage, index),
            finished=[item for s, item in done if s == stage],
            failures=setbacks(self.ledger.failures()),
            policy=Policy(config.attempts),
            span=config.span_seconds,
        )
        own = set(self._items.indices.tolist())
        regions = sum(n for (s, i), n in self.ledger.done_counts().items() if s == stage and i in own)
        self._pace = Pace(
            sum(n * kind.regions[stage] for kind, n in self._items.counts()), len(self._items), regions
        )
        try:
            with ThreadPoolExecutor(threads) as pool:
                self._loop(pool, threads, asked, progress)
        finally:
            if self._journal is not None:
                self._journal.close()

    def _loop(
        self, pool: ThreadPoolExecutor, threads: int, asked: Callable[[], str], progress: Report | None
    ) -> None:
        """Keep the threads busy; what must be done alone waits until they are not."""
        flights: dict[Future[TaskResult | Refusal], Task] = {}
        alone = False
        while flights or not self._schedule.over:
            reason = asked()
            while not reason and not alone and len(flights) < threads:
                now = time.monotonic()
                assignment = self._schedule.alone(now) if not flights else None
                alone = assignment is not None
                assignment = assignment or self._schedule.next(now, threads)
                if assignment is None:
                    break
                self._number += 1
                task = self._maker(self._number, assignment, 0)
                flights[pool.submit(try_task, task)] = task
            if reason and not flights:
                raise Stopped(reason)
            if not flights:
                time.sleep(TICK)  # something is repeated after a pause
            for future in wait_for(flights, TICK, FIRST_COMPLETED).done:
                task = flights.pop(future)
                alone = False
                self._settle(future.result(), task)
            self._pace.items, self._pace.failed = self._schedule.done_count, self._schedule.failed_count
            if progress is not None:
                progress(self._pace.regions, self._pace.total, self._pace.text())

    def _settle(self, result: TaskResult | Refusal, task: Task) -> None:
        """Take in what became of a task."""
        if isinstance(result, Refusal):
            raise RunError(result.reason)
        self.ledger.apply(result.records)
        self._leftovers.take(result.records)
        ended = [record for record in result.records if record.kind == "ended"]
        for record in result.records:
            if record.kind == "ended":
                self._schedule.ended(record.unit)
            elif record.kind == "failed":
                self._failed(record)
        regions = sum(record.unit.region >= 0 for record in ended)
        self._pace.add(time.monotonic(), sum(record.nbytes for record in ended), regions)
        self._schedule.release(task.units)
        if result.why_left == "superseded":
            self.reign.check()
        elif result.why_left == "space":
            raise Stopped(f"the disk of {self.folder.path} is full: make room")
        elif result.why_left == "walltime":
            raise Stopped("too little of the job's walltime is left: submit this part again")

    def _failed(self, record: Record) -> None:
        """A unit failed: write down what was found damaged, and that it is not tried again."""
        for fields in record.extra.get("damaged", ()):
            unit = Unit(*fields)
            where = self.ledger.part(unit)
            if unit.kind == "reduce" or where is None:
                raise RunError(f"{record.note}: `fmbdask survey resume {self.folder.path}` makes it again")
            self._write(Record("void", unit, epoch=self.reign.epoch, time=time.time(), part=where))
            self._schedule.void([unit])
        setback = Setback(record.cause, record.counted, record.final)
        if self._schedule.failed(record.unit, setback, time.monotonic()).final and not record.final:
            self._write(
                Record(
                    "lost", record.unit, record.generation, self.reign.epoch, time.time(), record.worker,
                    cause=record.cause, final=True, counted=False, note=record.note, log=record.log,
                )
            )  # fmt: skip

    def _write(self, record: Record) -> None:
        """Write a decision into the journal of this part."""
        if self._journal is None:
            path = journal_path(self.folder.journal, self.reign.epoch, self._name)
            self._journal = JournalWriter(path)
        self._journal.write(record)
        self.ledger.apply([record])
