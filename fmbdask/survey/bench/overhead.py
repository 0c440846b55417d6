"""What a survey costs beyond the work: the same exposures as a run, in a bare loop, and through `cp`."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmbdask.survey.bench.settings import SETTINGS
from fmbdask.survey.bench.write import as_text, write_tables

Report = Callable[[int, int, str], None]

#: Wanted length of a task of the survey [s].
SPAN = 1.0
SEED = 5


@dataclass(frozen=True)
class Plan:
    """What is measured: exposures of one size, rounds, and processes of the loop and of the survey."""

    exposures: int = 16
    frames: int = 128
    size: int = 512
    rounds: int = 5
    workers: int = 2


def plan_of(quick: bool, rounds: int, workers: int) -> Plan:
    """The full benchmark, or a small version of it."""
    return Plan(4, 24, 128, 1, workers) if quick else Plan(rounds=rounds, workers=workers)


def overhead_files(plan: Plan, out: Path, report: Report | None = None) -> tuple[str, list[Path]]:
    """Measure, and write text and tables; returns the text and the paths of the files."""
    tables = overhead(plan, out, report)
    text = as_text(printed(tables, plan))
    return text, write_tables(tables, text, out, "overhead")


def overhead(plan: Plan, out: Path, report: Report | None = None) -> dict[str, pd.DataFrame]:
    """Do the same exposures in three ways, in turns.

    Parameters
    ----------
    plan : Plan
    out : Path
        Folder of the exposures, which are simulated once, and of the results, which are removed.
    report : callable, optional
        Called with (done, total, text).

    Returns
    -------
    dict of DataFrame
        ``rounds``: one row a round and way, [s]: ``wall`` from the first unit to the last, ``cpu`` of units
        and coordinator meanwhile, ``start`` and ``end`` of processes, ``cpu_all`` of all processes with
        their start and end. ``summary``: medians, and ratios to the loop of the same round with their range.
        ``where``: what the time of the survey's workers went into, as shares of it; its units against those
        of the loop.
    """
    from fmbdask.survey.exposures.simulate import simulate_survey
    from fmbdask.survey.planning.plan import plan as make_plan

    tell = report or (lambda done, total, text: None)
    name = f"{plan.frames}x{plan.size}x{plan.size}"
    data = out / "exposures" / name
    paths = sorted(data.glob("h2rg_????.fits"))[: plan.exposures]
    if len(paths) < plan.exposures:
        tell(0, plan.rounds, "simulating exposures")
        config = SETTINGS["drift"].sized(plan.frames, plan.size, plan.size, 0)
        paths = simulate_survey(config, data, end_index=plan.exposures - 1, seed=SEED, overwrite=True)
    given = {"inputs": [str(p) for p in paths], "output": str(out / "run"), "span_seconds": SPAN}
    made = make_plan(given, workers=plan.workers)
    made.check()
    rows: list[dict[str, Any]] = []
    parts = []
    for turn in range(plan.rounds):
        tell(turn, plan.rounds, f"round {turn + 1}")
        bare, units = _of_process(_loop, given, plan.workers, out / "bare")
        survey, mine = _of_process(_survey, made.as_json()["calibration"], given, plan.workers, out / "run")
        copy = _copy(paths, out / "copy")
        # so that a machine that slows down favours neither
        for way, found in (("loop", bare), ("survey", survey), ("cp", copy)):
            rows.append({"round": turn, "way": way} | found)
        parts.append(where(mine, units, survey["coordinator"]))
    tell(plan.rounds, plan.rounds, "done")
    rounds = pd.DataFrame(rows)
    return {
        "summary": summary(rounds),
        "where": pd.concat(parts).groupby("part", sort=False).median().reset_index(),
        "rounds": rounds,
    }


def summary(rounds: pd.DataFrame) -> pd.DataFrame:
    """Medians of each way, and its ratio to the loop: median, smallest and largest of the rounds."""
    walls, cpus = (rounds.pivot(index="round", columns="way", values=name) for name in ("wall", "cpu"))
    found = []
    for way in ("loop", "survey", "cp"):
        mine = rounds[rounds["way"] == way]
        ratio, cpu = walls[way] / walls["loop"], cpus[way] / cpus["loop"]
        found.append(
            {
                "way": way, "wall": mine["wall"].median(), "lowest": mine["wall"].min(),
                "highest": mine["wall"].max(), "cpu": mine["cpu"].median(), "start": mine["start"].median(),
                "end": mine["end"].median(), "ratio": ratio.median(), "ratio_low": ratio.min(),
                "ratio_high": ratio.max(), "cpu_ratio": cpu.median(), "cpu_low": cpu.min(),
                "cpu_high": cpu.max(), "cpu_all": mine["cpu_all"].median(),
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def where(survey: pd.DataFrame, loop: pd.DataFrame, coordinator: float) -> pd.DataFrame:
    """Shares of the time of the survey's workers, and its units against those of the loop.

    Parameters
    ----------
    survey, loop : DataFrame
        Columns ``worker``, ``kind``, ``begin``, ``end``, ``cpu`` [s]; one row a unit.
    coordinator : float
        CPU time of the coordinator [s].
    """
    first, last = survey["begin"].min(), survey["end"].max()
    workers = survey["worker"].nunique()
    whole = workers * (last - first)
    by_worker = survey.groupby("worker", observed=True)
    units = (survey["end"] - survey["begin"]).sum()
    begun = (by_worker["begin"].min() - first).sum()
    ended = (last - by_worker["end"].max()).sum()
    rows = {
        "units": units,
        "before a worker's first unit": begun,
        "after its last unit": ended,
        "between units": whole - units - begun - ended,
    }
    found = [{"part": part, "share": seconds / whole} for part, seconds in rows.items()]
    for kind in ("prepare", "map", "reduce"):
        mine, other = (t[t["kind"] == kind] for t in (survey, loop))
        if len(mine) and len(other):
            ratio = (mine["end"] - mine["begin"]).sum() / (other["end"] - other["begin"]).sum()
            found.append({"part": f"{kind}: wall, survey over loop", "share": ratio})
            ratio = mine["cpu"].sum() / other["cpu"].sum()
            found.append({"part": f"{kind}: CPU, survey over loop", "share": ratio})
    found.append({"part": "coordinator: CPU over the loop's", "share": coordinator / loop["cpu"].sum()})
    return pd.DataFrame(found)


def printed(tables: Mapping[str, pd.DataFrame], plan: Plan) -> dict[str, tuple[str, pd.DataFrame]]:
    """Headings and tables."""
    what = (
        f"{plan.exposures} exposures of {plan.frames} x {plan.size} x {plan.size}, {plan.workers} processes"
    )
    return {
        "summary": (
            f"{what}, tasks of {SPAN:g} s: medians of {plan.rounds} rounds [s], their range, and ratios of "
            "the wall times\nto that of the loop in the same round; start and end of processes stand apart.",
            tables["summary"],
        ),
        "where": (
            "Where the time of the survey's workers goes, as shares; its units as ratios.",
            tables["where"],
        ),
    }


def _of_process(target: Callable[..., Any], *arguments: Any) -> tuple[dict[str, float], pd.DataFrame]:
    """Call a function in a process of its own; adds the CPU time of it and its children in all [s]."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, target, *arguments))
    process.start()
    there.close()
    try:
        found, units = here.recv()
    finally:
        process.join()
    return found, units


def _answer(connection: Any, target: Callable[..., Any], *arguments: Any) -> None:
    found, units = target(*arguments)
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(u.ru_utime + u.ru_stime for u in usage)
    connection.send((found | {"cpu_all": cpu}, units))


def _loop(given: Mapping[str, Any], workers: int, out: Path) -> tuple[dict[str, float], pd.DataFrame]:
    """What a program of one's own would do: processes that take the next exposure until there is none."""
    from fmbdask.store.run.folder import RunFolder
    from fmbdask.survey.config import read_config
    from fmbdask.survey.pipelines import make
    from fmbdask.survey.pipelines.protocol import Context
    from fmbdask.survey.planning.inputs import find, make_items

    config = read_config(given)
    pipeline = make(config)
    items = make_items(pipeline, find(config.inputs)[0])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    turn, ready, answers = context.Value("i", 0), context.Barrier(workers + 1), context.SimpleQueue()
    processes = [
        context.Process(target=_one_of_loop, args=(given, list(items), turn, ready, answers, out))
        for _ in range(workers)
    ]
    asked = time.time()
    for process in processes:
        process.start()
    ready.wait()
    begin = time.time()
    units = [unit for _ in processes for unit in answers.get()]
    (out / "catalog").mkdir()
    made = [(item, out / item.name) for item in items]
    cpu = time.process_time()
    pipeline.stages[0].reduce_run(made, out / "catalog", Context(RunFolder(out)))
    end, own = time.time(), time.process_time() - cpu
    for process in processes:
        process.join()
    shutil.rmtree(out)
    table = pd.DataFrame(units, columns=["worker", "kind", "begin", "end", "cpu"])
    times = {"wall": end - begin, "start": begin - asked, "end": time.time() - end}
    return times | {"cpu": table["cpu"].sum() + own, "coordinator": 0.0}, table


def _one_of_loop(given: Any, items: Any, turn: Any, ready: Any, answers: Any, out: Path) -> None:
    """One process of the loop."""
    import os

    from fmbdask.cluster.memory import bound_arenas
    from fmbdask.store.run.folder import RunFolder
    from fmbdask.survey.config import read_config
    from fmbdask.survey.pipelines import make
    from fmbdask.survey.pipelines.protocol import Context

    bound_arenas()
    pipeline = make(read_config(given))
    pipeline.warm()
    stage, folder = pipeline.stages[0], RunFolder(out)
    units = []

    def timed(kind: str, function: Callable[..., Any], *arguments: Any) -> Any:
        begin, cpu = time.time(), time.thread_time()
        result = function(*arguments)
        units.append((os.getpid(), kind, begin, time.time(), time.thread_time() - cpu))
        return result

    ready.wait()
    while True:
        with turn.get_lock():
            number = turn.value
            turn.value += 1
        if number >= len(items):
            break
        item, context = items[number], Context(folder)
        prepared = timed("prepare", stage.prepare, item, context)
        results = [timed("map", stage.map, item, r, prepared, context) for r in range(item.regions[0])]
        target = out / item.name
        target.mkdir()
        timed("reduce", stage.reduce, item, prepared, iter(results), target, context)
    answers.put(units)


def _survey(
    calibration: Mapping[str, Any], given: Mapping[str, Any], workers: int, out: Path
) -> tuple[dict[str, float], pd.DataFrame]:
    """The same as a run, from its plan on."""
    from fmbdask.store.run.folder import RunFolder
    from fmbdask.store.run.ledger import Ledger
    from fmbdask.store.run.units import Unit
    from fmbdask.survey.planning.calibrate import Calibration
    from fmbdask.survey.planning.plan import plan as make_plan
    from fmbdask.survey.running.run import run

    shutil.rmtree(out, ignore_errors=True)
    made = make_plan(given, workers=workers, calibration=Calibration.from_json(calibration))
    asked = time.time()
    found = run(made, cluster="local", workers=workers)
    over = time.time()
    if not found.complete or found.failed:
        raise RuntimeError(f"the run failed: {found.describe()}")
    with Ledger.snapshot(RunFolder(out)) as ledger:
        table = ledger.timings()
        coordinator = float([event.extra["cpu"] for event in ledger.events() if "cpu" in event.extra][-1])
    table["kind"] = [
        Unit(s, i, r).kind for s, i, r in table[["stage", "item", "region"]].itertuples(index=False)
    ]
    begin, end = table["begin"].min(), table["end"].max()
    shutil.rmtree(out)
    times = {"wall": end - begin, "start": begin - asked, "end": over - end}
    cpu = table["cpu"].sum() + coordinator
    return times | {"cpu": cpu, "coordinator": coordinator}, table[["worker", "kind", "begin", "end", "cpu"]]


def _copy(paths: list[Path], out: Path) -> dict[str, float]:
    """Copy the inputs with `cp`, which says what moving the bytes alone takes."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(["cp", *map(str, paths), str(out)], check=True)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(out)
    cpu = np.sum([after.ru_utime, after.ru_stime]) - np.sum([before.ru_utime, before.ru_stime])
    return {"wall": wall, "start": 0.0, "end": 0.0, "cpu": float(cpu), "cpu_all": float(cpu)}
