"""One run, measured: a survey on workers that are ready, and the row that it becomes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from fmbdask.errors import RunError
from fmbdask.store.run.folder import RunFolder
from fmbdask.survey.running.working import work

from .shares import of_run
from .tasks import Bench
from .workers import Workers, machine

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Case:
    """What is run: tasks of a kind and a length, so many of them."""

    mode: str
    task: str
    seconds: float
    tasks: int


def measure(case: Case, bench: Bench, there: Workers, folder: Path, repeat: int) -> dict[str, Any]:
    """Run a survey and say what it took.

    Parameters
    ----------
    case : Case
    bench : Bench
        Of the case's kind.
    there : Workers
    folder : Path
        Scratch folder that all workers see; the run in it is removed afterwards.
    repeat : int
        Number of the run, from 0.

    Returns
    -------
    dict
        A row of :data:`~.table.COLUMNS`, without what needs other rows.

    Raises
    ------
    RunError
        If the run did not do all of its work.
    """
    output = folder / "run"
    survey = bench.survey(case.seconds, case.tasks, output)
    run = RunFolder(survey.plan.save().path)
    before = there.cpu(), time.process_time(), busy(), time.perf_counter()
    done = work(run, cluster=there.cluster, report=False)
    after = there.cpu(), time.process_time(), busy(), time.perf_counter()
    workers_cpu, own_cpu, machine_cpu, whole = (b - a for a, b in zip(before, after, strict=True))
    if there.kind == "local":
        own_cpu += workers_cpu
    if done.failed or done.stopped or not done.complete:
        raise RunError(f"the run was not done ({done.stopped or f'{done.failed} inputs failed'}): repeat it")
    parts, units, coordinator_cpu = of_run(run, survey.useful, there.slots)
    tasks = sum(1 for _ in run.journal.glob("*/task-*.jsonl")) - 1  # the last one is the catalogue's
    wall = parts.wall
    regions = units[units["region"] >= 0]
    length = parts.work / tasks
    others = max(0.0, machine_cpu - own_cpu) * wall / whole
    shutil.rmtree(output)
    return {
        **machine(),
        "python": ".".join(map(str, sys.version_info[:3])),
        **{name: version(name) for name in ("dask", "distributed", "numpy", "zarr", "fmbdask")},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cluster": there.kind,
        "worker_cores": there.cores,
        "mode": case.mode,
        "task": case.task,
        "task_seconds": case.seconds,
        "workers": there.workers,
        "threads": there.threads,
        "slots": there.slots,
        "inputs": len(survey.plan.items),
        "regions": survey.regions,
        "tasks": tasks,
        "repeat": repeat,
        "start": there.start,
        "wall": wall,
        "throughput": survey.regions / wall,
        "bytes_per_second": float(units["nbytes"].sum()) / wall,
        "work": parts.work,
        "task_mean": length,
        "region_median": float(regions["seconds"].median()),
        "steady": parts.steady,
        "scheduling": parts.efficiency,
        "scheduling_total": parts.total,
        "most_busy": parts.most,
        "overhead": length * (1 / parts.efficiency - 1) if parts.efficiency > 0 else float("nan"),
        "cpu_units": float(units["cpu"].sum()),
        "cpu_workers": workers_cpu,
        "cpu_coordinator": coordinator_cpu if there.kind != "threads" else float("nan"),
        "cpu_others": others if there.kind != "slurm" else float("nan"),
        "peak_worker": int(units["peak"].max()),
    }


def busy() -> float:
    """CPU time that all programs of this machine have taken [s]."""
    times = psutil.cpu_times()
    return float(sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq")))
