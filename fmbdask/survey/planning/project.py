"""What a run will take: work, time, memory, bytes, files, tasks and jobs, from a calibration."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

from ...cluster.config import ClusterConfig
from ...store.run.items import Item
from ..config import SurveyConfig
from ..pipelines.protocol import Pipeline
from ..running.schedule import Costs
from .calibrate import Calibration, kind_of

#: Time until workers are there [s].
START = {"local": 3.0, "threads": 0.0, "runner": 10.0, "tcp": 0.0, "slurm": 20.0}
#: Workers of a Slurm cluster where the site's file names no number.
SLURM_WORKERS = 4
#: Anonymous memory of a worker before its work, where it was not measured [byte].
IMPORTS = 300 * 2**20
#: What a process may take beyond that: buffers of messages, freed memory that is not given back [byte].
RESERVE = 64 * 2**20


#: Fields of an item: `dataclasses.replace` takes three times as long, which a million items feel.
NAMES = tuple(Item.__dataclass_fields__)
fields = attrgetter(*NAMES)
SECONDS, MEMORY, OUT = map(NAMES.index, ("seconds", "memory", "nbytes_out"))


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


def with_costs(items: Sequence[Item], pipeline: Pipeline, calibration: Calibration) -> list[Item]:
    """Items with their projected time and memory; equal shapes are worked out once."""
    known: dict[tuple[Any, ...], tuple[float, int, int]] = {}
    found = []
    for item in items:
        if item.problem:
            found.append(item)
            continue
        key = kind_of(item), item.shape, item.edge, item.regions
        if key not in known:
            bound = max(stage.memory(item).largest for stage in pipeline.stages)
            out = round(calibration.out(item)[0]) or item.nbytes_out
            known[key] = calibration.seconds(item), max(bound, calibration.memory(item)), out
        seconds, memory, out = known[key]
        values = list(fields(item))
        values[SECONDS], values[MEMORY], values[OUT] = seconds, memory, out
        found.append(Item(*values))
    return found


def slots_of(cluster: ClusterConfig, workers: int | None) -> int:
    """Threads that a cluster will have."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    named = workers if workers is not None else cluster.workers
    count = named if named is not None else SLURM_WORKERS if cluster.kind == "slurm" else cores
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
    good = [item for item in items if not item.problem]
    slots = slots_of(cluster, workers)
    imports = calibration.imports or IMPORTS
    largest = max(good, key=lambda item: item.memory, default=None)
    bound = largest.memory if largest else 0
    need = imports + RESERVE + cluster.threads * bound
    seconds = sum(item.seconds for item in good)
    small, split, chain, longest, slowest, files, parts = 0.0, 0, 0.0, 0.0, "", 0.0, 0
    by_shape: dict[tuple[Any, ...], tuple[list[Costs], float, int]] = {}
    for item in good:
        key = kind_of(item), item.shape, item.edge, item.regions
        if key not in by_shape:
            costs = [calibration.costs(stage, item) for stage in range(len(item.regions))]
            by_shape[key] = costs, calibration.out(item)[1], calibration.part_bytes(item)
        costs, own_files, own_parts = by_shape[key]
        files += own_files
        parts += own_parts
        if item.seconds > 2 * config.span_seconds:
            split += 1 + max(1, round(item.seconds / config.span_seconds))
        else:
            small += item.seconds
        unit = max((max(c) for c in costs), default=0.0)
        if unit > longest:
            longest, slowest = unit, item.name
        one = sum(
            c.prepare + -(-n // slots) * c.region + c.reduce for c, n in zip(costs, item.regions, strict=True)
        )
        chain = max(chain, one)
    tasks = split + max(1, round(small / config.span_seconds)) + 1
    wall = max(seconds / slots, chain) + START.get(cluster.kind, 0.0)
    jobs = 0
    if cluster.kind == "slurm":
        jobs = -(-slots // (cluster.threads * cluster.processes)) + (
            cluster.gpu.workers if cluster.gpu else 0
        )
    return Projection(
        inputs=len(items),
        bad=len(items) - len(good),
        regions=sum(item.units for item in good),
        tasks=tasks,
        nbytes_in=sum(item.nbytes for item in good),
        nbytes_out=sum(item.nbytes_out for item in good),
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
        allowance=config.memory or cluster.memory or need,
        longest_unit=longest,
        largest=largest.name if largest else "",
        slowest=slowest,
        jobs=jobs,
    )
