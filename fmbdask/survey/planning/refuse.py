"""Plans that cannot work, each reason with its cure: told all at once, before anything is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...cluster.config import ClusterConfig, parse_walltime
from ...errors import ConfigError, RefusedError
from ...regions import check_alignment
from ...store.run.epochs import current_epoch
from ...store.run.folder import RunFolder
from ...store.run.items import ItemTable
from ..pipelines.protocol import Pipeline
from .inputs import duplicates

if TYPE_CHECKING:
    from .project import Projection

#: A unit may take so many times what was measured.
SAFETY = 1.5
#: Time that a job needs before its first unit and after its last [s].
JOB_START = 60.0
#: Room that is left on the disk beyond what is written.
SPARE = 1.1
#: Paths that a message lists.
SHOWN = 3


@dataclass(frozen=True)
class Refusal:
    """One reason why a plan cannot work, and what to do about it."""

    reason: str
    cure: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.cure}"


def check(refusals: Sequence[Refusal]) -> None:
    """Refuse for all reasons at once.

    Raises
    ------
    RefusedError
        If there is one.
    """
    if len(refusals) == 1:
        raise RefusedError(str(refusals[0]))
    if refusals:
        reasons = " ".join(f"({n}) {refusal};" for n, refusal in enumerate(refusals, 1)).rstrip(";")
        raise RefusedError(f"the plan cannot work for {len(refusals)} reasons: {reasons}")


def of_inputs(items: ItemTable, empty: Sequence[str], inputs: Sequence[str]) -> list[Refusal]:
    """No inputs, only bad ones, or one twice."""
    if not len(items):
        what = f"{_some(empty)} match nothing" if empty else "no inputs are given"
        return [Refusal(f"there are no inputs, {what}", "correct inputs in the configuration")]
    found = []
    if not items.sound.any():
        found.append(
            Refusal(
                f"none of {len(items)} inputs can be used, the first because {items.problems[0]}",
                "correct inputs in the configuration",
            )
        )
    twice = duplicates(items)
    if twice:
        pairs = [a if a == b else f"{a} is {b}" for a, b in twice]
        are = "input is" if len(twice) == 1 else "inputs are"
        found.append(Refusal(f"{len(twice)} {are} given twice ({_some(pairs)})", "name each input once"))
    return found


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


def of_regions(pipeline: Pipeline, items: ItemTable) -> list[Refusal]:
    """Regions that would share a chunk or a shard of an output."""
    found: dict[str, Refusal] = {}
    edges = dict.fromkeys(kind.edge for kind, _ in items.counts(items.sound) if kind.edge)
    for stage in pipeline.stages:
        for name, chunks, shards in getattr(stage, "layouts", lambda: ())():
            for edge in edges:
                try:
                    check_alignment(edge, chunks, shards, name=name)
                except ConfigError as error:
                    reason, _, cure = str(error).partition(": ")
                    found.setdefault(reason, Refusal(reason, f"{cure}, or other chunks"))
    return list(found.values())


def of_company(pipeline: Pipeline, items: ItemTable) -> list[Refusal]:
    """Inputs that a pipeline looks at together, and that do not go together."""
    disagreement = getattr(pipeline, "disagreement", None)
    if disagreement is None:
        return []
    reason = disagreement([item.path for item in items.usable])
    return [Refusal(reason, "give those that agree a survey of their own")] if reason else []


def of_memory(projected: Projection, cluster: ClusterConfig) -> list[Refusal]:
    """Workers that would need more memory than they may have."""
    found = []
    need, allowance = projected.worker_memory, projected.allowance
    largest = projected.largest
    if allowance and need > allowance:
        fewer = f" or fewer threads (now {projected.threads})" if projected.threads > 1 else ""
        found.append(
            Refusal(
                f"a worker would need {size(need)} for {largest}, but may use {size(allowance)}",
                f"give workers more memory{fewer}, or smaller regions (edge)",
            )
        )
    if cluster.kind in ("local", "threads"):
        import psutil

        total, workers = psutil.virtual_memory().total, max(1, projected.slots // projected.threads)
        if need * workers > total and cluster.kind == "local":
            found.append(
                Refusal(
                    f"{workers} workers of {size(need)} need more than the {size(total)} of this machine",
                    f"ask for at most {max(1, total // need)} (--workers), or smaller regions (edge)",
                )
            )
    return found


def of_walltime(projected: Projection, cluster: ClusterConfig) -> list[Refusal]:
    """Jobs that would end before a task does."""
    if cluster.kind != "slurm":
        return []
    limit = parse_walltime(cluster.walltime)
    need = JOB_START + SAFETY * projected.longest_unit
    if need <= limit:
        return []
    return [
        Refusal(
            f"a job of {cluster.walltime} ends before one region or reduction of {projected.slowest} would "
            f"({projected.longest_unit:.0f} s, with start and reserve {need:.0f} s)",
            f"ask for a walltime of at least {-(-need // 60):.0f} minutes, or smaller regions (edge)",
        )
    ]


def of_output(output: str | None, need: int) -> list[Refusal]:
    """An output that is not given, cannot be written, is in use, or has too little space."""
    if not output:
        return [Refusal("no output is given", "name the folder of the run (output: runs/name)")]
    path = Path(output)
    if path.exists() and not path.is_dir():
        return [Refusal(f"{path} is a file", "name a folder as output")]
    if current_epoch(RunFolder(path).epochs):
        return [
            Refusal(
                f"the run in {path} has begun already",
                f"go on with `fmbdask survey resume {path}`, or name another output",
            )
        ]
    existing = next(p for p in (path, *path.parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return [Refusal(f"{existing} cannot be written to", "name another output, or ask for permission")]
    free = shutil.disk_usage(existing).free
    if SPARE * need > free:
        return [
            Refusal(
                f"the results take {size(need)}, but {size(free)} are free where {path} is",
                "make room, or name an output elsewhere",
            )
        ]
    return []


def size(nbytes: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if nbytes < 1000 or unit == "TB":
            break
        nbytes /= 1000
    return f"{nbytes:.3g} {unit}"
