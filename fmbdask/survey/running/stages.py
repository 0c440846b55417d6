"""The stages of a run one after the other: items, then the reduction of the run, whose product is the next's.

A stage begins when the reduction of the one before has ended. What a stage made from an earlier product
begins anew when that product has become another one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from ...cluster.protocol import Cluster
from ...store.run.items import Item, ItemTable
from ...store.run.ledger import Failure
from ...store.run.units import PREPARE, REDUCE, WHOLE_RUN, Unit
from ..config import SurveyConfig
from ..pipelines.protocol import Pipeline
from .chronicle import Chronicle
from .coordinator import Coordinator, Stopped
from .leftovers import sweep
from .making import Maker, whole_run
from .pace import Pace, Report
from .policy import Policy, Setback
from .schedule import Costs, Schedule

#: Longest time of a unit, where none is given: so many times what is expected, and never less than this [s].
TIMES, LEAST = 30.0, 60.0
#: The reduction of the run may take so much longer for each item [s].
EACH = 2.0


class Stages:
    """All stages of a run.

    Parameters
    ----------
    chronicle : Chronicle
    cluster : Cluster
    pipeline : Pipeline
    items : sequence of Item
    config : SurveyConfig
    costs : callable
        (stage, item) to the expected time of its units.
    asked : callable
        Says why the run is to be stopped; nothing if it is not.
    progress : callable, optional
    """

    def __init__(
        self,
        chronicle: Chronicle,
        cluster: Cluster,
        pipeline: Pipeline,
        items: Sequence[Item],
        config: SurveyConfig,
        *,
        costs: Callable[[int, Item], Costs],
        asked: Callable[[], str],
        progress: Report | None = None,
    ) -> None:
        self.chronicle, self.pipeline, self.config, self.costs = chronicle, pipeline, config, costs
        table = ItemTable.of(items)
        self._usable = self.items = table.usable
        self.maker = Maker(chronicle, table.by_index, costs)
        unusable = len(items) - len(self.items)
        regions = sum(n * kind.units for kind, n in self.items.counts())
        self.pace = Pace(regions, len(items), failed=unusable, unusable=unusable)
        self.coordinator = Coordinator(
            chronicle,
            cluster,
            make=self.maker,
            deadline=self.deadline,
            asked=asked,
            pace=self.pace,
            progress=progress,
        )

    def run(self, last: int | None = None) -> None:
        """Do everything that is not done, up to and with a stage.

        Raises
        ------
        Stopped
            If the run stops before its end; the units in hand have ended or were given up.
        SupersededError
            If another coordinator has taken over.
        """
        count = len(self.pipeline.stages) if last is None else last + 1
        try:
            while not all(self._stage(stage) for stage in range(count)):
                pass  # a product of an earlier stage was damaged: from the beginning, what is done stays
        except Stopped:
            self.coordinator.end()
            raise

    def _stage(self, stage: int) -> bool:
        """One stage; False if products were damaged and begin anew."""
        resources = self.pipeline.stages[stage].resources
        if stage == 0:
            self.items = self._usable
        self._follow(stage)
        schedule = self.schedule(stage)
        reduced = self.chronicle.ledger.done_counts()
        self.pace.regions = sum(n for (_, item), n in reduced.items() if item != WHOLE_RUN)
        if not self.coordinator.work(schedule, resources):
            return False
        sweep(self.chronicle.folder, self.chronicle.ledger)
        self.maker.reduced = schedule.done_items
        whole = self.schedule_of_run(stage)
        if not self.coordinator.work(whole, resources):
            return False
        if whole.failed_count:
            notes = [f.note for f in self.chronicle.ledger.failures() if f.unit.item == WHOLE_RUN]
            raise Stopped(f"the catalogue could not be made ({notes[-1]}): see `fmbdask survey failures`")
        self.items = schedule.done_items
        return True

    def schedule(self, stage: int) -> Schedule:
        """What is to be done of the items in a stage."""
        ledger = self.chronicle.ledger
        return Schedule(
            stage,
            self.items,
            costs=lambda item: self.costs(stage, item),
            done=lambda index: ledger.done(stage, index),
            finished=[item for s, item in ledger.done_counts(REDUCE) if s == stage],
            failures=setbacks(ledger.failures()),
            policy=Policy(self.config.attempts),
            span=self.config.span_seconds,
        )

    def schedule_of_run(self, stage: int) -> Schedule:
        """The one unit that reduces the run in a stage."""
        ledger = self.chronicle.ledger
        return Schedule(
            stage,
            [whole_run(stage)],
            costs=lambda _: Costs(0.0, 0.0, self.seconds_of_run(stage)),
            done=lambda _: [PREPARE],
            finished=[item for s, item in ledger.done_counts(REDUCE) if (s, item) == (stage, WHOLE_RUN)],
            failures=setbacks(ledger.failures()),
            policy=Policy(self.config.attempts),
        )

    def seconds_of_run(self, stage: int) -> float:
        """Expected time of the reduction of the run: what the stage says where it says it [s]."""
        said = getattr(self.pipeline.stages[stage], "seconds_of_run", None)
        return 0.01 * len(self.maker.reduced) if said is None else float(said(self.maker.reduced))

    def deadline(self, unit: Unit) -> float:
        """Longest time that a unit may take [s]."""
        given = self.config.region_deadline
        least = LEAST if given == "auto" else given
        if unit.item == WHOLE_RUN:
            expected = TIMES * self.seconds_of_run(unit.stage)
            return LEAST + max(least, EACH * len(self.maker.reduced), expected)
        expected = self.costs(unit.stage, self.maker.items[unit.item]).of(unit)
        return least if given != "auto" and unit.kind == "map" else max(least, TIMES * expected)

    def _follow(self, stage: int) -> None:
        """Begin a stage anew where the product that it reads has become another one."""
        if not stage:
            return
        ledger, name = self.chronicle.ledger, self.pipeline.stages[stage].name
        part = ledger.part(Unit(stage - 1, WHOLE_RUN, REDUCE))
        product = part.checksum if part else ""
        before = [e.extra["product"] for e in ledger.events() if e.extra.get("reads") == stage]
        if before and before[-1] == product:
            return
        if before:
            counts = ledger.done_counts() | ledger.done_counts(PREPARE) | ledger.done_counts(REDUCE)
            for item in sorted({item for s, item in counts if s >= stage}):
                self.chronicle.anew(stage, item, "the product that it read has changed")
        before_name = self.pipeline.stages[stage - 1].name
        self.chronicle.event(
            f"{name} reads the product of {before_name}", {"reads": stage, "product": product}
        )
        self.chronicle.commit()


def setbacks(failures: Sequence[Failure]) -> dict[Unit, list[Setback]]:
    """Failures by unit, in time."""
    found: dict[Unit, list[Setback]] = defaultdict(list)
    for failure in failures:
        found[failure.unit].append(Setback(failure.cause, failure.counted, failure.final))
    return dict(found)
