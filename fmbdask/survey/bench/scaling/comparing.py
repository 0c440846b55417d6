"""What got slower between two files of rows, and whether the repeats leave a doubt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from fmbdask.errors import InputError

#: What was run: rows that agree in these are of the same measurement, on whatever machine.
KEYS = ("cluster", "mode", "task", "task_seconds", "workers", "threads", "regions")
#: What is compared: time and, where the file has them, CPU seconds of workers and coordinator together.
MEASURES = ("wall", "cpu")
CONFIDENCE = 0.95


def compare_files(before: Path, after: Path, tolerance: float = 0.1) -> pd.DataFrame:
    """Compare the rows of two files.

    Parameters
    ----------
    before, after : Path
    tolerance : float
        By how much something may be slower: 0.1 is 10 %.

    Returns
    -------
    DataFrame
        One row a measurement and measure: ``ratio`` of the medians, after over before, ``low`` and ``high``
        of its 95 % interval (NaN with a single run on either side), and ``verdict``: ``slower``, ``faster``,
        ``same`` or ``one run``, where the ratio is beyond the tolerance and no repeats say how sure that is.

    Raises
    ------
    InputError
        If a file cannot be read, or they hold nothing in common.
    """
    old, new = read(before), read(after)
    rows = []
    groups = dict(list(new.groupby(list(KEYS), sort=False)))
    for key, group in old.groupby(list(KEYS), sort=False):
        if key in groups:
            for measure in MEASURES:
                a, b = group[measure].dropna().to_numpy(float), groups[key][measure].dropna().to_numpy(float)
                if len(a) and len(b):
                    ratio, low, high = ratio_of(a, b)
                    rows.append(
                        dict(zip(KEYS, key, strict=True))
                        | {"measure": measure, "before": float(np.median(a)), "after": float(np.median(b))}
                        | {"runs": f"{len(a)}, {len(b)}", "ratio": ratio, "low": low, "high": high}
                        | {"verdict": judge(ratio, low, high, tolerance)}
                    )
    if not rows:
        raise InputError(
            f"{before} and {after} hold nothing in common (nothing with equal {', '.join(KEYS)}): measure "
            "the same work for both"
        )
    return pd.DataFrame(rows)


def read(path: Path) -> pd.DataFrame:
    """Read the rows of a file.

    Raises
    ------
    InputError
        If it cannot be read, or lacks a column.
    """
    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): give a file of `fmbdask bench`") from None
    missing = [name for name in (*KEYS, "wall") if name not in rows]
    if missing:
        raise InputError(
            f"{path} has no column {missing[0]}: give the scaling.csv of `fmbdask bench scaling`"
        )
    cpu = [rows[name].fillna(0.0) for name in ("cpu_workers", "cpu_coordinator") if name in rows]
    return rows.assign(cpu=sum(cpu) if cpu else np.nan)


def ratio_of(before: NDArray[np.float64], after: NDArray[np.float64]) -> tuple[float, float, float]:
    """Ratio of the medians, and an interval for the ratio from the scatter of the repeats.

    The interval is Welch's for the difference of the mean logarithms, which holds for few repeats as well;
    NaN where one side has a single run.
    """
    ratio = float(np.median(after) / np.median(before))
    if min(len(before), len(after)) < 2:
        return ratio, float("nan"), float("nan")
    a, b = np.log(before), np.log(after)
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    middle, error = float(b.mean() - a.mean()), float(np.sqrt(va + vb))
    if error == 0:
        return ratio, float(np.exp(middle)), float(np.exp(middle))
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    wide = float(student.ppf(0.5 + CONFIDENCE / 2, freedom)) * error
    with np.errstate(over="ignore"):
        return ratio, float(np.exp(middle - wide)), float(np.exp(middle + wide))


def judge(ratio: float, low: float, high: float, tolerance: float) -> str:
    """Say what a ratio means."""
    beyond = ratio > 1 + tolerance or ratio < 1 / (1 + tolerance)
    if not np.isfinite(low):
        return "one run" if beyond else "same"
    if ratio > 1 + tolerance and low > 1:
        return "slower"
    return "faster" if ratio < 1 / (1 + tolerance) and high < 1 else "same"


def describe(found: pd.DataFrame, tolerance: float) -> str:
    """The comparison for people: a table, and what it comes to."""
    table = found.assign(
        ratio=found["ratio"].map("{:.3f}".format),
        interval=[
            "-" if not np.isfinite(low) else f"{low:.3f} to {high:.3g}"
            for low, high in zip(found["low"], found["high"], strict=True)
        ],
        before=found["before"].map("{:.4g}".format),
        after=found["after"].map("{:.4g}".format),
    ).drop(columns=["low", "high"])
    counts = found["verdict"].value_counts()
    words = ", ".join(f"{n} {name}" for name, n in counts.items())
    lines = [table.to_string(index=False), "", f"{words}, at a tolerance of {tolerance:.0%}"]
    if "one run" in counts:
        lines.append("where there is one run, its scatter is not known: measure with --repeat 3")
    return "\n".join(lines)
