"""What a run will do and cost, before it begins; and whether it can work at all."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...cluster.config import ClusterConfig, read_cluster
from ...errors import RunError
from ...store.catalog import versions
from ...store.run.epochs import current_epoch
from ...store.run.folder import LAYOUT, RunFolder, write_json
from ...store.run.items import ItemTable, read_items, write_items
from ..config import SurveyConfig, read_config
from ..pipelines import make
from . import refuse
from .calibrate import Calibration, calibrate, choose, kind_of
from .inputs import find, make_items
from .pinning import pinned_config
from .project import Projection, cores, project, slots_of, with_costs
from .refuse import Refusal

Report = Callable[[int, int, str], None]
#: Most processes that measure side by side: a plan may be made on a machine that others use as well.
MOST_SIDE = 4
#: What the reader of a projection should know.
NOTE = (
    "Times are those of the machine that made the plan, without the time that other programs took, but with "
    "what its cache held; a worker's memory is that of its imports and of the largest unit of each of its "
    "threads."
)


@dataclass(frozen=True)
class Plan:
    """What a run will do and cost.

    Attributes
    ----------
    config : SurveyConfig
    items : ItemTable
    calibration : Calibration
    projected : Projection
    refusals : tuple of Refusal
        Why it cannot work; :meth:`check` refuses for all of them.
    notes : tuple of str
    fingerprint : mapping
        What the results depend on beside the inputs.
    config_file : str or None
    cluster : str
        Where it is to run.
    header_seconds : float
        Time to find and describe one input [s].
    """

    config: SurveyConfig
    items: ItemTable
    calibration: Calibration
    projected: Projection
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    fingerprint: Mapping[str, Any] | None = None
    config_file: str | None = None
    cluster: str = "local"
    header_seconds: float = 0.0

    def check(self) -> None:
        """Refuse a plan that cannot work.

        Raises
        ------
        RefusedError
            With every reason and its cure.
        """
        refuse.check(self.refusals)

    @property
    def worker_memory(self) -> int:
        """Projected anonymous memory of a worker process [byte]."""
        return self.projected.worker_memory

    def as_json(self) -> dict[str, Any]:
        """What ``plan.json`` holds."""
        return {
            "name": self.config.name,
            "pipeline": self.config.pipeline,
            "output": self.config.output,
            "cluster": self.cluster,
            **self.projected.as_json(),
            "header_seconds": self.header_seconds,
            "note": NOTE,
            "notes": list(self.notes),
            "refusals": [str(refusal) for refusal in self.refusals],
            "calibration": self.calibration.as_json(),
        }

    def run_json(self) -> dict[str, Any]:
        """What ``run.json`` holds."""
        return {
            "layout": LAYOUT,
            "name": self.config.name,
            "pipeline": self.config.pipeline,
            "stages": [stage.name for stage in make(self.config).stages],
            "config": self.config.as_json(),
            "config_file": self.config_file,
            "cluster": self.cluster,
            "fingerprint": self.fingerprint,
            "versions": versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    def save(self) -> RunFolder:
        """Write the plan into the folder of the run, which begins with it.

        Raises
        ------
        RefusedError
            If it cannot work.
        RunError
            If the run has begun already.
        """
        self.check()
        folder = RunFolder(self.config.folder.absolute())
        if current_epoch(folder.epochs):
            raise RunError(
                f"the run in {folder.path} has begun already: go on with `fmbdask survey resume "
                f"{folder.path}`, or name another output"
            )
        folder.make()
        write_items(folder.items_file, self.items)
        write_json(folder.plan_file, self.as_json())
        write_json(folder.run_file, self.run_json())
        return folder

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Plan:
        """Read the plan of a run.

        Raises
        ------
        RunError
            If there is none, or it is damaged.
        """
        folder = RunFolder.at(path)
        run, planned = folder.read_json(folder.run_file), folder.read_json(folder.plan_file)
        try:
            projected = Projection(**{k: planned[k] for k in Projection.__dataclass_fields__})
            return Plan(
                config=SurveyConfig.model_validate(run["config"]),
                items=read_items(folder.items_file),
                calibration=Calibration.from_json(planned["calibration"]),
                projected=projected,
                notes=tuple(planned["notes"]),
                fingerprint=run["fingerprint"],
                config_file=run["config_file"],
                cluster=run["cluster"],
                header_seconds=planned["header_seconds"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{folder.plan_file} is damaged ({error}): plan the run anew") from None


def plan(
    config: str | os.PathLike[str] | Mapping[str, Any] | SurveyConfig,
    *,
    cluster: str | os.PathLike[str] | ClusterConfig | None = None,
    workers: int | None = None,
    calibration: Calibration | None = None,
    progress: Report | None = None,
) -> Plan:
    """Find the inputs of a survey, measure a few regions, and say what the run will take.

    Nothing is written: see :meth:`Plan.save`.

    Parameters
    ----------
    config : path, mapping or SurveyConfig
        YAML file, or its content; see :class:`~fmbdask.survey.config.SurveyConfig`.
    cluster : str, path or ClusterConfig, optional
        Where it will run; that of the configuration by default, else this machine.
    workers : int, optional
        Worker processes instead of those of the cluster.
    calibration : Calibration, optional
        What regions cost where that is known: nothing is measured then.
    progress : callable, optional
        Called with (done, total, text).

    Returns
    -------
    Plan
        Its :meth:`~Plan.check` refuses one that cannot work.

    Raises
    ------
    ConfigError
        If the configuration, the cluster or the pipeline cannot be used.
    InputError
        If a manifest cannot be read, or the network of the configuration cannot be asked.

    Examples
    --------
    >>> from fmbdask.survey.planning.plan import plan
    >>> made = plan({"inputs": ["nothing/*.fits"], "output": "runs/none"})
    >>> [str(refusal) for refusal in made.refusals]  # doctest: +ELLIPSIS
    ['there are no inputs, ...nothing/*.fits match nothing: correct inputs in the configuration']
    """
    settings = pinned_config(
        read_config(config), Path(config) if isinstance(config, str | os.PathLike) else None
    )
    spec = cluster if cluster is not None else settings.cluster or "local"
    site = read_cluster(spec if isinstance(spec, ClusterConfig) else os.fspath(spec))
    pipeline = make(settings)
    begin = time.perf_counter()
    found, empty = find(settings.inputs)
    items = make_items(pipeline, found, progress=progress)
    header_seconds = (time.perf_counter() - begin) / max(1, len(items))
    fingerprint = json.loads(json.dumps(pipeline.fingerprint()))
    refusals = refuse.of_inputs(items, empty, settings.inputs) + refuse.of_regions(pipeline, items)
    refusals += refuse.of_company(pipeline, items)
    if calibration is None:
        calibration = Calibration()
        if items.sound.any():
            side = min(cores(), slots_of(site, workers), MOST_SIDE)
            calibration = _known_calibration(settings, items, fingerprint) or calibrate(
                settings, items, side=side, progress=progress
            )
    items = with_costs(items, pipeline, calibration)
    projected = project(settings, items, calibration, site, workers)
    refusals += refuse.of_memory(projected, site) + refuse.of_walltime(projected, site)
    refusals += refuse.of_output(settings.output, projected.nbytes_out + projected.parts)
    return Plan(
        settings,
        items,
        calibration,
        projected,
        tuple(refusals),
        tuple(_notes(items, empty, calibration)),
        fingerprint,
        os.path.abspath(config) if isinstance(config, str | os.PathLike) else None,
        site.kind if isinstance(spec, ClusterConfig) else os.fspath(spec),
        header_seconds,
    )


def _notes(items: ItemTable, empty: Sequence[str], calibration: Calibration) -> list[str]:
    """What the user should know."""
    notes = [f"{pattern} matches nothing" for pattern in empty]
    bad = sorted(items.problems)
    notes += [f"{items[place].name} will fail: {items.problems[place]}" for place in bad[:5]]
    if len(bad) > 5:
        notes.append(f"{len(bad) - 5} more inputs will fail")
    notes += [f"not measured: {problem}" for problem in calibration.problems]
    notes += calibration.notes
    if len(items) and not calibration.samples:
        notes.append("nothing could be measured: times are unknown")
    return notes


def _known_calibration(
    config: SurveyConfig, items: ItemTable, fingerprint: Mapping[str, Any]
) -> Calibration | None:
    """The calibration of an earlier plan of this run, if it holds for this machine and these inputs."""
    import platform

    folder = RunFolder(Path(config.output or "")) if config.output else None
    if folder is None or not (folder.run_file.is_file() and folder.plan_file.is_file()):
        return None
    try:
        earlier = Plan.load(folder.path)
    except RunError:
        return None
    known = earlier.calibration
    measured = {(s.kind, s.nbytes) for s in known.samples}
    same = (
        dict(known.versions) == versions()
        and known.machine.get("host") == platform.node()
        and earlier.fingerprint == fingerprint
        and earlier.config.edge == config.edge
        and {(kind_of(item), item.nbytes) for item in choose(items)} <= measured
    )
    return known if same else None


def describe(made: Plan) -> str:
    """Say in lines what a run will take."""
    p = made.projected
    lines = [
        f"{made.config.name}: {made.config.pipeline}, {p.inputs} inputs"
        + (f" ({p.bad} cannot be used)" if p.bad else "")
        + f", {p.regions} regions in about {p.tasks} tasks",
        f"read {refuse.size(p.nbytes_in)}, write {refuse.size(p.nbytes_out)} in {p.files} files "
        f"and {refuse.size(p.parts)} for a while",
        f"work {p.core_hours:.3g} core-hours; about {_duration(p.wall_seconds)} with {p.slots} threads "
        f"({made.cluster})",
        f"memory of a worker {refuse.size(p.worker_memory)}: imports {refuse.size(p.imports)}, "
        f"{p.threads} x {refuse.size(p.bound)} for regions; it may use {refuse.size(p.allowance)}",
    ]
    if p.jobs:
        lines.append(f"Slurm jobs asked for: {p.jobs}")
    if p.inputs:
        lines.append(f"found and described at {1e3 * made.header_seconds:.2g} ms an input")
    return "\n".join([*lines, *made.notes])


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
