"""What to choose, from what was measured: length of tasks, and what lies beyond one scheduler."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .table import medians

#: Scheduling is said to keep up from this efficiency on; below the other one its rate is its limit.
GOOD, SATURATED = 0.95, 0.7


def limit(rows: pd.DataFrame) -> float:
    """Tasks in a second that the scheduler managed where it was the limit; NaN where it never was.

    It is where less than 70 % of the threads' time was work and the machine was not to blame: tasks that
    sleep.
    """
    asleep = rows[(rows["task"] == "sleep") & (rows["scheduling"] < SATURATED)]
    if not len(asleep):
        return float("nan")
    return float((asleep["scheduling"] * asleep["slots"] / asleep["task_mean"]).median())


def shortest(rate: float, slots: int) -> float:
    """Tasks at least so long keep so many threads busy to 95 % at so many tasks a second [s].

    A scheduler that is asked for the share u of its rate answers the later the more it is asked; with u
    below one half, the wait is short of the time of one task at the scheduler.
    """
    return 2 * slots / rate


def advice(rows: pd.DataFrame) -> str:
    """Say in sentences what the rows mean for the settings of a survey."""
    rate = limit(rows)
    lines = []
    table = medians(rows[rows["task"] == "sleep"])
    good = table[table["scheduling"] >= GOOD]
    if np.isfinite(rate):
        lines.append(
            f"One scheduler managed {rate:.0f} tasks a second here. Asked for half of that, it keeps threads "
            "busy: for that a task should take at least"
        )
        for slots in sorted({100, 1000, 3000, 10_000, *map(int, table["slots"])}):
            if slots >= 100:
                lines.append(f"  {shortest(rate, slots):6.1f} s with {slots} threads (span_seconds)")
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
