"""Runs: begun from a plan, resumed, added to, tried again, stopped."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...cluster.opening import take_role
from ...errors import InputError, RunError
from ...store.run.epochs import owner_of
from ...store.run.folder import RunFolder
from ...store.run.items import Item, read_items, write_items
from ...store.run.ledger import Ledger
from ...store.run.units import WHOLE_RUN
from ..config import SurveyConfig, given_inputs, read_config
from ..planning.plan import Plan
from ..planning.plan import plan as make_plan
from .chronicle import Chronicle
from .outcome import Run
from .pace import Report
from .working import Spec, reigning, work

__all__ = ["Run", "add", "resume", "retry", "run", "stop"]

#: How long `stop` waits for the coordinator to end [s].
PATIENCE = 30.0


def run(
    plan: Plan | str | os.PathLike[str] | Mapping[str, Any] | SurveyConfig,
    *,
    cluster: Spec | None = None,
    workers: int | None = None,
    progress: Report | None = None,
) -> Run:
    """Begin a run.

    Parameters
    ----------
    plan : Plan, path, mapping or SurveyConfig
        From :func:`fmbdask.survey.planning.plan`, or a configuration that is planned first.
    cluster : str, path or ClusterConfig, optional
        Where it runs: ``local``, ``threads``, ``runner``, ``tcp://HOST:PORT`` or a YAML file; that of the
        plan by default.
    workers : int, optional
        Worker processes; those of the cluster by default.
    progress : callable, optional
        Called with (regions done, regions, text).

    Returns
    -------
    Run
        ``stopped`` says why if it ended before its end.

    Raises
    ------
    RefusedError
        If the plan cannot work.
    RunError
        If there is a run already that has begun: resume it.
    """
    made = plan if isinstance(plan, Plan) else None
    if cluster is None:
        cluster = made.cluster if made is not None else read_config(plan).cluster  # type: ignore[arg-type]
    take_role(cluster)
    if made is None:
        made = make_plan(plan, cluster=cluster, workers=workers, progress=progress)  # type: ignore[arg-type]
    folder = RunFolder(made.config.folder.absolute())
    if any(folder.epochs.glob("part-*.json")):
        raise RunError(
            f"parts of the run in {folder.path} were done by `fmbdask survey work`: go on with "
            f"`fmbdask survey resume {folder.path}`, or name another output"
        )
    folder = made.save()
    return work(folder, cluster=cluster, workers=workers, progress=progress)


def resume(
    path: str | os.PathLike[str],
    *,
    cluster: Spec | None = None,
    workers: int | None = None,
    accept_changes: bool = False,
    progress: Report | None = None,
) -> Run:
    """Go on with a run: what has ended is not done again.

    Parameters
    ----------
    path : path
        Folder of the run.
    cluster, workers, progress
        As for :func:`run`.
    accept_changes : bool
        Whether inputs that changed since the run began, or all of them if what decides about the results
        did, begin anew.

    Raises
    ------
    ChangedError
        If inputs or the configuration changed, with what did.
    RunError
        If there is no run.
    LockedError
        If another coordinator is at work.
    """
    from ..planning import changes

    folder = RunFolder.at(path)
    take_role(cluster if cluster is not None else Plan.load(folder.path).cluster)
    found = changes.compare(folder)
    if found and not accept_changes:
        changes.refuse(folder, found)
    others = changes.other_versions(folder)

    def decide(chronicle: Chronicle) -> None:
        if others:
            chronicle.event(f"other versions than when the run began: {', '.join(others)}")
        if found:
            changes.accept(chronicle, found)

    return work(
        folder,
        decide,
        cluster=cluster,
        workers=workers,
        progress=progress,
    )


def add(path: str | os.PathLike[str], inputs: Sequence[str | os.PathLike[str]]) -> int:
    """Add inputs to a run; :func:`resume` works on them.

    Parameters
    ----------
    path : path
        Folder of the run.
    inputs : sequence of path
        Files, patterns or manifests. Those that the run has already are left out.

    Returns
    -------
    int
        Number of new inputs.

    Raises
    ------
    InputError
        If nothing is found.
    LockedError
        If a coordinator is at work.
    """
    from ..pipelines import make
    from ..planning.inputs import duplicates, find, make_items
    from ..planning.project import with_costs

    folder = RunFolder.at(path)
    found, empty = find(given_inputs(Plan.load(folder.path).config, inputs))
    if not found:
        raise InputError(f"{', '.join(empty)} match nothing: name files that are there")
    with reigning(folder) as chronicle:
        plan = Plan.load(folder.path)
        pipeline = make(plan.config)
        if getattr(pipeline, "together", False):
            raise RunError(
                f"the run in {folder.path} stacks its inputs, so that none can be added: plan another run"
            )
        described = make_items(
            pipeline, found, first=len(plan.items), taken=[item.name for item in plan.items]
        )
        known = {again for _, again in duplicates(described, plan.items)}
        fresh = [item for item in described if item.path not in known]
        new = [replace(item, index=len(plan.items) + n) for n, item in enumerate(fresh)]
        if new:
            chronicle.anew(0, WHOLE_RUN, f"{len(new)} inputs were added")
            chronicle.event(f"{len(new)} inputs were added")
            chronicle.commit()
            write_items(folder.items_file, [*plan.items, *with_costs(new, pipeline, plan.calibration)])
    return len(new)


def retry(
    path: str | os.PathLike[str],
    *,
    names: Iterable[str] | None = None,
    cluster: Spec | None = None,
    workers: int | None = None,
    progress: Report | None = None,
) -> Run:
    """Try again what failed, with fresh attempts.

    Parameters
    ----------
    path : path
        Folder of the run.
    names : iterable of str, optional
        Inputs to try again; all that failed by default.
    cluster, workers, progress
        As for :func:`run`.

    Raises
    ------
    RunError
        If none of that name has failed.
    """
    folder = RunFolder.at(path)
    take_role(cluster if cluster is not None else Plan.load(folder.path).cluster)
    items = read_items(folder.items_file)
    wanted = set(names) if names is not None else None
    with Ledger.snapshot(folder) as ledger:
        failed = {failure.unit.item for failure in ledger.failures()}
    chosen = [i for i in items if i.index in failed and (wanted is None or i.name in wanted)]
    if wanted is not None and (unknown := wanted - {item.name for item in chosen}):
        raise RunError(f"{', '.join(sorted(unknown))} did not fail in the run in {folder.path}")
    if wanted is None and WHOLE_RUN in failed:
        chosen.append(Item(WHOLE_RUN, "", ""))

    def forget(chronicle: Chronicle) -> None:
        if chosen:
            chronicle.anew(0, WHOLE_RUN, "inputs that failed are tried again")
        for item in chosen:
            chronicle.retry(item.index)

    return work(folder, forget, cluster=cluster, workers=workers, progress=progress)


def stop(path: str | os.PathLike[str]) -> str:
    """Stop a run after the units in hand, and cancel its jobs; returns what happened."""
    from ...cluster.jobs import cancel_recorded

    folder = RunFolder.at(path)
    owner = owner_of(folder.epochs)
    if owner is not None:
        folder.stop_file.touch()
        until = time.monotonic() + PATIENCE
        while owner_of(folder.epochs) is not None and time.monotonic() < until:
            time.sleep(0.2)
    cancelled = cancel_recorded(folder.logs)
    if owner is None:
        said = "no coordinator is at work"
    elif owner_of(folder.epochs) is None:
        said = "its coordinator has ended"
    else:
        said = f"its coordinator (process {owner['pid']} on {owner['host']}) has not ended yet"
    said += f", {len(cancelled)} Slurm jobs were cancelled" if cancelled else ""
    return f"{folder.path}: {said}; `fmbdask survey resume {folder.path}` goes on"
