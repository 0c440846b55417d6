"""How a run goes: counted from its journals, at any moment, from any machine that sees its folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...store.run.epochs import current_epoch, owner_of
from ...store.run.folder import RunFolder
from ...store.run.items import ItemTable, read_items
from ...store.run.ledger import Event, Ledger
from ...store.run.units import REDUCE, WHOLE_RUN

#: The rate of a run is that of its last minutes [s]: it changes with the number of workers.
RECENT = 300.0


@dataclass(frozen=True)
class Count:
    """So many of so many."""

    done: int
    total: int

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.done / self.total if self.total else 1.0


@dataclass(frozen=True)
class Status:
    """How a run goes.

    Attributes
    ----------
    path, name : str
    state : str
        ``planned``, ``running``, ``stopped`` (to be resumed), ``complete``, or ``complete with failures``.
    coordinator : dict or None
        Host, process and Slurm job of the coordinator at work.
    items, regions : Count
        Inputs that were reduced, and regions that ended.
    stages : dict of Count
        Regions of each stage.
    failed, retried : int
        Inputs that failed for good, and failures of units that were tried again.
    nbytes : int
        Bytes of input that were read.
    rate : float
        Bytes a second over the last minutes, NaN before there is a rate.
    seconds : float
        Time of all units together [thread s].
    remaining : float
        Projected time until the end at the recent rate [s], NaN where unknown.
    updated : float
        When the last unit ended, seconds since 1970; 0 before the first.
    events : list of dict
        The last things that happened to the run.
    """

    path: str
    name: str
    state: str
    coordinator: Mapping[str, Any] | None
    items: Count
    regions: Count
    stages: Mapping[str, Count]
    failed: int
    retried: int
    nbytes: int
    rate: float
    seconds: float
    remaining: float
    updated: float
    events: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """The status as JSON values: NaN becomes null."""
        fields = asdict(self)
        return {k: None if isinstance(v, float) and v != v else v for k, v in fields.items()}


def status(path: str | os.PathLike[str]) -> Status:
    """Look how a run goes; it is not disturbed.

    Parameters
    ----------
    path : path
        Folder of the run.

    Returns
    -------
    Status

    Raises
    ------
    RunError
        If there is no run.
    """
    folder = RunFolder.at(path)
    about = folder.read_json(folder.run_file)
    items = read_items(folder.items_file)
    with Ledger.snapshot(folder) as ledger:
        totals = ledger.totals(since=time.time() - RECENT)
        events = ledger.events()[-10:]
        failures = ledger.failures()
        names = about.get("stages") or [str(i) for i in range(len(items[0].regions) if len(items) else 1)]
        last = len(names) - 1
        finished = REDUCE in ledger.done(last, WHOLE_RUN)
    failed = {f.unit.item for f in failures if f.final} | items.unusable
    done = totals.reduced.get(last, 0)
    kinds = items.counts(items.sound)
    stages = {
        name: Count(totals.regions.get(s, 0), sum(n * kind.regions[s] for kind, n in kinds))
        for s, name in enumerate(names)
    }
    regions = Count(sum(c.done for c in stages.values()), sum(c.total for c in stages.values()))
    owner = owner_of(folder.epochs)
    rate = totals.recent_bytes / totals.recent_span if totals.recent_span > 0 else float("nan")
    return Status(
        path=str(folder.path),
        name=str(about.get("name", folder.path.name)),
        state=_state(current_epoch(folder.epochs), owner is not None, finished, len(failed)),
        coordinator=owner,
        items=Count(done, len(items)),
        regions=regions,
        stages=stages,
        failed=len(failed),
        retried=sum(not f.final for f in failures),
        nbytes=totals.nbytes,
        rate=rate,
        seconds=totals.seconds,
        remaining=_remaining(items, failed, totals.nbytes, rate) if owner and not finished else float("nan"),
        updated=totals.last,
        events=[_event(e) for e in events],
    )


def _state(epoch: int, alive: bool, finished: bool, failed: int) -> str:
    """Name the state of a run."""
    if alive:
        return "running"
    if finished:
        return "complete with failures" if failed else "complete"
    return "stopped" if epoch else "planned"


def _remaining(items: ItemTable, failed: set[int], nbytes: int, rate: float) -> float:
    """Time until all bytes are read at this rate [s]."""
    kinds = items.counts(~np.isin(items.indices, list(failed)))
    wanted = sum(n * kind.nbytes for kind, n in kinds)
    return max(wanted - nbytes, 0) / rate if rate > 0 else float("nan")


def _event(event: Event) -> dict[str, Any]:
    return {"epoch": event.epoch, "time": event.time, "note": event.note, **event.extra}


def describe(found: Status) -> str:
    """A status as lines for a terminal."""
    lines = [
        f"{found.name}  {found.state}  {found.path}",
        f"  inputs    {found.items.done}/{found.items.total} done, {found.failed} failed",
        f"  regions   {found.regions.done}/{found.regions.total} ({100 * found.regions.share:.1f} %)",
    ]
    if len(found.stages) > 1:
        lines += [f"    {name:<10}{c.done}/{c.total}" for name, c in found.stages.items()]
    rate = "" if found.rate != found.rate else f", {volume(found.rate)}/s in the last minutes"
    lines.append(f"  read      {volume(found.nbytes)}{rate}; {duration(found.seconds)} of work")
    if found.remaining == found.remaining:
        lines.append(f"  remaining {duration(found.remaining)} at this rate")
    if found.coordinator:
        owner = found.coordinator
        job = f", Slurm job {owner['job']}" if owner.get("job") else ""
        lines.append(f"  coordinator: process {owner['pid']} of {owner['user']} on {owner['host']}{job}")
    if found.retried:
        lines.append(f"  {found.retried} failures of regions that are tried again")
    lines += [f"  {clock(event['time'])} {event['note']}" for event in found.events]
    if found.failed:
        lines.append(f"  `fmbdask survey failures {found.path}` lists what failed and why")
    if found.state == "stopped":
        lines.append(f"  `fmbdask survey resume {found.path}` goes on")
    if found.state == "planned":
        lines.append("  `fmbdask survey run` with its configuration begins it")
    return "\n".join(lines)


def volume(nbytes: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(nbytes) < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} PB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


def clock(seconds: float) -> str:
    """A time of the day and the date, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
