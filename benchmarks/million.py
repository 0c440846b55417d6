"""A run of a million regions: time and memory of its plan, of its coordinator, of resuming and of looking.

    python benchmarks/million.py [REGIONS] [--each REGIONS_PER_EXPOSURE] [-o FOLDER]

The inputs are a manifest with shapes: only those that the plan measures exist. Coordinator, scheduler and
worker processes are the real ones, but workers leave the work itself out: they write the journals and return
the results that they would. Each step runs in a process of its own, so that its memory can be told.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fmbdask.cluster.config import ClusterConfig
from fmbdask.cluster.opening import open_cluster
from fmbdask.regions import edge_for
from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.journal import JournalWriter, task_journal
from fmbdask.store.run.ledger import Ledger
from fmbdask.store.run.units import REDUCE, Part, Record
from fmbdask.survey.pipelines import make
from fmbdask.survey.planning import changes
from fmbdask.survey.planning.calibrate import Calibration, Sample, kind_of
from fmbdask.survey.planning.plan import Plan
from fmbdask.survey.planning.plan import plan as make_plan
from fmbdask.survey.reporting.status import status
from fmbdask.survey.running import flights, working
from fmbdask.survey.running.stages import Stages
from fmbdask.survey.worker.task import Task, TaskResult

#: Reads of an exposure; short, so that those that are measured are quick.
FRAMES = 16
#: Threads of all workers, and their processes.
SLOTS, WRITERS = 64, 2
#: What a region hands to the reduction, and a product's size [byte].
PART, PRODUCT = 60_000, 400_000
MANIFEST = "manifest.parquet"


def manifest(folder: Path, regions: int, each: int, assume: bool) -> Iterator[tuple[str, float]]:
    """Write a manifest of exposures of so many regions, and those of them that a plan measures."""
    begin = time.perf_counter()
    count = max(1, regions // each)
    edge = edge_for(FRAMES, 2)
    shape = (FRAMES, edge * each, edge)
    nbytes = 2 * int(np.prod(shape))
    names = [
        str(folder / "archive" / f"night{n // 5000:04d}" / f"exposure_{n:08d}.npy") for n in range(count)
    ]
    times = np.full(count, 1_700_000_000_000_000_000) + np.arange(count)
    rng = np.random.default_rng(0)
    block = 1000 + np.cumsum(rng.normal(1, 1, (FRAMES, edge, edge)).astype(np.float32), axis=0)
    for place in () if assume else {0, count // 2}:
        path = Path(names[place])
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.tile(np.rint(block).astype(np.uint16), (1, each, 1)))
        times[place] = path.stat().st_mtime_ns
    columns = {
        "path": names,
        "shape": pa.repeat("x".join(map(str, shape)), count),
        "dtype": pa.repeat("uint16", count),
        "size": pa.repeat(nbytes + 128, count),
        "mtime_ns": times,
    }
    pq.write_table(pa.table(columns), folder / MANIFEST)
    yield "manifest", time.perf_counter() - begin


def do(task: Task) -> TaskResult:
    """What a worker writes and returns, without the work."""
    folder = RunFolder(Path(task.run))
    journal = task_journal(folder.journal, task.epoch, task.number)
    records = []
    offset = 0
    about: dict[str, Any] = {
        "epoch": task.epoch,
        "worker": f"node-{task.number % SLOTS}/17/tcp://10.0.0.1:4000",
    }
    with JournalWriter(journal) as writer:
        for unit in task.units:
            now = time.time()
            path, extra = f"parts/{task.epoch:05d}/{journal.stem}.parts", {}
            if unit.region == REDUCE:
                path, extra = f"products/{task.items[unit.item].name}", {"events": {"cosmic_ray": 12}}
            part = Part(path, offset, PRODUCT if extra else PART, f"{hash((unit, now)) % 2**128:032x}")
            offset += part.length
            numbers = {"seconds": 0.5, "read": 0.1, "cpu": 0.5, "nbytes": 2**22, "peak": 3 * 10**8}
            for record in (
                Record("started", unit, time=now, **about),
                Record("ended", unit, time=now + 0.5, part=part, extra=extra, **numbers, **about),
            ):
                writer.write(record)
                records.append(record)
    return TaskResult(tuple(records), folder.relative(journal), journal.stat().st_size)


def install() -> None:
    """Let the worker process that calls this write journals and do nothing else."""
    flights.run_task = do


def plan(folder: Path, assume: bool) -> Iterator[tuple[str, float]]:
    """Plan the run, and save the plan."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    measuring = []
    module = sys.modules[Plan.__module__]
    measure = module.calibrate

    def timed(config: Any, items: Any, **options: Any) -> Calibration:
        begin = time.perf_counter()
        sample = Sample(
            stage=0, kind=kind_of(items[0]), nbytes=items[0].nbytes, pixels=2**16, regions=1, prepare=0.1,
            region=0.1, reduce=0.1, memory=10**8, part=PART, measured=1, nbytes_out=PRODUCT, files=12,
        )  # fmt: skip
        found = Calibration((sample,), 2 * 10**8) if assume else measure(config, items, **options)
        measuring.append(time.perf_counter() - begin)
        return found

    module.calibrate = timed
    begin = time.perf_counter()
    made = make_plan({"inputs": [str(folder / MANIFEST)], "output": str(folder / "run")}, cluster="local")
    made = replace(made, refusals=())  # there may be less room here than the products would take
    yield "plan", time.perf_counter() - begin
    yield "of this, measuring", sum(measuring)
    begin = time.perf_counter()
    made.save()
    yield "save", time.perf_counter() - begin


def coordinate(folder: Path) -> Iterator[tuple[str, float]]:
    """Let the coordinator have all exposures done; all but the reduction of the run."""
    begin = time.perf_counter()
    site = ClusterConfig(kind="local", workers=WRITERS, threads=SLOTS // WRITERS)
    with (
        open_cluster(site, memory=10**9, log_folder=folder / "run" / "logs") as there,
        working.reigning(RunFolder(folder / "run")) as chronicle,
    ):
        there.client.run(install)
        yield "start of workers", time.perf_counter() - begin
        begin = time.perf_counter()
        made = Plan.load(folder / "run")
        stages = Stages(
            chronicle, there, make(made.config), made.items, made.config,
            costs=working.costs_of(made), asked=lambda: "",
        )  # fmt: skip
        schedule = stages.schedule(0)
        yield "begin", time.perf_counter() - begin
        begin, cpu = time.perf_counter(), time.process_time()
        stages.coordinator.work(schedule, {})
        yield "marks", time.perf_counter() - begin
        yield "marks, CPU of the coordinator", time.process_time() - cpu


def resume(folder: Path) -> Iterator[tuple[str, float]]:
    """What resuming reads: its plan, the ledger with what is done of it, and whether inputs changed."""
    run = RunFolder(folder / "run")
    begin = time.perf_counter()
    made = Plan.load(run.path)
    yield "resume: plan", time.perf_counter() - begin
    begin = time.perf_counter()
    with Ledger.open(run) as ledger:
        counts, reduced, failures = ledger.done_counts(), ledger.done_counts(REDUCE), ledger.failures()
    assert not failures
    assert sum(counts.values()) == made.projected.regions
    assert len(reduced) == len(made.items)
    yield "resume: ledger", time.perf_counter() - begin
    begin = time.perf_counter()
    assert not changes.compare(run)
    yield "resume: inputs compared", time.perf_counter() - begin


def look(folder: Path) -> Iterator[tuple[str, float]]:
    """The status."""
    begin = time.perf_counter()
    found = status(folder / "run")
    yield "status", time.perf_counter() - begin
    assert found.regions.done == found.regions.total


def rebuild(folder: Path) -> Iterator[tuple[str, float]]:
    """The ledger from the journals alone."""
    run = RunFolder(folder / "run")
    for path in run.path.glob(run.ledger_file.name + "*"):
        path.unlink()
    begin = time.perf_counter()
    with Ledger.open(run) as ledger:
        assert ledger.done_counts()
    yield "ledger from journals", time.perf_counter() - begin


def measured(step: Callable[..., Iterator[tuple[str, float]]], *arguments: Any) -> dict[str, float]:
    """Run a step in a process of its own; seconds by name, and its largest resident memory [MB]."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_answer, args=(there, step, *arguments))
    process.start()
    there.close()
    try:
        found: dict[str, float] = here.recv()
    except EOFError:
        raise SystemExit(f"the step {step.__name__} failed") from None
    process.join()
    return found


def _answer(connection: Any, step: Callable[..., Iterator[tuple[str, float]]], *arguments: Any) -> None:
    found = dict(step(*arguments))
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    connection.send(found)


def main() -> None:
    """Do all steps, and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("regions", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--each", type=int, default=16, help="regions of an exposure")
    parser.add_argument("-o", "--out", type=Path, help="folder; a temporary one by default")
    parser.add_argument("--assume", action="store_true", help="assume costs instead of measuring them")
    options = parser.parse_args()
    folder = (options.out or Path(tempfile.mkdtemp())).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    measured(manifest, folder, options.regions, options.each, options.assume)
    regions = options.regions // options.each * options.each
    steps = {
        "plan": measured(plan, folder, options.assume),
        "coordinator": measured(coordinate, folder),
        "resume": measured(resume, folder),
        "status": measured(look, folder),
        "rebuild": measured(rebuild, folder),
    }
    print(f"{regions} regions in {regions // options.each} exposures, {os.cpu_count()} cores")
    for found in steps.values():
        memory = found.pop("memory")
        for name, seconds in found.items():
            rate = f"  {regions / seconds:8.0f} regions/s" if name.startswith(("marks", "ledger")) else ""
            print(f"{name:<30}{seconds:8.2f} s  {memory:6.0f} MB{rate}")
    if options.out is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
