"""The report of a run: one page that needs no other file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from ...store.run.folder import RunFolder, write_durably
from ...store.run.ledger import Event, Ledger
from ...store.run.units import PREPARE, REDUCE
from .failures import CAUSES, failures
from .page import Picture, png, render
from .status import Status, clock, duration, status, volume

if TYPE_CHECKING:
    import pandas as pd

#: Most rows of a table: a page is to be read.
ROWS = 40


def write_report(path: str | os.PathLike[str]) -> Path:
    """Write the report of a run, finished or not.

    Parameters
    ----------
    path : path
        Folder of the run.

    Returns
    -------
    Path
        ``report.html`` in it.

    Raises
    ------
    RunError
        If there is no run.
    """
    folder = RunFolder.at(path)
    write_durably(folder.report, page(folder).encode())
    return folder.report


def page(folder: RunFolder) -> str:
    """Make the text of the page."""
    found = status(folder.path)
    about = folder.read_json(folder.run_file)
    plan = folder.read_json(folder.plan_file) if folder.plan_file.is_file() else {}
    with Ledger.snapshot(folder) as ledger:
        timings, events = ledger.timings(), ledger.events()
    failed = failures(folder.path)
    stages = list(about.get("stages") or [])
    wall = wall_time(timings, events)
    slots = slots_of(events)
    return render(
        "run.html",
        title=found.name,
        lead=lead(found, about, wall, slots),
        tiles=tiles(found, timings, wall),
        failures=failure_rows(failed),
        more_failures=max(len(failed) - ROWS, 0),
        shares=shares(timings, wall * slots),
        shares_note=shares_note(wall, slots),
        kinds=kind_rows(timings, stages),
        projections=projections(plan, timings, wall, folder),
        projections_note=plan.get("note", ""),
        figures=pictures(timings, events, plan, slots, folder),
        catalog=catalog(folder),
        workers=worker_rows(timings),
        workers_note=worker_note(timings),
        events=[{"time": clock(e.time), "note": e.note} for e in events[-200:] if e.note],
        configuration=yaml.safe_dump(about.get("config", {}), sort_keys=False, allow_unicode=True),
        versions="\n".join(f"{name} {text}" for name, text in about.get("versions", {}).items()),
        quoted=shlex.quote(str(folder.path)),
        footer=f"fmbdask {version('fmbdask')}; times of stages are wall time of threads",
    )


def wall_time(timings: pd.DataFrame, events: Sequence[Event]) -> float:
    """Time during which some coordinator, or part of a job array, was at work [s]."""
    spans = []
    begin: dict[int, float] = {}
    for event in events:
        if event.extra.get("event") == "began":
            begin[event.epoch] = event.time
        elif event.extra.get("event") in ("ended", "stopped") and event.epoch in begin:
            spans.append((begin.pop(event.epoch), event.time))
    if not spans and len(timings):
        spans = [(float(timings["begin"].min()), float(timings["end"].max()))]
    total, until = 0.0, -np.inf
    for first, last in sorted(spans):
        total += max(last - max(first, until), 0.0)
        until = max(until, last)
    return float(total)


def slots_of(events: Sequence[Event]) -> int:
    """Threads that the last coordinator asked for."""
    return int(next((e.extra["slots"] for e in reversed(events) if e.extra.get("slots")), 0))


def lead(found: Status, about: Mapping[str, Any], wall: float, slots: int) -> str:
    """The run in one sentence or two."""
    where = about.get("cluster") or "local"
    done = f"{found.items.done} of {found.items.total} inputs done"
    failed = f", {found.failed} failed" if found.failed else ""
    took = f" in {duration(wall)}" if wall else ""
    threads = f" with {slots} threads" if slots else ""
    return (
        f"Pipeline {about.get('pipeline')}, {found.state}: {done}{failed}{took} on {where}{threads}; "
        f"{volume(found.nbytes)} read."
    )


def tiles(found: Status, timings: pd.DataFrame, wall: float) -> list[dict[str, str]]:
    """The numbers to see first."""
    from ...viz.runs import SHARES

    good, bad = "#1a7f4b", "#b3261e"
    made = [
        (f"{found.items.done}", f"of {found.items.total} inputs done", good),
        (f"{found.failed}", "inputs failed", bad if found.failed else good),
        (f"{found.regions.done}", f"of {found.regions.total} regions done", SHARES["compute"]),
        (volume(found.nbytes), "of input read", SHARES["read"]),
        (duration(wall), "wall time", SHARES["wait"]),
    ]
    if len(timings):
        made.append((volume(float(timings["peak"].max())), "peak anonymous memory", SHARES["write"]))
        if wall:
            made.append((f"{volume(found.nbytes / wall)}/s", "read on average", SHARES["read"]))
    return [{"value": value, "words": words, "colour": colour} for value, words, colour in made]


def failure_rows(failed: pd.DataFrame) -> list[dict[str, Any]]:
    """What failed, for the table."""
    rows = []
    for _, row in failed.head(ROWS).iterrows():
        place = f"region {row['region']}" if row["unit"] == "map" else row["unit"]
        rows.append(
            {
                "name": row["name"], "where": f"{row['stage']}, {place}", "log": row["log"],
                "cause": CAUSES.get(row["cause"], row["cause"]), "error": row["error"],
                "attempts": row["attempts"],
            }
        )  # fmt: skip
    return rows


def shares(timings: pd.DataFrame, available: float) -> list[dict[str, Any]]:
    """What the thread time went to."""
    from ...viz.runs import SHARES

    if not len(timings):
        return []
    read, write = float(timings["read"].sum()), float(timings["write"].sum())
    work = float(timings["seconds"].sum())
    parts = {"read": read, "compute": max(work - read - write, 0.0), "write": write}
    parts["wait"] = max(available - work, 0.0)
    total = sum(parts.values()) or 1.0
    return [
        {"name": k, "percent": f"{100 * v / total:.1f}", "time": duration(v), "colour": SHARES[k]}
        for k, v in parts.items()
    ]


def shares_note(wall: float, slots: int) -> str:
    """What is meant by waiting."""
    if not slots:
        return "Wall time of threads inside regions, preparations and reductions."
    return (
        f"Of {duration(wall * slots)} that {slots} threads had in {duration(wall)}; waiting is what no "
        "region, preparation or reduction used: start and end of the run, scheduling, journals, lost and "
        "failed work."
    )


def kind_rows(timings: pd.DataFrame, stages: Sequence[str]) -> list[list[str]]:
    """Time of each stage and kind of unit."""
    if not len(timings):
        return []
    kind = np.select(
        [timings["region"] == PREPARE, timings["region"] == REDUCE], ["prepare", "reduce"], "regions"
    )
    rows = []
    named = [stages[s] if s < len(stages) else str(s) for s in timings["stage"]]
    for (label, name), group in timings.groupby([np.asarray(named), kind], sort=False):
        rows.append(
            [
                f"{label}: {name}",
                str(len(group)),
                *(duration(float(group[c].sum())) for c in ("seconds", "read", "write", "cpu")),
                duration(float(group["seconds"].median())),
                duration(float(group["seconds"].max())),
                volume(float(group["peak"].max())),
            ]
        )
    return rows


def projections(
    plan: Mapping[str, Any], timings: pd.DataFrame, wall: float, folder: RunFolder
) -> list[list[str]]:
    """What the plan said, and what came of it."""
    if not plan or not len(timings):
        return []
    seconds = float(timings["seconds"].sum())
    size = sum(p.stat().st_size for p in folder.products.rglob("*") if p.is_file())
    pairs = [
        ("work of all threads", plan.get("seconds"), seconds, duration),
        ("wall time", plan.get("wall_seconds"), wall, duration),
        ("anonymous memory of a worker", plan.get("worker_memory"), float(timings["peak"].max()), volume),
        ("bytes read", plan.get("nbytes_in"), float(timings["nbytes"].sum()), volume),
        ("bytes of products", plan.get("nbytes_out"), float(size), volume),
    ]
    return [
        [name, words(float(said)), words(measured), f"{measured / said:.2f}"]
        for name, said, measured, words in pairs
        if said
    ]


def pictures(
    timings: pd.DataFrame, events: Sequence[Event], plan: Mapping[str, Any], slots: int, folder: RunFolder
) -> list[Picture]:
    """The figures of the page."""
    from ...viz.runs import memory, throughput

    if not len(timings):
        return []
    begin, end = timings["begin"].to_numpy(float), timings["end"].to_numpy(float)
    marks = [(e.time, e.note) for e in events if e.note]
    figures = [
        Picture(
            "Throughput",
            "Input read, and units in work at once; the dashed line is the number of threads asked for, red "
            "lines are moments at which something happened to the run as a whole, told below.",
            png(throughput(begin, end, timings["nbytes"].to_numpy(float), slots=slots, events=marks)),
        ),
        Picture(
            "Memory",
            "Anonymous memory of the worker process, the largest during each unit.",
            png(
                memory(
                    timings["peak"].to_numpy(float),
                    projected=float(plan.get("worker_memory") or 0),
                    allowance=float(plan.get("allowance") or 0),
                )
            ),
        ),
    ]
    drawn = events_figure(folder)
    return figures if drawn is None else [*figures, drawn]


def events_figure(folder: RunFolder) -> Picture | None:
    """Numbers and strengths of the events of a ramp catalogue; None for other catalogues."""
    import pyarrow.parquet as pq

    columns = ["type", "significance", "first_frame", "amplitude"]
    tables = sorted(folder.catalog.glob("*.parquet"))
    if not tables or not set(columns) <= set(pq.read_schema(tables[0]).names):
        return None
    import pandas as pd

    from ...viz.ramps import counts

    events = pd.concat([pd.read_parquet(t, columns=columns) for t in tables], ignore_index=True)
    if events.empty:
        return None
    frames = int(events["first_frame"].max()) + 1
    figure = counts(events, frames=frames, title="All inputs")
    return Picture("Events", "Events of each kind, how strong they are, and when they came.", png(figure))


def catalog(folder: RunFolder) -> dict[str, Any] | None:
    """Rows of the catalogue in numbers."""
    import pyarrow.parquet as pq

    tables = sorted(folder.catalog.glob("*.parquet"))
    if not tables:
        return None
    rows = sum(pq.read_metadata(t).num_rows for t in tables)
    names = pq.read_schema(tables[0]).names
    note = f"{rows} rows in {len(tables)} file{'s' * (len(tables) != 1)} below {folder.catalog}"
    if not {"exposure", "type"} <= set(names):
        return {
            "head": ["table", "rows"],
            "rows": [[t.name, pq.read_metadata(t).num_rows] for t in tables],
            "note": note,
        }
    import pandas as pd

    events = pd.concat([pd.read_parquet(t, columns=["exposure", "type"]) for t in tables], ignore_index=True)
    counted = events.groupby(["exposure", "type"], observed=True).size().unstack(fill_value=0)
    kinds = list(counted.columns)
    shown = counted.sum(axis=1).sort_values(ascending=False, kind="stable").head(ROWS).index
    body = [["all inputs", *(int(counted[k].sum()) for k in kinds)]]
    body += [[name, *(int(counted.loc[name, k]) for k in kinds)] for name in shown]
    head = ["input", *(str(k).replace("_", " ") for k in kinds)]
    return {
        "head": head,
        "rows": body,
        "note": note + (f"; the {ROWS} richest inputs" * (len(counted) > ROWS)),
    }


def worker_rows(timings: pd.DataFrame) -> list[list[str]]:
    """What each worker did, the busiest first."""
    if not len(timings):
        return []
    day = clock(float(timings["begin"].min()))[:10]
    groups = [(str(name), g) for name, g in timings.groupby("worker", observed=True)]
    groups.sort(key=lambda pair: -float(pair[1]["seconds"].sum()))
    return [
        [
            name,
            str(len(g)),
            duration(float(g["seconds"].sum())),
            volume(float(g["nbytes"].sum())),
            volume(float(g["peak"].max())),
            clock(float(g["begin"].min())).removeprefix(f"{day} "),
            clock(float(g["end"].max())).removeprefix(f"{day} "),
        ]
        for name, g in groups[:ROWS]
    ]


def worker_note(timings: pd.DataFrame) -> str:
    """How many workers are not in the table."""
    more = timings["worker"].nunique() - ROWS if len(timings) else 0
    return f"The {ROWS} busiest; {more} more worked on this run." if more > 0 else ""
