"""The coordinator of a run: a bounded window of tasks at workers, and a decision for whatever comes back.

What was done is in the journals of the workers before it is known here, so that this process may die at any
moment. It commits what it knows twice a second, after a look at who reigns.
"""

from __future__ import annotations

import pickle
import queue
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from distributed import KilledWorker

from ...cluster.protocol import Cluster
from ...errors import ClusterError
from ...store.run.units import WHOLE_RUN, Record, Unit
from ..worker.task import Task, TaskResult, is_full
from .chronicle import Chronicle
from .deaths import Deaths, lost
from .flights import Flight, Refusal, address_of, arrivals, fetch, in_hand, process_of, try_packed
from .leftovers import Leftovers
from .pace import Pace, Report
from .policy import Setback
from .schedule import Assignment, Schedule

#: How often records are committed, workers are looked after, and the disk is looked at [s].
TICK, CARE, SPACE = 0.5, 3.0, 10.0
#: Tasks at workers for each slot.
WINDOW = 2.5
#: Most tasks of one message to the scheduler.
BATCH = 100
#: When the run is stopped, units in hand are given up after this time [s].
GRACE = 10.0
#: A run stops after this time without workers, where no jobs wait for nodes either [s].
PATIENCE = 300.0
#: A run stops after this time in which no task was begun although there are workers [s].
STANDSTILL = 900.0
#: Room that is always kept on the disk, for journals and the ledger [byte].
RESERVE = 16 * 2**20


class Stopped(Exception):
    """The run stops before its end; the message says why and what to do."""


class Coordinator:
    """Gives the units of one schedule after the other to workers.

    Parameters
    ----------
    chronicle : Chronicle
    cluster : Cluster
    make : callable
        (number, assignment, memory of the process) to the task.
    deadline : callable
        Unit to the longest time that it may take [s].
    asked : callable
        Says why the run is to be stopped; nothing if it is not.
    pace : Pace
    progress : callable, optional
        Called with (regions done, regions, text).
    """

    def __init__(
        self,
        chronicle: Chronicle,
        cluster: Cluster,
        *,
        make: Callable[[int, Assignment, int], Task],
        deadline: Callable[[Unit], float],
        asked: Callable[[], str],
        pace: Pace,
        progress: Report | None = None,
    ) -> None:
        self.chronicle, self.cluster, self.pace = chronicle, cluster, pace
        self._make, self._deadline, self._asked, self._progress = make, deadline, asked, progress
        self._folder = chronicle.folder
        self._leftovers = Leftovers(chronicle.folder)
        self._flights: dict[int, Flight] = {}
        self._back: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._number = 0
        self._slots = 0
        self._refusals: Counter[str] = Counter()
        self._due = dict.fromkeys(("tick", "watch", "care", "deaths", "space"), 0.0)
        self._workers_seen = self._moved = time.monotonic()
        self._deaths = Deaths(self._workers)
        #: (stage, item) whose products were found damaged
        self._damaged: set[tuple[int, int]] = set()

    def work(self, schedule: Schedule, resources: Mapping[str, float]) -> bool:
        """Have everything done that a schedule knows.

        Parameters
        ----------
        schedule : Schedule
        resources : mapping
            What its tasks ask of a worker beside a thread.

        Returns
        -------
        bool
            False if products of earlier units were found damaged: these begin anew, and so must the caller.

        Raises
        ------
        Stopped
            If the run stops before.
        SupersededError
            If another coordinator has taken over: nothing more was touched.
        """
        self._schedule, self._resources = schedule, resources
        self._due = dict.fromkeys(self._due, 0.0)
        self._workers_seen = self._moved = time.monotonic()
        try:
            self._look_after()
            while self._flights or self._deaths.undecided or not (schedule.over or self._damaged):
                self._fill()
                self._settle_all(TICK)
                self._look_after()
            self.chronicle.commit()
        except (sqlite3.OperationalError, OSError) as error:
            if isinstance(error, OSError) and not is_full(error):
                raise
            raise Stopped(f"{self._folder.path} cannot be written ({error}): make room") from error
        damaged, self._damaged = self._damaged, set()
        return not damaged

    def end(self) -> None:
        """Let the units in hand end, for a while, and give up the others."""
        until = time.monotonic() + GRACE
        with suppress(OSError):  # a full disk: workers find out by themselves
            self._folder.stop_file.touch()
        with suppress(Stopped, sqlite3.OperationalError, OSError):
            while self._flights and time.monotonic() < until:
                self._settle_all(TICK)
                self.chronicle.commit()
        with suppress(Exception):  # the cluster ends anyway
            self.cluster.client.cancel([flight.future for flight in self._flights.values()], force=True)

    def _fill(self) -> None:
        """Give out tasks, up to the window."""
        now = time.monotonic()
        slots = max(self._slots, 1)
        alone = sum(flight.alone for flight in self._flights.values())
        room = int(WINDOW * slots + 1) - (len(self._flights) - alone)
        batch: list[Assignment] = []
        for _ in range(alone, slots + 1):  # they may wait long for a worker with more memory
            assignment = None if self._damaged else self._schedule.alone(now)
            if assignment is None:
                break
            batch.append(assignment)
        wanted = max(slots, self.cluster.wanted())
        for _ in range(room):
            assignment = None if self._damaged else self._schedule.next(now, wanted)
            if assignment is None:
                break
            batch.append(assignment)
            if len(batch) >= BATCH:  # workers wait for the first ones
                self._submit(batch, now)
                batch = []
        self._submit(batch, now)

    def _submit(self, assignments: Sequence[Assignment], now: float) -> None:
        """Give tasks to the scheduler: those alike together, for each message costs it as much as a task."""
        alike: dict[tuple[tuple[tuple[str, float], ...], int], list[tuple[Task, Assignment]]] = {}
        for assignment in assignments:
            reducing = any(unit.kind == "reduce" for unit in assignment.units)
            large = assignment.large and self.cluster.larger()
            self._number += 1
            task = self._make(self._number, assignment, self.cluster.allowance(large))
            resources = self.cluster.resources(self._resources, assignment.alone, large)
            key = tuple(sorted(resources.items())), int(reducing)
            alike.setdefault(key, []).append((task, assignment))
        for (wanted, priority), group in alike.items():
            futures = self.cluster.client.map(
                try_packed,
                [pickle.dumps(task, protocol=5) for task, _ in group],
                key=[f"fmbdask-{task.epoch}-{task.number}" for task, _ in group],
                pure=False,
                resources=dict(wanted),
                priority=priority,
            )
            for (task, assignment), future in zip(group, futures, strict=True):
                patience = max(self._deadline(unit) for unit in assignment.units)
                self._flights[task.number] = Flight(task, future, patience, now, assignment.alone)
            numbers = [task.number for task, _ in group]
            told = dict(zip(numbers, futures, strict=True))
            self.cluster.client.loop.add_callback(arrivals, told, self._back.put)

    def _settle_all(self, timeout: float) -> None:
        """Wait for a task to come back, and take in all that did."""
        try:
            numbers = [self._back.get(timeout=timeout)]
            while not self._back.empty():
                numbers.append(self._back.get_nowait())
        except queue.Empty:
            numbers = []
        over = {number: self._flights[number] for number in numbers if number in self._flights}
        results = fetch(self.cluster.client, over, GRACE)
        for number, flight in over.items():
            if self._flights.pop(number, None) is not None:
                self._settle(flight, results.get(number))
                self._schedule.release(set(flight.task.units) - self._deaths.undecided)

    def _settle(self, flight: Flight, result: TaskResult | Refusal | None) -> None:
        """Take in what became of a task."""
        error: BaseException | None = None
        try:
            if result is None:
                result = pickle.loads(flight.future.result(timeout=GRACE))
        except Exception as problem:  # its worker died, or was lost with the result; its scheduler is gone
            error = problem
        self._moved = time.monotonic()
        if isinstance(result, TaskResult) and result.journal:
            self._refusals.clear()
            self.chronicle.index(result.records, self._folder.path / result.journal, result.nbytes)
            self._take(result.records)
        else:
            records = self.chronicle.index_journal(flight.journal)
            self._take(records)
            if isinstance(error, KilledWorker):
                others = (other.look() for other in self._flights.values())
                suspect = self._deaths.note(records, error, others, time.monotonic())
                if suspect is not None:
                    self._judge(suspect, known=False)
        if isinstance(result, Refusal):
            self._refused(result)
        elif result is not None:
            self._left(flight, result.why_left)

    def _left(self, flight: Flight, why: str) -> None:
        """A worker did not do all units of a task."""
        if why == "superseded":
            self.chronicle.reign.check()
        elif why == "space":
            raise Stopped(f"the disk of {self._folder.path} is full: make room")
        elif why == "walltime":
            for holders in self.cluster.client.who_has([flight.future]).values():
                for address in holders:
                    self.cluster.retire(address)

    def _refused(self, refusal: Refusal) -> None:
        """A worker could not begin a task, through no fault of its units."""
        self._refusals[refusal.worker] += 1
        if self._refusals[refusal.worker] == 2:
            self.chronicle.event(f"{refusal.worker} does no tasks: {refusal.reason}")
            self.cluster.retire(address_of(refusal.worker))
        if self._refusals.total() > 2 * max(self._slots, 1) + 2:
            raise Stopped(refusal.reason)

    def _take(self, records: Sequence[Record]) -> None:
        """Learn from the records of a task what ended and what failed."""
        nbytes = regions = 0
        for record in records:
            if record.kind == "ended":
                self._schedule.ended(record.unit)
                nbytes += record.nbytes
                regions += record.unit.region >= 0
            elif record.kind == "failed":
                for fields in record.extra.get("damaged", ()):
                    self._void(Unit(*fields), record.note)
                if record.cause == "space":
                    raise Stopped(f"a disk is full ({record.note}): make room")
                self._judge(record, known=True)
        self.pace.add(time.monotonic(), nbytes, regions)
        self._leftovers.take(records)

    def _judge(self, record: Record, *, known: bool) -> None:
        """Decide what becomes of a unit that failed; write it down where no journal (known) says so."""
        setback = Setback(record.cause, record.counted, record.final)
        final = self._schedule.failed(record.unit, setback, time.monotonic()).final
        if not known or (final and not record.final):
            counted = record.counted and not known
            self.chronicle.lost(record, final=final, counted=counted)

    def _void(self, unit: Unit, note: str) -> None:
        """A result was found damaged: it is made again, with all of its item where it is a product."""
        if unit.kind == "reduce":
            for item in {unit.item, WHOLE_RUN}:
                if (unit.stage, item) not in self._damaged:
                    self.chronicle.anew(unit.stage, item, note)
                    self._damaged.add((unit.stage, item))
            return
        part = self.chronicle.part(unit)
        if part is not None:
            self.chronicle.void(unit, part, note)
        self._schedule.void([unit])

    def _watch(self, now: float) -> None:
        """End worker processes that hang."""
        for number, flight in list(self._flights.items()):
            if number not in self._flights or not flight.stands_still(now):
                continue
            records = flight.look()
            unit = in_hand(records)
            if unit is not None and now - flight.since > self._deadline(unit):
                self._end_process(flight, process_of(records), unit)

    def _end_process(self, culprit: Flight, process: str, unit: Unit) -> None:
        """End a worker process: what it had in hand beside the culprit is done again without a count."""
        note = f"did not end within {self._deadline(unit):.0f} s"
        item = culprit.task.items.get(unit.item)
        name = item.name if item is not None and item.name else "the catalogue"
        self.chronicle.event(f"the worker process {process} was ended: {unit.kind} of {name} {note}")
        theirs = {
            number: flight
            for number, flight in self._flights.items()
            if flight is culprit or process_of(flight.look()) == process
        }
        self._deaths.intended(process)
        self.cluster.client.cancel([flight.future for flight in theirs.values()], force=True)
        if address_of(process):
            self.cluster.restart(address_of(process))
        for number, flight in theirs.items():
            del self._flights[number]
            records = self.chronicle.index_journal(flight.journal)
            self._take(records)
            if flight is culprit and (hanging := in_hand(records)) is not None:
                self._judge(lost(records, hanging, "deadline", note, counted=True), known=False)
            self._schedule.release(flight.task.units)

    def _look_after(self) -> None:
        """Commit, tell, look after workers and the disk: each when it is due."""
        now = time.monotonic()
        if self._is_due("tick", now, TICK):
            self.chronicle.commit()
            self._tell()
            if reason := self._asked():
                raise Stopped(reason)
        patience = min((flight.patience for flight in self._flights.values()), default=60.0)
        if self._is_due("watch", now, min(CARE, patience / 4)):
            self._watch(now)
        if self._is_due("care", now, CARE):
            self._care(now)
        if self._is_due("deaths", now, 1.0):
            for record in self._deaths.decide(now):
                self._judge(record, known=False)
        if self._is_due("space", now, SPACE):
            self._check_space()

    def _is_due(self, what: str, now: float, interval: float) -> bool:
        if now < self._due[what]:
            return False
        self._due[what] = now + interval
        return True

    def _workers(self) -> dict[str, str]:
        """Address of each worker by its name; none where the scheduler does not answer."""
        try:
            workers = self.cluster.client.scheduler_info(n_workers=-1)["workers"]
        except OSError:
            return {}
        return {str(worker["name"]): address for address, worker in workers.items()}

    def _tell(self) -> None:
        if self._schedule.of_items:
            self.pace.items = self._schedule.done_count
            self.pace.failed = self._schedule.failed_count + self.pace.unusable
        if self._progress is not None:
            self._progress(self.pace.regions, self.pace.total, self.pace.text())

    def _care(self, now: float) -> None:
        """Have lost workers replaced, and stop where there is nothing to wait for."""
        try:
            for sentence in self.cluster.top_up():
                self.chronicle.event(sentence)
            self._slots = self.cluster.slots(self._resources)
        except ClusterError as error:
            raise Stopped(str(error)) from error
        except OSError:  # the scheduler is gone, or too busy to answer
            self._slots = 0
        if self._slots or self.cluster.jobs():
            self._workers_seen = now
        elif now - self._workers_seen > PATIENCE:
            raise Stopped(f"there were no workers for {PATIENCE / 60:.0f} minutes: see {self._folder.logs}")
        if not self._slots or any(flight.size >= 0 for flight in self._flights.values()):
            self._moved = now
        elif now - self._moved > STANDSTILL:
            raise Stopped(f"no task was begun for {STANDSTILL / 60:.0f} minutes: see {self._folder.logs}")

    def _check_space(self) -> None:
        """Stop before the disk is full: with what the items in work will write there must be some left."""
        needed = RESERVE + 2 * sum(item.nbytes_out for item in self._schedule.open_items)
        free = shutil.disk_usage(self._folder.path).free
        if free < needed:
            raise Stopped(
                f"the disk of {self._folder.path} has {free / 1e6:.0f} MB left, the inputs in work need "
                f"{needed / 1e6:.0f} MB: make room"
            )
