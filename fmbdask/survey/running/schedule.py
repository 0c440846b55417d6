"""Which units are done next: the state of one stage of a run, without files, processes or clocks.

Items are worked on in their order, those begun first, so that few of them have results that wait. An item
that is not open costs one byte; one that is, a byte a region. Small items are done whole, several in one
task; a large one begins with what its regions share, goes on in spans that run side by side, and ends with
its reduction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...store.run.items import Item, ItemTable
from ...store.run.units import PREPARE, REDUCE, WHOLE_RUN, Unit
from .policy import Policy, Setback, Verdict

#: The work that is left is cut into at least so many tasks a slot, none of them shorter than this [s].
PIECES, SHORTEST = 4, 0.5
#: Up to this part of a task more is done in it rather than begin another one.
_REMAINDER = 0.5


#: States of a unit, and of an item. (Members of an enumeration are slow to look up, and there are millions.)
TODO, FLIGHT, HELD, DONE, FAILED = range(5)


class Costs(NamedTuple):
    """Expected time of the units of an item in a stage [s]."""

    prepare: float
    region: float
    reduce: float

    def of(self, unit: Unit) -> float:
        """Expected time of one unit [s]."""
        return self[("prepare", "map", "reduce").index(unit.kind)]

    def whole(self, regions: int) -> float:
        """Expected time of an item [s]."""
        return self.prepare + regions * self.region + self.reduce


class Assignment(NamedTuple):
    """Units that one task does, in this order."""

    units: tuple[Unit, ...]
    seconds: float
    alone: bool = False
    large: bool = False


class _Again(NamedTuple):
    """How, and not before when, a unit is repeated."""

    verdict: Verdict
    after: float


class _Open:
    """An item in work: the state of each region, then that of reduce and of prepare."""

    def __init__(self, item: Item, costs: Costs, regions: int) -> None:
        self.item, self.costs = item, costs
        self.codes: NDArray[np.uint8] = np.full(regions + 2, TODO, np.uint8)
        self._counts = [0] * 5
        self._counts[TODO] = regions

    def set(self, region: int, state: int) -> None:
        """Change the state of a unit."""
        if region >= 0:
            self._counts[self.codes[region]] -= 1
            self._counts[state] += 1
        self.codes[region] = state

    def mapped(self) -> bool:
        """Whether all regions ended."""
        return self._counts[DONE] == len(self.codes) - 2

    def busy(self) -> bool:
        """Whether regions are in flight or held back."""
        return bool(self._counts[FLIGHT] or self._counts[HELD])

    def possible(self, region: int) -> bool:
        """Whether what a unit needs is there."""
        if region == PREPARE:
            return True
        return bool(self.codes[PREPARE] == DONE) and (region >= 0 or self.mapped())

    def ready(self) -> bool:
        """Whether there is a unit to be done that can be begun now."""
        if self.codes[PREPARE] == TODO:
            return True
        return bool(self.codes[PREPARE] == DONE) and (
            self._counts[TODO] > 0 or (self.mapped() and bool(self.codes[REDUCE] == TODO))
        )

    def piece(self, stage: int, budget: float, spent: float) -> list[Unit]:
        """Units that fit into a task of which some time is spent; none if nothing does."""
        room = budget - spent
        first = [PREPARE] if self.codes[PREPARE] == TODO else []
        todo = np.flatnonzero(self.codes[:-2] == TODO)
        need = self.costs.prepare * len(first) + self.costs.region * len(todo) + self.costs.reduce
        last: list[int] = []
        if (
            not self.busy()
            and self.codes[REDUCE] == TODO
            and (need <= room + (0.0 if spent else _REMAINDER * budget) or not (spent or first or len(todo)))
        ):
            last = [REDUCE]
        elif spent and first:  # a large item is not begun at the end of a task
            return []
        else:
            fits = int((room - self.costs.prepare * len(first)) / max(self.costs.region, 1e-9))
            todo = todo[: max(fits, 0 if spent else 1)]
        return [Unit(stage, self.item.index, int(r)) for r in (*first, *todo, *last)]


class Schedule:
    """The units of one stage: to be done, in flight, held back, done and failed.

    Parameters
    ----------
    stage : int
    items : sequence of Item
        Those that take part, in their order.
    costs : callable
        Item to :class:`Costs`.
    done : callable
        Index of an item to the regions that ended, :data:`PREPARE` and :data:`REDUCE` among them.
    finished : iterable of int
        Indices of the items whose reduction ended.
    failures : mapping
        Unit to its failures so far.
    policy : Policy
    span : float
        Wanted length of a task [s].
    """

    def __init__(
        self,
        stage: int,
        items: Sequence[Item],
        *,
        costs: Callable[[Item], Costs],
        done: Callable[[int], Iterable[int]],
        finished: Iterable[int] = (),
        failures: Mapping[Unit, Sequence[Setback]] | None = None,
        policy: Policy | None = None,
        span: float = 5.0,
    ) -> None:
        self.stage, self.span = stage, span
        self.policy = policy or Policy()
        self._items = ItemTable.of(items)
        self._costs, self._done = costs, done
        self._states = np.full(len(items), TODO, np.uint8)
        self._open: dict[int, _Open] = {}
        self._ready: set[int] = set()
        self._cursor = 0
        self._history: dict[Unit, list[Setback]] = {}
        self._again: dict[Unit, _Again] = {}
        self._states[np.isin(self._items.indices, list(finished))] = DONE
        self._left = int(np.count_nonzero(self._states == TODO))
        for unit, setbacks in (failures or {}).items():
            place = self._items.place(unit.item)
            if unit.stage == stage and place is not None and self._states[place] == TODO:
                self._history[unit] = list(setbacks)
                verdict = self.policy.judge(setbacks)
                if verdict.final:
                    self._close(unit.item, FAILED)
                else:
                    self._again[unit] = _Again(verdict, 0.0)
        #: expected time of what is not in flight yet [s]
        self.remaining = sum(
            n * costs(kind).whole(kind.regions[stage]) for kind, n in self._items.counts(self._states == TODO)
        )

    @property
    def over(self) -> bool:
        """Whether every item is done or failed."""
        return self._left == 0

    @property
    def of_items(self) -> bool:
        """Whether it is of items, not of the reduction of the run."""
        return self._items.place(WHOLE_RUN) is None

    @property
    def done_items(self) -> ItemTable:
        """The items that were reduced."""
        return self._items.where(self._states == DONE)

    @property
    def failed_items(self) -> ItemTable:
        """The items that failed."""
        return self._items.where(self._states == FAILED)

    @property
    def done_count(self) -> int:
        """Number of items that were reduced."""
        return int(np.count_nonzero(self._states == DONE))

    @property
    def failed_count(self) -> int:
        """Number of items that failed."""
        return int(np.count_nonzero(self._states == FAILED))

    @property
    def open_items(self) -> list[Item]:
        """Items in work: results of their regions wait for the reduction."""
        return [opened.item for opened in self._open.values()]

    def next(self, now: float, slots: int) -> Assignment | None:
        """The units of the next ordinary task, which become in flight; None while nothing can be begun.

        Parameters
        ----------
        now : float
            Time of any clock that only goes on [s].
        slots : int
            Tasks that run side by side.
        """
        for unit in [u for u, a in self._again.items() if not a.verdict.alone and a.after <= now]:
            del self._again[unit]
            self._set(unit, TODO)
        budget = min(self.span, max(self.remaining / (PIECES * max(slots, 1)), SHORTEST))
        units: list[Unit] = []
        seconds = 0.0
        for opened in self._candidates():
            piece = opened.piece(self.stage, budget, seconds)
            if not piece:
                break
            for unit in piece:
                opened.set(unit.region, FLIGHT)
                seconds += opened.costs.of(unit)
            self._settle(opened)
            units += piece
            if seconds >= budget:
                break
        self.remaining = max(self.remaining - seconds, 0.0)
        return Assignment(tuple(units), seconds) if units else None

    def alone(self, now: float) -> Assignment | None:
        """A unit that is to be repeated with nothing beside it, which becomes in flight; None without one."""
        for unit, again in self._again.items():
            if not again.verdict.alone or again.after > now:
                continue
            opened = self._opened(unit.item)
            if opened is not None and opened.possible(unit.region):
                del self._again[unit]
                self._set(unit, FLIGHT)
                return Assignment((unit,), opened.costs.of(unit), True, again.verdict.large)
        return None

    def ended(self, unit: Unit) -> None:
        """Note that a unit has its result."""
        self._history.pop(unit, None)
        self._again.pop(unit, None)
        if unit.item in self._open:
            self._set(unit, DONE)
            if unit.region == REDUCE:
                self._close(unit.item, DONE)

    def failed(self, unit: Unit, setback: Setback, now: float) -> Verdict:
        """Note a failure of a unit and say what becomes of it."""
        history = self._history.setdefault(unit, [])
        history.append(setback)
        verdict = self.policy.judge(history)
        if unit.item in self._open:
            if verdict.final:
                self._close(unit.item, FAILED)
            else:
                self._hold(unit, verdict, now + verdict.pause)
        return verdict

    def release(self, units: Iterable[Unit]) -> None:
        """Say that a task is over: its units that neither ended nor failed are to be done again."""
        for unit in units:
            opened = self._open.get(unit.item)
            if opened is None or opened.codes[unit.region] != FLIGHT:
                continue
            verdict = self.policy.judge(self._history[unit]) if unit in self._history else Verdict()
            if verdict.alone:
                self._hold(unit, verdict, 0.0)
            else:
                self._again_todo(opened, unit)

    def void(self, units: Iterable[Unit]) -> None:
        """Say that results were found damaged: they are to be made again."""
        for unit in units:
            opened = self._open.get(unit.item)
            if opened is not None and opened.codes[unit.region] == DONE:
                self._again_todo(opened, unit)

    def _again_todo(self, opened: _Open, unit: Unit) -> None:
        """A unit is to be done once more."""
        self._set(unit, TODO)
        self.remaining += opened.costs.of(unit)

    def _hold(self, unit: Unit, verdict: Verdict, after: float) -> None:
        """Keep a unit back until it is repeated as it must be."""
        self._set(unit, HELD)
        self._again[unit] = _Again(verdict, after)

    def _set(self, unit: Unit, state: int) -> None:
        """Change the state of a unit, and whether its item has work."""
        opened = self._opened(unit.item)
        if opened is not None:
            opened.set(unit.region, state)
            self._settle(opened)

    def _settle(self, opened: _Open) -> None:
        """Find out whether an item has work that can be begun."""
        (self._ready.add if opened.ready() else self._ready.discard)(opened.item.index)

    def _candidates(self) -> Iterator[_Open]:
        """Items with work that can be begun, in their order; new ones are opened when they are asked for."""
        for index in sorted(self._ready):
            yield self._open[index]
        while self._cursor < len(self._items):
            index = int(self._items.indices[self._cursor])
            self._cursor += 1
            known = index in self._open
            opened = self._opened(index)
            if opened is not None and not known and index in self._ready:
                yield opened

    def _place(self, index: int) -> int:
        """Where an item of this stage is."""
        place = self._items.place(index)
        if place is None:
            raise KeyError(index)
        return place

    def _opened(self, index: int) -> _Open | None:
        """The state of an item in work, loaded when it is first asked for; None if it is done or failed."""
        place = self._place(index)
        if index not in self._open and self._states[place] < DONE:
            item = self._items[place]
            opened = _Open(item, self._costs(item), item.regions[self.stage])
            for region in self._done(index):
                opened.set(region, DONE)
            for unit in self._again:
                if unit.item == index:
                    opened.set(unit.region, HELD)
            self._open[index] = opened
            self._states[place] = FLIGHT
            if opened.ready():
                self._ready.add(index)
        return self._open.get(index)

    def _close(self, index: int, state: int) -> None:
        """An item is done or failed: nothing more of it is begun."""
        place = self._place(index)
        if self._states[place] >= DONE:
            return
        self._states[place] = state
        self._left -= 1
        self._open.pop(index, None)
        self._ready.discard(index)
        for unit in [u for u in self._again if u.item == index]:
            del self._again[unit]
