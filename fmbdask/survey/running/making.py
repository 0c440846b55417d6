"""Tasks as workers get them: the units of an assignment with everything that they need to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from ...store.run.epochs import Reign
from ...store.run.folder import RunFolder
from ...store.run.items import Item
from ...store.run.ledger import Ledger
from ...store.run.units import PREPARE, REDUCE, WHOLE_RUN, Part, Unit
from ..worker.task import Task
from .schedule import Assignment, Costs


class Knowledge(Protocol):
    """Where the results of a run lie; see :class:`~.chronicle.Chronicle`."""

    folder: RunFolder
    reign: Reign
    ledger: Ledger

    def part(self, unit: Unit) -> Part | None:
        """Where the result of a unit lies."""

    def parts(self, stage: int, item: int) -> dict[Unit, Part]:
        """Where the results of all units of an item in a stage lie."""


@dataclass
class Maker:
    """Makes tasks.

    Attributes
    ----------
    chronicle : Knowledge
    items : mapping
        All items of the run by index.
    costs : callable
        (stage, item) to the expected time of its units.
    reduced : sequence of Item
        For the reduction of the run: the items that were reduced.
    """

    chronicle: Knowledge
    items: Mapping[int, Item]
    costs: Callable[[int, Item], Costs]
    reduced: Sequence[Item] = ()

    def __call__(self, number: int, assignment: Assignment, allowance: int) -> Task:
        """Make a task: its number is unique in the epoch, ``allowance`` the memory of its process [byte]."""
        units = assignment.units
        indices = dict.fromkeys(unit.item for unit in units)
        known: dict[Unit, Part] = {}
        if WHOLE_RUN in indices:
            items = {item.index: self.current(item) for item in self.reduced}
            items[WHOLE_RUN] = self.current(whole_run(units[0].stage))
            wanted = [Unit(units[0].stage, index, REDUCE) for index in items if index != WHOLE_RUN]
            wanted += [Unit(stage, WHOLE_RUN, REDUCE) for stage in range(units[0].stage)]
            known = {unit: part for unit in wanted if (part := self.chronicle.part(unit))}
        else:
            items = {index: self.current(self.items[index]) for index in indices}
            for index in indices:
                known |= self._known(units, items[index])
        costs = [self.costs(units[0].stage, item) for index, item in items.items() if index != WHOLE_RUN]
        seconds = {kind: max((getattr(c, kind) for c in costs), default=0.0) for kind in Costs._fields}
        seconds["map"] = seconds.pop("region")
        if WHOLE_RUN in indices:
            seconds = {}
        return Task(
            number,
            self.chronicle.reign.epoch,
            str(self.chronicle.folder.path),
            units,
            items,
            known,
            seconds,
            allowance,
        )

    def current(self, item: Item) -> Item:
        """The item with the generation that it has come to."""
        generation = max(item.generation, self.chronicle.ledger.generation(item.index))
        return item if generation == item.generation else replace(item, generation=generation)

    def _known(self, units: tuple[Unit, ...], item: Item) -> dict[Unit, Part]:
        """Results of earlier units that those of one item need."""
        stage, own = units[0].stage, {u for u in units if u.item == item.index}
        wanted = [Unit(s, index, REDUCE) for s in range(stage) for index in (item.index, WHOLE_RUN)]
        prepare = Unit(stage, item.index, PREPARE)
        if prepare not in own:
            wanted.append(prepare)
        known = {unit: part for unit in wanted if (part := self.chronicle.part(unit))}
        if Unit(stage, item.index, REDUCE) in own and len(own) < item.regions[stage] + 2:
            earlier = self.chronicle.parts(stage, item.index)
            known |= {unit: part for unit, part in earlier.items() if unit.region >= 0}
        return known


def whole_run(stage: int) -> Item:
    """The item that stands for the whole run: it has no regions."""
    return Item(WHOLE_RUN, "", "", regions=(0,) * (stage + 1))
