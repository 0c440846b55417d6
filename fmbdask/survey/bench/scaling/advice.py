"""What to choose, from what was measured: length of tasks, and what lies beyond one scheduler."""

from __future__ import annotations

import pandas as pd

#: Efficiency that is aimed at; below the other one the rate of the scheduler is its limit.
GOOD, SATURATED = 0.95, 0.7


def limits(rows: pd.DataFrame) -> pd.Series[float]:
    """Tasks in a second that the scheduler managed where it was the limit; empty where it never was.

    It is where many threads were asked to do nothing but sleep and were at work for less than 70 % of their
    time.
    """
    asleep = rows[(rows["mode"] == "saturation") & (rows["scheduling"] < SATURATED)]
    return asleep["scheduling"] * asleep["slots"] / asleep["task_mean"]


def shortest(rate: float, slots: int) -> float:
    """Tasks at least so long ask a scheduler of this rate for half of what it can do [s].

    Threads were busy to 94 to 99 % there, and to less soon after: docs/scaling.md has the measurements.
    """
    return 2 * slots / rate


def advice(rows: pd.DataFrame) -> str:
    """Say in sentences what the rows mean for the settings of a survey."""
    if (rows["mode"] == "saturation").all():
        return "\n".join(_of_saturation(rows))
    asleep = rows[(rows["task"] == "sleep") & (rows["overhead"] > 0)]
    if not len(asleep):
        return ""
    gap = float(asleep["overhead"].median())
    return (
        f"A task costs its thread {1e3 * gap:.2g} ms beside its work here: tasks (span_seconds) of at least "
        f"{gap * GOOD / (1 - GOOD):.2g} s keep threads busy to {GOOD:.0%}."
    )


def _of_saturation(rows: pd.DataFrame) -> list[str]:
    """How far one scheduler goes, and what lies beyond."""
    rates = limits(rows)
    if not len(rates):
        best = rows.assign(rate=rows["slots"] / rows["task_seconds"]).sort_values("rate").iloc[-1]
        return [
            f"No saturation was seen: {int(best['slots'])} threads with tasks of {best['task_seconds']:g} s "
            f"were busy to {best['scheduling']:.1%}, which takes {best['rate']:.3g} tasks a second."
        ]
    rate = float(rates.median())
    own = float((rows["cpu_coordinator"] / rows["tasks"]).median())
    cores = int(rows["worker_cores"].max())
    lines = [
        f"One scheduler and its workers together managed {rates.min():.0f} to {rates.max():.0f} tasks a "
        f"second on {cores} cores. The scheduler and the coordinator alone took {1e3 * own:.2g} ms of CPU "
        f"time a task: with a core of their own they are at their end at {1 / own:.0f} a second.",
        f"Asked for half of {rate:.0f} a second, one scheduler kept threads busy: tasks (span_seconds) of "
        "at least",
    ]
    for slots in sorted({100, 1000, 10_000, *map(int, rows["slots"])}):
        if slots >= 100:
            lines.append(f"  {shortest(rate, slots):6.1f} s with {slots} threads")
    return [
        *lines,
        "Where tasks cannot be so long, several schedulers share the work: as many runs as this takes, "
        "each with its own part of the inputs and its own workers; or a job array (`fmbdask survey work "
        "RUN --part I/N`, then `survey finish RUN`), which has none.",
    ]
