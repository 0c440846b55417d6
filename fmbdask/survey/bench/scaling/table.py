"""Rows of the benchmark: their columns, the file that they are appended to, and the tables for people."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fmbdask.errors import InputError

from .law import Law, fit

#: Columns of the file, in order. Times in s, memory in bytes, rates per s.
COLUMNS = (
    "host", "cpu", "cores", "python", "dask", "distributed", "numpy", "zarr", "fmbdask", "time",
    "cluster", "worker_cores", "mode", "task", "task_seconds", "workers", "threads", "slots", "inputs",
    "regions", "tasks", "repeat", "start", "wall", "throughput", "bytes_per_second", "work", "task_mean",
    "region_median", "steady", "scheduling", "scheduling_total", "most_busy", "overhead", "cpu_units",
    "cpu_workers", "cpu_coordinator", "cpu_others", "peak_worker", "slowdown", "efficiency",
)  # fmt: skip
#: Other programs are mentioned that took more than this share of the cores.
OTHERS = 0.1
#: What tells one measurement from another; rows that agree in these are repeats.
SERIES = ("cluster", "mode", "task", "task_seconds")


def append(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Append rows to a file, which is begun where it is not there.

    Raises
    ------
    InputError
        If the file has other columns.
    """
    check(path)
    begins = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if begins:
            writer.writeheader()
        writer.writerows(rows)


def check(path: Path) -> None:
    """Refuse a file that rows cannot be appended to.

    Raises
    ------
    InputError
        If it has other columns.
    """
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        there = next(csv.reader(file), [])
    if tuple(there) != COLUMNS:
        other = sorted(set(there) ^ set(COLUMNS)) or ["their order"]
        raise InputError(
            f"{path} has other columns than this version writes ({', '.join(other[:5])}): "
            "name another folder with -o, or move the file away"
        )


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """One line a measurement: medians of the repeats, and the spread of their wall time."""
    keys = [*SERIES, "slots"]
    groups = rows.groupby(keys, sort=False, dropna=False)
    numbers = [c for c in rows.select_dtypes("number") if c not in (*keys, "repeat")]
    found = groups[numbers].median()
    found["repeats"] = groups.size()
    found["spread"] = (groups["wall"].max() - groups["wall"].min()) / groups["wall"].median()
    return found.reset_index()


def laws(rows: pd.DataFrame) -> dict[tuple[Any, ...], Law]:
    """The law of every series that has enough numbers of workers."""
    found = {}
    for key, group in rows.groupby(list(SERIES), sort=False):
        law = fit(group["slots"].tolist(), group["throughput"].tolist())
        if law is not None:
            found[tuple(key)] = law
    return found


def where_time_went(line: Mapping[str, Any] | pd.Series, region: float) -> dict[str, float]:
    """Shares of the time of all threads: what one worker's pace would have taken, and what was lost to what.

    Parameters
    ----------
    line : mapping
        A row, or a line of :func:`medians`.
    region : float
        Time of a region with the fewest workers [s].
    """
    whole = line["slots"] * line["wall"]
    paced = line["work"] * min(1.0, region / line["region_median"])
    gaps = line["slots"] * line["steady"] * (1 - line["scheduling"]) if line["steady"] else 0.0
    parts = {"work": paced, "slower work": line["work"] - paced, "gaps": max(0.0, gaps)}
    parts["begin and end"] = max(0.0, whole - sum(parts.values()))
    return {name: value / whole for name, value in parts.items()}


def as_text(rows: pd.DataFrame) -> str:
    """The tables for people."""
    lines = []
    fitted = laws(rows)
    for key, group in medians(rows).groupby(list(SERIES), sort=False):
        cluster, mode, task, seconds = key
        lines.append(f"{task}, tasks of {seconds:g} s, {mode}, {cluster}")
        shown = pd.DataFrame(
            {
                "slots": group["slots"].astype(int),
                "tasks": group["tasks"].astype(int),
                "wall s": group["wall"].map("{:.2f}".format),
                "spread": group["spread"].map("{:.0%}".format),
                "regions/s": group["throughput"].map("{:.4g}".format),
                "efficiency": group["efficiency"].map("{:.3f}".format),
                "slower work": group["slowdown"].map("{:.2f}x".format),
                "scheduling": group["scheduling"].map("{:.3f}".format),
                "with begin and end": group["scheduling_total"].map("{:.3f}".format),
                "ms a task": (1e3 * group["overhead"]).map("{:.3g}".format),
                "coordinator CPU ms a task": (1e3 * group["cpu_coordinator"] / group["tasks"]).map(
                    "{:.2f}".format
                ),
                "MB/s": (group["bytes_per_second"] / 1e6).map("{:.4g}".format),
                "worker MB": (group["peak_worker"] / 1e6).map("{:.0f}".format),
            }
        )
        lines.append(shown.to_string(index=False))
        if tuple(key) in fitted:
            lines.append(f"law: {fitted[tuple(key)].text()}")
        others = float((group["cpu_others"] / group["wall"]).max())
        if others > OTHERS * float(group["cores"].max()):
            lines.append(
                f"other programs took up to {others:.1f} of the {int(group['cores'].max())} cores meanwhile: "
                "scheduling is slower by that, too; measure again on an idle machine"
            )
        few = group[group["slots"] > group["worker_cores"]]
        if task != "sleep" and len(few):
            lines.append(
                f"the machine has {int(group['worker_cores'].max())} cores: from "
                f"{int(few['slots'].min())} threads on, slower work is the machine's, not the scheduler's"
            )
        lines.append("")
    return "\n".join(lines)
