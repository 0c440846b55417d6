"""Who is blamed when a worker process dies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from fmbdask.store.run.units import Record, Unit
from fmbdask.survey.running.deaths import RETURN, Deaths

ADDRESS = "tcp://10.0.0.1:4000"
PROCESS = f"n1/17/{ADDRESS}"


def journal(item: int, *, over: bool = False) -> list[Record]:
    unit = Unit(0, item, 0)
    kinds = ["started", "ended"] if over else ["started"]
    return [Record(kind, unit, worker=PROCESS, generation=2) for kind in kinds]


def killed(threads: int = 1) -> Any:
    return SimpleNamespace(last_worker=SimpleNamespace(name="0", nthreads=threads))


def test_the_one_unit_in_hand_is_to_blame_once_its_process_is_replaced() -> None:
    workers = {"0": ADDRESS}
    deaths = Deaths(lambda: workers)
    assert deaths.note(journal(3), killed(), [], 0.0) is None
    assert deaths.undecided == {Unit(0, 3, 0)}
    assert deaths.decide(1.0) == []
    workers["0"] = "tcp://10.0.0.1:5000"
    (record,) = deaths.decide(2.0)
    assert (record.kind, record.cause, record.counted, record.generation) == ("lost", "lost", True, 2)
    assert deaths.undecided == set()


def test_who_is_lost_with_its_node_is_not_to_blame() -> None:
    deaths = Deaths(dict)
    deaths.note(journal(3), killed(), [], 0.0)
    assert deaths.decide(RETURN - 1) == []
    (record,) = deaths.decide(RETURN + 1)
    assert not record.counted
    assert "node" in record.note


def test_of_several_in_one_process_nobody_is_blamed() -> None:
    deaths = Deaths(dict)
    first = deaths.note(journal(3), killed(2), [journal(4), journal(5, over=True)], 0.0)
    second = deaths.note(journal(4), killed(2), [], 0.1)
    assert first is not None
    assert second is not None
    assert (first.counted, second.counted) == (False, False)
    assert deaths.undecided == set()


def test_who_had_nothing_in_hand_or_was_ended_on_purpose_is_not_to_blame() -> None:
    deaths = Deaths(dict)
    assert deaths.note([], killed(), [], 0.0) is None
    assert deaths.note(journal(1, over=True), killed(), [], 0.0) is None
    deaths.intended(PROCESS)
    assert deaths.note(journal(2), killed(), [], 0.0) is None
    assert deaths.decide(RETURN + 1) == []
