"""The order of work: whatever happens, each unit ends once or its item fails; nothing done is repeated."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fmbdask.store.run.items import Item
from fmbdask.store.run.units import PREPARE, REDUCE, Unit
from fmbdask.survey.running.policy import Policy, Setback
from fmbdask.survey.running.schedule import Assignment, Costs, Schedule


def made_up(*regions: int, start: int = 0) -> list[Item]:
    return [Item(i, f"item{i}", f"{i}.fits", regions=(n,)) for i, n in enumerate(regions, start)]


def flat(seconds: float) -> Costs:
    return Costs(seconds, seconds, seconds)


def scheduled(items: list[Item], seconds: float = 1.0, span: float = 5.0, **more: object) -> Schedule:
    settings: dict[str, object] = {"done": lambda index: (), "span": span, **more}
    return Schedule(0, items, costs=lambda item: flat(seconds), **settings)  # type: ignore[arg-type]


def regions(task: Assignment | None) -> list[tuple[int, int]]:
    assert task is not None
    return [(u.item, u.region) for u in task.units]


def finish(schedule: Schedule, task: Assignment) -> None:
    for unit in task.units:
        schedule.ended(unit)
    schedule.release(task.units)


def test_small_items_are_done_whole_and_several_in_a_task() -> None:
    schedule = scheduled(made_up(*[1] * 100), seconds=0.5)
    assert regions(schedule.next(0, 2)) == [
        (i, r) for i in range(3) for r in (PREPARE, 0, REDUCE)
    ]  # 4.5 s of 5 s


def test_a_large_item_begins_with_what_its_regions_share_and_ends_with_its_reduction() -> None:
    schedule = scheduled(made_up(20, 20, 20))
    first = schedule.next(0, 1)
    assert regions(first) == [(0, PREPARE), (0, 0), (0, 1), (0, 2), (0, 3)]
    other = schedule.next(0, 1)
    assert regions(other)[0] == (1, PREPARE)
    assert first is not None
    finish(schedule, first)
    assert regions(schedule.next(0, 1)) == [(0, r) for r in range(4, 9)]
    rest = [schedule.next(0, 1) for _ in range(2)]
    assert [regions(task)[0] for task in rest] == [(0, 9), (0, 14)]
    assert (0, REDUCE) not in regions(rest[1])  # others are still in flight


def test_items_that_began_come_first() -> None:
    schedule = scheduled(made_up(*[8] * 20), span=2.0)
    begun = []
    for _ in range(100):
        task = schedule.next(0, 1)
        assert task is not None
        begun.append(len(schedule.open_items))
        finish(schedule, task)
    assert max(begun) <= 2


def test_tasks_shrink_where_little_is_left_for_each_slot() -> None:
    many, few = scheduled(made_up(64), 0.25), scheduled(made_up(64), 0.25)
    first, second = many.next(0, 1), few.next(0, 8)
    assert first is not None
    assert second is not None
    assert second.seconds < first.seconds


def test_a_unit_that_is_repeated_alone_does_not_come_with_others() -> None:
    schedule = scheduled(made_up(3), seconds=0.01)
    task = schedule.next(0, 1)
    assert task is not None
    schedule.ended(Unit(0, 0, PREPARE))
    schedule.failed(Unit(0, 0, 1), Setback("memory"), 0)
    schedule.release(task.units)
    assert regions(schedule.next(0, 1)) == [(0, 0), (0, 2)]  # the reduction waits
    alone = schedule.alone(0)
    assert alone is not None
    assert (regions(alone), alone.alone, alone.large) == ([(0, 1)], True, True)
    assert schedule.next(0, 1) is None


def test_input_and_output_pause() -> None:
    schedule = scheduled(made_up(1), seconds=0.01)
    task = schedule.next(0, 1)
    assert task is not None
    schedule.failed(Unit(0, 0, PREPARE), Setback("io"), 10.0)
    schedule.release(task.units)
    assert schedule.next(10.0, 1) is None
    assert regions(schedule.next(12.0, 1)) == [(0, PREPARE), (0, 0), (0, REDUCE)]


def test_results_found_damaged_are_made_again_before_the_reduction() -> None:
    done = {0: {PREPARE, 0, 1, 2}}
    schedule = scheduled(made_up(3), done=lambda i: done[i])
    task = schedule.next(0, 1)
    assert regions(task) == [(0, REDUCE)]
    schedule.void([Unit(0, 0, 1)])
    schedule.failed(Unit(0, 0, REDUCE), Setback("io"), 0)
    assert regions(schedule.next(0, 1)) == [(0, 1)]
    schedule.ended(Unit(0, 0, 1))
    assert regions(schedule.next(5, 1)) == [(0, REDUCE)]


def test_a_million_regions_cost_little_before_they_are_needed() -> None:
    import tracemalloc

    items = made_up(*[1000] * 1000)
    tracemalloc.start()
    schedule = scheduled(items, 0.05)
    schedule.next(0, 16)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < 2**20


def test_an_item_of_a_million_regions_is_cut_into_tasks() -> None:
    schedule = scheduled(made_up(1_000_000), 0.01)
    task = schedule.next(0, 4)
    assert task is not None
    finish(schedule, task)
    sizes = [len(t.units) for t in (schedule.next(0, 4) for _ in range(20)) if t]
    assert sizes == [500] * 20


@settings(max_examples=150)
@given(
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=8),
    seconds=st.floats(0.01, 4.0),
    slots=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
    trouble=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_whatever_happens_each_unit_ends_once_or_its_item_fails(
    counts: list[int], seconds: float, slots: int, seed: int, trouble: float
) -> None:
    """Tasks end, fail, are left, lose their worker, and the coordinator dies, in any order."""
    random = np.random.default_rng(seed)
    items = made_up(*counts, start=3)
    ended: dict[int, set[int]] = {item.index: set() for item in items}
    failures: dict[Unit, list[Setback]] = {}
    policy = Policy(pause=1.0)

    def begun() -> Schedule:
        finished = [i for i, done in ended.items() if REDUCE in done]
        return scheduled(
            items, seconds, done=lambda i: ended[i], finished=finished, failures=failures, policy=policy
        )

    schedule, flight, now = begun(), list[Assignment](), 0.0
    executions: Counter[Unit] = Counter()
    for _ in range(5000):
        now += 1.0
        while len(flight) < 2 * slots:
            task = schedule.alone(now) or schedule.next(now, slots)
            if task is None:
                break
            assert task.units
            held = {u for t in flight for u in t.units}
            assert not held & set(task.units), "a unit is in two tasks"
            for unit in task.units:
                assert unit.region not in ended[unit.item], "a unit that ended is done again"
            flight.append(task)
        if schedule.over and not flight:
            break
        if not flight:
            continue
        task = flight.pop(int(random.integers(len(flight))))
        begin = set(ended[task.units[0].item])
        skipped: set[int] = set()
        for unit in task.units:
            if unit.item in skipped:
                continue
            done = ended[unit.item]
            if unit.region != PREPARE:
                assert PREPARE in done, "a region before what it needs"
            if unit.region == REDUCE:
                regions_of = items[unit.item - 3].regions[0]
                assert set(range(regions_of)) <= done, "a reduction before its regions"
            executions[unit] += 1
            if random.random() < trouble:
                fate = random.choice(["data", "io", "memory", "deadline", "lost", "suspect", "left", "died"])
                if fate in ("left", "died"):
                    break
                setback = Setback("lost", counted=False) if fate == "suspect" else Setback(str(fate))
                failures.setdefault(unit, []).append(setback)
                schedule.failed(unit, setback, now)
                skipped.add(unit.item)
                if fate in ("lost", "suspect", "deadline"):
                    break
                continue
            done.add(unit.region)
            failures.pop(unit, None)
            schedule.ended(unit)
        schedule.release(task.units)
        assert begin <= ended[task.units[0].item]
        if random.random() < trouble / 4:  # the coordinator is killed, and another one goes on
            schedule, flight = begun(), []
    assert schedule.over
    for item in items:
        complete = ended[item.index] == {PREPARE, REDUCE, *range(item.regions[0])}
        lost = any(policy.judge(h).final for u, h in failures.items() if u.item == item.index)
        assert complete != lost
    assert {i.index for i in schedule.done_items} == {i for i, d in ended.items() if REDUCE in d}
    if not trouble:
        assert set(executions.values()) <= {1}
        assert schedule.failed_count == 0
