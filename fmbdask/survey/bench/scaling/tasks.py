"""What is measured: surveys of made-up work, or of ramps that are simulated once, with tasks of a length."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fmbdask.store.run.folder import RunFolder
from fmbdask.survey.config import SurveyConfig
from fmbdask.survey.pipelines.protocol import Context
from fmbdask.survey.pipelines.synthetic import BASE, BLOCKS, Work, do
from fmbdask.survey.planning.calibrate import Calibration, Sample, kind_of
from fmbdask.survey.planning.plan import Plan, plan

Report = Callable[[int, int, str], None]

KINDS = ("sleep", "compute", "memory", "io", "ramps")
#: Regions of a made-up input: several, as those of exposures are.
PER_INPUT = 4
#: A pass over a block is timed for so long, so often [s].
TIMED, TIMES = 0.1, 3
#: Exposures that are simulated; the others are copies. Their frames, rows and columns, and edge of a region.
SIMULATED, SHAPE, EDGE = 2, (60, 256, 256), 128
#: Room that copies of exposures may take [byte].
ROOM = 3 * 2**30


@dataclass(frozen=True)
class Survey:
    """A survey that is ready to be run.

    Attributes
    ----------
    plan : Plan
    regions : int
    useful : str
        What counts as work: ``map`` where the rest is only the survey's own cost, ``all`` where preparing
        and reducing are science as well.
    """

    plan: Plan
    regions: int
    useful: str


class Bench:
    """Makes surveys of one kind of task in a scratch folder, which all workers see.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    folder : Path
        Exists.
    """

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.rate = 0.0 if kind in ("sleep", "ramps") else passes_per_second(kind, folder)
        self._ramps: tuple[Calibration, float] | None = None

    def survey(self, seconds: float, tasks: int, output: Path) -> Survey:
        """Plan a survey.

        Parameters
        ----------
        seconds : float
            Wanted length of a task [s].
        tasks : int
            How many of them the work is worth.
        output : Path
            Folder of the run.
        """
        if self.kind == "ramps":
            return self._of_ramps(seconds, tasks, output)
        passes = max(1, round(self.rate * seconds)) if self.rate else 1
        work = Work(task=self.kind, seconds=seconds, passes=passes)
        paths = []
        for number in range(-(-tasks // PER_INPUT)):
            regions = min(PER_INPUT, tasks - PER_INPUT * number)
            path = self.folder / f"input-{number:05d}-{regions}.json"
            if not path.exists():
                path.write_text(json.dumps({"regions": regions}))
            paths.append(str(path))
        config = SurveyConfig(
            name=f"{self.kind} {seconds:g} s",
            pipeline="synthetic",
            inputs=tuple(paths),
            output=str(output),
            options=work.model_dump(),
            span_seconds=max(seconds, 1e-3),
        )
        return Survey(plan(config, cluster="threads", calibration=declared(work)), tasks, "map")

    def _of_ramps(self, seconds: float, tasks: int, output: Path) -> Survey:
        calibration, each = self._measured()
        wanted = max(SIMULATED, round(seconds * tasks / each))
        size = max(path.stat().st_size for path in simulated(self.folder / "exposures"))
        paths = exposures(self.folder / "exposures", min(wanted, ROOM // size))
        config = self._ramp_config(paths, seconds, output)
        made = plan(config, cluster="threads", calibration=calibration)
        return Survey(made, sum(item.units for item in made.items), "all")

    def _measured(self) -> tuple[Calibration, float]:
        """What an exposure costs: measured once, as planning does it."""
        if self._ramps is None:
            paths = simulated(self.folder / "exposures")
            made = plan(self._ramp_config(paths, 1.0, self.folder / "none"), cluster="threads")
            self._ramps = made.calibration, max(item.seconds for item in made.items)
        return self._ramps

    def _ramp_config(self, paths: list[Path], seconds: float, output: Path) -> SurveyConfig:
        return SurveyConfig(
            name=f"ramps {seconds:g} s",
            inputs=tuple(map(str, paths)),
            output=str(output),
            span_seconds=max(seconds, 1e-3),
            edge=EDGE,
        )


def declared(work: Work) -> Calibration:
    """The cost of made-up work, which needs no measuring: one sample for every number of regions."""
    from fmbdask.store.run.items import Item
    from fmbdask.survey.pipelines.synthetic import SyntheticPipeline

    pipeline = SyntheticPipeline(SurveyConfig(pipeline="synthetic", options=work.model_dump()))
    item = pipeline.shaped(Item(0, "", "input.json"), (1, 1, PER_INPUT, 1), "uint8")
    return Calibration(
        (
            Sample(
                stage=0, kind=kind_of(item), nbytes=item.nbytes, pixels=PER_INPUT, regions=PER_INPUT,
                prepare=0.0, region=work.seconds, reduce=0.0, memory=BASE + 2 * BLOCKS[work.task], part=8,
                measured=0, nbytes_out=0, files=1,
            ),
        )
    )  # fmt: skip


def passes_per_second(kind: str, folder: Path) -> float:
    """How often a core, the memory or the disk of this machine goes over a block of a kind of work.

    Per second of CPU time for ``compute``, of wall time for the others; the fastest of three counts, for
    whatever else runs here only slows it down.
    """
    context, passes = Context(RunFolder(folder)), 1
    clock = time.thread_time if kind == "compute" else time.perf_counter

    def timed(count: int) -> float:
        work = Work(task=kind, passes=count)
        begin = clock()
        do(work, context)
        return max(clock() - begin, 1e-9)

    timed(1)
    while (taken := timed(passes)) < TIMED:
        passes = max(passes + 1, round(passes * min(10.0, 1.2 * TIMED / taken)))
    return passes / min(taken, *(timed(passes) for _ in range(TIMES - 1)))


def simulated(folder: Path) -> list[Path]:
    """Small exposures with events, simulated when they are first asked for."""
    from fmbdask.ramps.simulation import SimulationConfig
    from fmbdask.survey.exposures.simulate import simulate_survey

    paths = sorted(folder.glob("h2rg_*.fits"))
    if len(paths) < SIMULATED:
        folder.mkdir(exist_ok=True)
        config = SimulationConfig(num_frames=SHAPE[0], image_shape=SHAPE[1:])
        simulate_survey(config, folder, end_index=SIMULATED - 1, seed=5, workers=1, overwrite=True)
        paths = sorted(folder.glob("h2rg_*.fits"))
    return paths


def exposures(folder: Path, count: int) -> list[Path]:
    """So many exposures: those that were simulated, and copies of them in turn."""
    paths = simulated(folder)
    first = paths[:SIMULATED]
    copies = []
    for number in range(count - len(first)):
        path = folder / f"copy_{number:05d}.fits"
        if not path.exists():
            shutil.copyfile(first[number % len(first)], path)
        copies.append(path)
    return (first + copies)[:count]
