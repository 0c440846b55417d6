"""One process at work on a run as its coordinator: it reigns, starts workers, does the stages, and tells."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType

from ...cluster.config import ClusterConfig, read_cluster
from ...cluster.opening import open_cluster
from ...cluster.protocol import Cluster
from ...store.run.epochs import acquire
from ...store.run.folder import RunFolder
from ...store.run.items import Item
from ..pipelines import make
from ..planning.calibrate import kind_of
from ..planning.plan import Plan
from ..planning.project import slots_of
from .chronicle import Chronicle
from .coordinator import Stopped
from .outcome import Run, look
from .pace import Report
from .schedule import Costs
from .stages import Stages

Spec = str | os.PathLike[str] | ClusterConfig
#: No unit is expected to take less [s]: nothing is known of inputs that could not be measured.
LEAST = 1e-3


def nothing(chronicle: Chronicle) -> None:
    """Decide nothing before the work."""


def work(
    folder: RunFolder,
    decide: Callable[[Chronicle], None] = nothing,
    *,
    cluster: Spec | Cluster | None = None,
    workers: int | None = None,
    last: int | None = None,
    report: bool = True,
    progress: Report | None = None,
) -> Run:
    """Do all that is to be done in a run, as its only coordinator.

    Parameters
    ----------
    folder : RunFolder
    decide : callable
        Called with the chronicle before the work: writes down what begins anew.
    cluster : str, path, ClusterConfig or Cluster, optional
        Where it runs; that of the plan by default. Workers that were opened by the caller stay open.
    workers : int, optional
        Worker processes; those of the cluster by default.
    last : int, optional
        The last stage that is done.
    report : bool
        Whether the report is written at the end.
    progress : callable, optional
        Called with (regions done, regions, text).

    Raises
    ------
    LockedError
        If another coordinator is at work.
    SupersededError
        If another coordinator took over.
    ClusterError
        If there can be no workers.
    """
    with reigning(folder) as chronicle, asking(folder) as asked:
        decide(chronicle)
        chronicle.commit()
        plan = Plan.load(folder.path)
        pipeline = make(plan.config)
        spec = cluster if cluster is not None else plan.cluster
        opened: Cluster | nullcontext[Cluster]
        if isinstance(spec, str | os.PathLike | ClusterConfig):
            site = read_cluster(spec if isinstance(spec, ClusterConfig) else os.fspath(spec))
            slots = slots_of(site, workers)
            opened = open_cluster(
                site,
                slots=slots if workers else None,
                memory=plan.config.memory or plan.projected.allowance,
                log_folder=folder.logs,
                resources=[stage.resources for stage in pipeline.stages],
            )
        else:
            slots, opened = spec.wanted(), nullcontext(spec)
        with opened as there:
            cpu = time.process_time()
            began = f"{slots} threads ({there.name})"
            if dashboard := there.dashboard():
                began += f", dashboard {dashboard}"
            if progress is not None:
                progress(0, 1, began)
            chronicle.event(f"began with {began}", {"event": "began", "slots": slots})
            stages = Stages(
                chronicle,
                there,
                pipeline,
                plan.items,
                plan.config,
                costs=costs_of(plan),
                asked=asked,
                progress=progress,
            )
            stopped = ""
            try:
                stages.run(last)
            except Stopped as reason:
                stopped = str(reason)
            note, kind = (f"stopped: {stopped}", "stopped") if stopped else ("ended", "ended")
            chronicle.event(note, {"event": kind, "cpu": time.process_time() - cpu})
            with suppress(OSError, sqlite3.OperationalError):  # where the disk is full
                chronicle.commit()
    tell(folder, report=report and not stopped)
    return look(folder, stopped)


def tell(folder: RunFolder, *, report: bool) -> None:
    """Write what a run leaves to read: the table of failures, and the report."""
    from ..reporting.failures import write_failures
    from ..reporting.report import write_report

    with suppress(OSError):  # a full disk: both can be written at any time
        write_failures(folder.path)
        if report:
            write_report(folder.path)


@contextmanager
def reigning(folder: RunFolder) -> Iterator[Chronicle]:
    """Be the coordinator of a run inside this block; what was decided in it is committed at its end."""
    folder.make()
    reign = acquire(folder.epochs)
    try:
        folder.stop_file.unlink(missing_ok=True)
        folder.sweep()
        with Chronicle(folder, reign) as chronicle:
            yield chronicle
    finally:
        reign.release()


@contextmanager
def asking(folder: RunFolder) -> Iterator[Callable[[], str]]:
    """Find out whether somebody wants the run to stop: the stop file, Ctrl-C, or a signal to end."""
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if signals and number == signal.SIGINT:  # once more: at once
            raise KeyboardInterrupt
        signals.append(number)

    def asked() -> str:
        if signals:
            return f"asked to by {signal.Signals(signals[0]).name}"
        return "asked to by `fmbdask survey stop`" if folder.stop_file.exists() else ""

    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def costs_of(plan: Plan) -> Callable[[int, Item], Costs]:
    """Expected time of the units of items, as they were measured."""
    known: dict[tuple[object, ...], Costs] = {}

    def costs(stage: int, item: Item) -> Costs:
        key = stage, kind_of(item), item.nbytes, item.shape, item.regions
        if key not in known:
            found = plan.calibration.costs(stage, item)
            known[key] = Costs(*(max(seconds, LEAST) for seconds in found))
        return known[key]

    return costs
