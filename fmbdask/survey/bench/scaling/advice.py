"""What to choose, from what was measured: length of tasks, and what lies beyond one scheduler."""

from __future__ import annotations

import pandas as pd

from .table import medians

#: Scheduling is said to keep up from this efficiency on; below the other one its rate is its limit.
GOOD, SATURATED = 0.95, 0.7


def limits(rows: pd.DataFrame) -> pd.Series[float]:
    """Tasks in a second that the scheduler managed where it was the limit; empty where it never was.

    It is where less than 70 % of the threads' time was work although the tasks only sleep.
    """
    asleep = rows[(rows["task"] == "sleep") & (rows["scheduling"] < SATURATED)]
    return asleep["scheduling"] * asleep["slots"] / asleep["task_mean"]


def shortest(rate: float, slots: int) -> float:
    """Tasks at least so long keep so many threads busy to 95 % at so many tasks a second [s].

    A scheduler that is asked for the share u of its rate answers the later the more it is asked; with u
    below one half, the wait is short of the time of one task at the scheduler.
    """
    return 2 * slots / rate


def advice(rows: pd.DataFrame) -> str:
    """Say in sentences what the rows mean for the settings of a survey."""
    rates = limits(rows)
    lines = []
    table = medians(rows[rows["task"] == "sleep"])
    good = table[table["scheduling"] >= GOOD]
    if len(rates):
        rate = float(rates.median())
        own = float((rows["cpu_coordinator"] / rows["tasks"]).median())
        cores = int(rows["worker_cores"].max())
        lines.append(
            f"One scheduler and its workers together managed {rates.min():.0f} to {rates.max():.0f} tasks a "
            f"second on {cores} cores. The scheduler and the coordinator alone took {1e3 * own:.2g} ms of "
            f"CPU time a task: with a core of their own they are at their end at {1 / own:.0f} a second."
        )
        lines.append(
            f"Asked for half of {rate:.0f} a second, one scheduler keeps threads busy: tasks (span_seconds) "
            "of at least"
        )
        for slots in sorted({100, 1000, 3000, 10_000, *map(int, table["slots"])}):
            if slots >= 100:
                lines.append(f"  {shortest(rate, slots):6.1f} s with {slots} threads")
        lines.append(
            "Where tasks cannot be so long, several schedulers share the work: as many runs as this takes, "
            "each with its own part of the inputs and its own workers; or a job array (`fmbdask survey work "
            "RUN --part I/N`, then `survey finish RUN`), which has none."
        )
    elif len(good) and len(good) == len(table):
        best = good.assign(rate=good["slots"] / good["task_seconds"]).sort_values("rate").iloc[-1]
        lines.append(
            f"No saturation was seen: {int(best['slots'])} threads with tasks of {best['task_seconds']:g} s "
            f"were busy to {best['scheduling']:.1%}, which takes {best['rate']:.3g} tasks a second."
        )
    return "\n".join(lines)
