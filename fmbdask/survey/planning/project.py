"""What a run will take: work, time, memory, bytes, files, tasks and jobs, from a calibration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ...cluster.config import ClusterConfig
from ...store.run.items import Item, ItemTable
from ..config import SurveyConfig
from ..pipelines.protocol import Pipeline
from ..running.schedule import PIECES
from .calibrate import Calibration

#: Time until the processes of workers begin [s]; what each then takes to be ready is measured.
START = {"local": 1.0, "threads": 0.0, "runner": 8.0, "tcp": 0.0, "slurm": 15.0}
#: What a thread waits between units and between tasks: journals on a local disk, the next task
#: (the gaps that `fmbdask bench overhead` and `bench scaling` show) [s].
BETWEEN_UNITS, BETWEEN_TASKS = 0.005, 0.03
#: Workers of a Slurm cluster where the site's file names no number.
SLURM_WORKERS = 4
#: Anonymous memory of a worker before its work, where it was not measured [byte].
IMPORTS = 300 * 2**20
#: What a process may take beyond that: buffers of messages, freed memory that is not given back [byte].
RESERVE = 32 * 2**20
#: A worker may use so many times what it is expected to use, where nobody says how much: inputs differ.
HEADROOM = 1.25


@dataclass(frozen=True)
class Projection:
    """What a run will take.

    Attributes
    ----------
    inputs, bad : int
        Inputs, and those among them that cannot be used.
    regions, tasks : int
    nbytes_in, nbytes_out, parts, files : int
        Bytes that are read, written to products and kept until the reductions; files of the products.
    seconds, core_hours, wall_seconds : float
        Work of all threads [s, h], and time with `slots` threads [s].
    slots, threads : int
        Threads of all workers, and of one.
    imports, bound, worker_memory : int
        Anonymous memory of a worker before its work, of one thread's work, and with all its threads [byte].
    allowance : int
        Anonymous memory that a worker may use [byte].
    longest_unit : float
        Longest region or reduction [s].
    largest, slowest : str
        Names of the inputs with the largest memory and the longest unit.
    jobs : int
        Slurm jobs that will be asked for.
    """

    inputs: int
    bad: int
    regions: int
    tasks: int
    nbytes_in: int
    nbytes_out: int
    parts: int
    files: int
    seconds: float
    core_hours: float
    wall_seconds: float
    slots: int
    threads: int
    imports: int
    bound: int
    worker_memory: int
    allowance: int
    longest_unit: float
    largest: str
    slowest: str
    jobs: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def with_costs(items: Sequence[Item], pipeline: Pipeline, calibration: Calibration) -> ItemTable:
    """Items with their projected time and memory; what many have in common is worked out once."""

    def change(kind: Item) -> Item:
        if not kind.units and not kind.shape:  # it could not be described
            return kind
        bound = max(stage.memory(kind).largest for stage in pipeline.stages)
        return replace(
            kind,
            seconds=calibration.seconds(kind),
            memory=max(bound, calibration.memory(kind)),
            nbytes_out=round(calibration.out(kind)[0]) or kind.nbytes_out,
        )

    return ItemTable.of(items).changed(change)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slots_of(cluster: ClusterConfig, workers: int | None) -> int:
    """Threads that a cluster will have."""
    named = workers if workers is not None else cluster.workers
    count = named if named is not None else SLURM_WORKERS if cluster.kind == "slurm" else cores()
    return max(1, count) * cluster.threads


def project(
    config: SurveyConfig,
    items: Sequence[Item],
    calibration: Calibration,
    cluster: ClusterConfig,
    workers: int | None = None,
) -> Projection:
    """Add up what items will take on a cluster.

    Parameters
    ----------
    config : SurveyConfig
    items : sequence of Item
        From :func:`with_costs`.
    calibration : Calibration
    cluster : ClusterConfig
    workers : int, optional
        Worker processes instead of those of the cluster.
    """
    table = ItemTable.of(items)
    good = table.counts(table.sound)
    slots = slots_of(cluster, workers)
    imports = calibration.imports or IMPORTS
    largest = max((kind for kind, _ in good), key=lambda kind: kind.memory, default=None)
    bound = largest.memory if largest else 0
    need = imports + RESERVE + cluster.threads * bound
    seconds = sum(n * kind.seconds for kind, n in good)
    small, split, chain, longest, slowest, files, parts = 0.0, 0, 0.0, 0.0, None, 0.0, 0
    for kind, n in good:
        costs = [calibration.costs(stage, kind) for stage in range(len(kind.regions))]
        files += n * calibration.out(kind)[1]
        parts += n * calibration.part_bytes(kind)
        if kind.seconds > 2 * config.span_seconds:
            split += n * (1 + max(1, round(kind.seconds / config.span_seconds)))
        else:
            small += n * kind.seconds
        unit = max((max(c) for c in costs), default=0.0)
        if unit > longest:
            longest, slowest = unit, kind
        one = sum(
            c.prepare + -(-count // slots) * c.region + c.reduce
            for c, count in zip(costs, kind.regions, strict=True)
        )
        chain = max(chain, one)
    tasks = split + max(1, round(small / config.span_seconds)) + 1
    regions = sum(n * kind.units for kind, n in good)
    units = regions + 2 * sum(n for _, n in good)
    between = BETWEEN_UNITS * units + BETWEEN_TASKS * (tasks + PIECES * slots)
    idle = 0.5 * longest if slots > 1 else 0.0  # of a thread while the last units end
    wall = max((seconds + between) / slots + idle, chain) + START.get(cluster.kind, 0.0) + calibration.start
    jobs = 0
    if cluster.kind == "slurm":
        jobs = -(-slots // (cluster.threads * cluster.processes)) + (
            cluster.gpu.workers if cluster.gpu else 0
        )
    return Projection(
        inputs=len(table),
        bad=len(table.problems),
        regions=regions,
        tasks=tasks,
        nbytes_in=sum(n * kind.nbytes for kind, n in good),
        nbytes_out=sum(n * kind.nbytes_out for kind, n in good),
        parts=parts,
        files=round(files),
        seconds=seconds,
        core_hours=seconds / 3600,
        wall_seconds=wall,
        slots=slots,
        threads=cluster.threads,
        imports=imports,
        bound=bound,
        worker_memory=need,
        allowance=config.memory or cluster.memory or int(HEADROOM * need),
        longest_unit=longest,
        largest=_first(table, largest),
        slowest=_first(table, slowest),
        jobs=jobs,
    )


def _first(items: ItemTable, kind: Item | None) -> str:
    """Name of the first item of a kind."""
    if kind is None:
        return ""
    return items[int(np.argmax(items.code == items.kinds.index(kind)))].name
