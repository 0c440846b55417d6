"""What failed in a run and why: one row a failed unit, readable by people and by tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd

from ...store.run.folder import RunFolder, write_durably
from ...store.run.items import ItemTable, read_items
from ...store.run.ledger import Failure, Ledger
from ...store.run.units import WHOLE_RUN

COLUMNS = (
    "item", "name", "input", "stage", "unit", "region", "cause", "error", "attempts", "seconds", "worker",
    "time", "log",
)  # fmt: skip
#: Causes in words.
CAUSES = {
    "data": "the input cannot be used",
    "io": "reading or writing failed",
    "memory": "it needed more memory than a worker has",
    "deadline": "it did not end in time",
    "lost": "its worker died",
    "space": "the disk is full",
    "code": "a mistake in the program",
}


def failures(path: str | os.PathLike[str]) -> pd.DataFrame:
    """List what failed for good.

    Parameters
    ----------
    path : path
        Folder of the run.

    Returns
    -------
    DataFrame
        One row a unit: :data:`COLUMNS`. ``region`` is -1 where the unit is no region of the input;
        ``attempts`` counts the failures that were its own.

    Raises
    ------
    RunError
        If there is no run.
    """
    folder = RunFolder.at(path)
    items = read_items(folder.items_file)
    with Ledger.snapshot(folder) as ledger:
        found = ledger.failures()
    return table(folder, items, found)


def table(folder: RunFolder, items: ItemTable, found: list[Failure]) -> pd.DataFrame:
    """The table of failures, from what the ledger lists."""
    stages = folder.read_json(folder.run_file).get("stages") or []
    of_unit: dict[Any, list[Failure]] = {}
    for failure in found:
        of_unit.setdefault(failure.unit, []).append(failure)
    rows = [_row(items, list(stages), tries) for tries in of_unit.values() if any(t.final for t in tries)]
    nothing = {"region": -1, "attempts": 1, "seconds": 0.0, "worker": "", "time": float("nan"), "log": ""}
    stage = stages[0] if stages else ""
    rows += [
        {"item": i.index, "name": i.name, "input": i.path, "stage": stage, "unit": "open", "cause": "data"}
        | {"error": i.problem}
        | nothing
        for i in items.where(~items.sound)
    ]
    rows.sort(key=lambda row: (row["item"], row["stage"], row["region"]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(items: ItemTable, stages: list[str], tries: list[Failure]) -> dict[str, Any]:
    """One failed unit; its last failure that is final speaks."""
    last = [t for t in tries if t.final][-1]
    unit = last.unit
    item = None if unit.item == WHOLE_RUN else items[unit.item]
    return {
        "item": unit.item,
        "name": item.name if item else "the whole run",
        "input": item.path if item else "",
        "stage": stages[unit.stage] if unit.stage < len(stages) else str(unit.stage),
        "unit": unit.kind,
        "region": max(unit.region, -1),
        "cause": last.cause,
        "error": last.note,
        "attempts": max(sum(t.counted for t in tries), 1),
        "seconds": last.seconds,
        "worker": last.worker,
        "time": last.time,
        "log": last.log or next((t.log for t in reversed(tries) if t.log), ""),
    }


def write_failures(path: str | os.PathLike[str]) -> Path:
    """Write ``failures.csv`` of a run; returns its path."""
    folder = RunFolder.at(path)
    write_durably(folder.failures, failures(path).to_csv(index=False).encode())
    return folder.failures


def describe(found: pd.DataFrame, *, log: bool = True) -> str:
    """The failures as text for a terminal."""
    if found.empty:
        return "nothing failed"
    lines = []
    for row in found.to_dict("records"):
        where = f"region {row['region']}" if row["unit"] == "map" else row["unit"]
        tries = f"{row['attempts']} attempt{'s' * (row['attempts'] != 1)}"
        lines.append(
            f"{row['name']}  {row['stage']}, {where}, {tries}: {CAUSES.get(str(row['cause']), row['cause'])}"
        )
        lines.append(f"    {row['error']}")
        if row["input"] and str(row["input"]) not in str(row["error"]):
            lines.append(f"    input: {row['input']}")
        if log and row["log"]:
            lines += [f"    | {line}" for line in str(row["log"]).strip().splitlines()[-8:]]
    inputs = found["item"].nunique()
    lines.append(f"{inputs} input{'s' * (inputs != 1)} failed")
    return "\n".join(lines)
