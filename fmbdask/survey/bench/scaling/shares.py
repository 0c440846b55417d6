"""Where the time of a run's threads went, from its records: work, gaps between work, beginning and end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.journal import read_journal
from fmbdask.store.run.ledger import Ledger
from fmbdask.survey.reporting.report import wall_time


@dataclass(frozen=True)
class Shares:
    """Thread time of a run of ``slots`` threads.

    Attributes
    ----------
    wall : float
        From the beginning to the end of the run [s].
    work : float
        Wall time that the units took themselves, all together [s].
    steady : float
        Length of the steady part [s]: see :func:`shares`; 0 where there is none.
    efficiency : float
        Share of the threads' time in the steady part that was work; NaN where there is none.
    total : float
        Share of the threads' time in the whole run that was work: ramp-up, waves and end included.
    most : int
        Most units that were in work at once.
    """

    wall: float
    work: float
    steady: float
    efficiency: float
    total: float
    most: int


def shares(
    begin: NDArray[np.float64],
    end: NDArray[np.float64],
    begun: NDArray[np.float64],
    slots: int,
    wall: float,
) -> Shares:
    """Add up where the time of threads went.

    The steady part begins when as many tasks were begun as there are threads: before, some had nothing yet.
    It ends when the last task was begun: after, some have nothing left.

    Parameters
    ----------
    begin, end : ndarray of float64, (N,)
        When each unit of work began and ended [s].
    begun : ndarray of float64, (M,)
        When each task began [s].
    slots : int
        Threads that there were.
    wall : float
        Length of the run [s].

    Examples
    --------
    Two threads do two tasks of 4 s each, with a pause of 1 s between them:

    >>> times = np.array([0.0, 0.0, 5.0, 5.0])
    >>> found = shares(times, times + 4, times, slots=2, wall=10.0)
    >>> found.steady, found.efficiency, found.total
    (5.0, 0.8, 0.8)
    """
    if not len(begin):
        return Shares(wall, 0.0, 0.0, float("nan"), 0.0, 0)
    times = np.concatenate([end, begin])  # at equal times ends come first
    steps = np.concatenate([np.full(len(end), -1), np.full(len(begin), 1)])
    most = int(np.cumsum(steps[np.argsort(times, kind="stable")]).max())
    first = float(np.sort(begun)[slots - 1]) if len(begun) >= slots else float("inf")
    last = float(begun.max())
    steady = max(0.0, last - first)
    inside = float(np.clip(np.minimum(end, last) - np.maximum(begin, first), 0.0, None).sum())
    work = float((end - begin).sum())
    return Shares(
        wall,
        work,
        steady,
        inside / (slots * steady) if steady else float("nan"),
        work / (slots * wall),
        most,
    )


def of_run(run: RunFolder, useful: str, slots: int) -> tuple[Shares, pd.DataFrame, float]:
    """Shares of a run, the units that are its work, and the coordinator's CPU time [s].

    Parameters
    ----------
    run : RunFolder
        Of a run that has ended.
    useful : str
        ``map`` or ``all``, see :class:`~.tasks.Survey`.
    slots : int
    """
    with Ledger.snapshot(run) as ledger:
        timings, events = ledger.timings(), ledger.events()
    units = timings[timings["item"] >= 0]
    if useful == "map":  # a task is one of them
        units = units[units["region"] >= 0]
        begun = units["begin"].to_numpy(float)
    else:
        firsts = (read_journal(path)[0][:1] for path in run.journal.glob("*/task-*.jsonl"))
        begun = np.array([r.time for records in firsts for r in records if r.unit.item >= 0])
    begin, end = units["begin"].to_numpy(float), units["end"].to_numpy(float)
    found = shares(begin, end, begun, slots, wall_time(timings, events))
    return found, units, float(events[-1].extra["cpu"])
