"""The whole benchmark: every number of workers, and on them every kind and length of task, repeated."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fmbdask.cluster.config import ClusterConfig
from fmbdask.errors import ConfigError

from .advice import advice
from .figures import figures
from .measuring import Case, measure
from .table import append, as_text, check
from .tasks import KINDS, Bench
from .workers import opened, site_of

Report = Callable[[int, int, str], None]

MODES = ("weak", "strong", "saturation")
#: Tasks of a thread, at least: fewer show the beginning and the end of a run and nothing between.
FEWEST = 5
#: Most tasks of one run that looks for saturation, beyond those that fill all threads twice.
MOST = 6000
#: Processes among which the threads of such a run are divided.
PROCESSES = 4

FILE = "scaling.csv"


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes
    ----------
    cluster : str
        ``local``, ``threads`` or a YAML file.
    mode : str
        ``weak``: work grows with the workers; ``strong``: it does not; ``saturation``: sleeping tasks on
        many threads of few processes, until the scheduler is what limits.
    tasks : sequence of str
        Of :data:`~.tasks.KINDS`.
    workers : sequence of int
        Numbers of workers; of threads for ``saturation``.
    lengths : sequence of float
        Lengths of a task [s].
    repeat : int
    seconds : float
        Work of each thread in a run [s]; at least five tasks.
    """

    cluster: str = "local"
    mode: str = "weak"
    tasks: Sequence[str] = ("sleep",)
    workers: Sequence[int] = (1, 2, 4, 8)
    lengths: Sequence[float] = (0.1, 1.0)
    repeat: int = 3
    seconds: float = 5.0
    processes: int = PROCESSES
    site: ClusterConfig = field(init=False, repr=False)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.tasks) - set(KINDS))
        if unknown:
            raise ConfigError(f"there is no task {unknown[0]}: give {', '.join(KINDS)}")
        if self.mode not in MODES:
            raise ConfigError(f"there is no mode {self.mode}: give {', '.join(MODES)}")
        if self.mode == "saturation" and tuple(self.tasks) != ("sleep",):
            raise ConfigError("saturation is looked for with sleeping tasks alone: leave --task out")
        if min(self.workers) < 1 or min(self.lengths) <= 0:
            raise ConfigError("workers must be at least 1, and tasks longer than 0 s: correct the numbers")
        object.__setattr__(self, "site", site_of(self.cluster))

    def sites(self) -> Iterator[tuple[ClusterConfig, int, int]]:
        """Cluster, workers and their threads together, for each number of them, in order."""
        for number in sorted(set(self.workers)):
            if self.mode == "saturation" and self.site.kind == "local":
                processes = min(self.processes, number)
                threads = -(-number // processes)
                yield self.site.model_copy(update={"threads": threads}), processes, processes * threads
            else:
                yield self.site, number, number * self.site.threads

    def count(self, seconds: float, slots: int) -> int:
        """Tasks of a run."""
        each = max(FEWEST, round(self.seconds / seconds))
        if self.mode == "strong":
            slots = max(n for _, _, n in self.sites())
        if self.mode == "saturation":
            return min(each * slots, max(2 * slots, MOST))
        return each * slots


def plan_of(
    cluster: str,
    mode: str,
    tasks: Sequence[str] | None,
    workers: Sequence[int] | None,
    lengths: Sequence[float] | None,
    repeat: int | None,
    seconds: float | None,
    processes: int = PROCESSES,
    quick: bool = False,
) -> Plan:
    """A plan with usual values for what was not said: some minutes, or less than one where it is quick."""
    many = mode == "saturation"
    if quick:
        usual = Plan(
            workers=(50, 100) if many else (1, 2), lengths=(0.5,) if many else (0.2,), repeat=1, seconds=1.0
        )
    elif many:
        usual = Plan(workers=(100, 300, 1000, 3000), lengths=(10.0, 3.0, 1.0, 0.3), repeat=1, seconds=10.0)
    else:
        usual = Plan()
    return Plan(
        cluster,
        mode,
        tuple(tasks or usual.tasks),
        workers or usual.workers,
        lengths or usual.lengths,
        repeat or usual.repeat,
        seconds or usual.seconds,
        processes,
    )


def scaling(plan: Plan, out: Path, report: Report | None = None) -> tuple[str, list[Path]]:
    """Measure, and write table, figures and rows.

    Parameters
    ----------
    plan : Plan
    out : Path
        Folder; rows are appended to ``scaling.csv`` in it. Runs are made in a scratch folder in it, so that
        the nodes of a cluster must see it.
    report : callable, optional
        Called with (runs done, runs, text).

    Returns
    -------
    str, list of Path
        The tables of these runs as text, and the files that were written.

    Raises
    ------
    ConfigError, ClusterError, InputError
        If there can be no such runs, or the file has other columns.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / FILE
    check(path)
    rows: list[dict[str, Any]] = []
    total = len(set(plan.workers)) * len(plan.tasks) * len(plan.lengths) * plan.repeat
    with tempfile.TemporaryDirectory(prefix=".scaling-", dir=out.absolute()) as scratch:
        folder = Path(scratch)
        benches = {kind: Bench(kind, made(folder / kind)) for kind in plan.tasks}
        for site, workers, slots in plan.sites():
            if report is not None:
                report(len(rows), total, f"starting {slots} threads")
            with opened(site, workers, made(folder / "logs")) as there:
                same: list[dict[str, Any]] = []
                for kind, seconds, repeat in order(plan):
                    case = Case(plan.mode, kind, seconds, plan.count(seconds, slots))
                    if report is not None:
                        report(
                            len(rows) + len(same),
                            total,
                            f"{slots} threads, {kind}, {case.tasks} x {seconds:g} s",
                        )
                    same.append(measure(case, benches[kind], there, folder, repeat))
                same = [row | compared(row, [*rows, *same]) for row in same]
                append(path, same)
                rows += same
    if report is not None:
        report(total, total, "done")
    frame = pd.DataFrame(rows)
    text = as_text(frame) + advice(frame)
    (out / "scaling.txt").write_text(text + "\n", encoding="utf-8")
    paths = [path, out / "scaling.txt"]
    for name, figure in figures(frame).items():
        paths.append(out / f"scaling_{name}.png")
        figure.savefig(paths[-1])
    return text, paths


def order(plan: Plan) -> Iterator[tuple[str, float, int]]:
    """Kind, length and repeat of the runs on the same workers; repeats are not next to each other."""
    for repeat in range(plan.repeat):
        for kind in plan.tasks:
            for seconds in plan.lengths:
                yield kind, seconds, repeat


def compared(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How a run compares with those of the fewest workers, the medians of them; it may be one of them.

    Returns
    -------
    dict
        ``slowdown``: how much longer a region took; ``efficiency``: throughput of a thread over theirs.
    """
    alike = [r for r in rows if (r["task"], r["task_seconds"]) == (row["task"], row["task_seconds"])]
    fewest = min(r["slots"] for r in alike)
    reference = pd.DataFrame([r for r in alike if r["slots"] == fewest])
    rate = float((reference["throughput"] / reference["slots"]).median())
    return {
        "slowdown": row["region_median"] / float(reference["region_median"].median()),
        "efficiency": row["throughput"] / row["slots"] / rate,
    }


def made(folder: Path) -> Path:
    """A folder that is there."""
    folder.mkdir(exist_ok=True)
    return folder
