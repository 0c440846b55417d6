"""What a failure means for its unit."""

from __future__ import annotations

import pytest

from fmbdask.survey.running.policy import Policy, Setback, Verdict

POLICY = Policy(attempts=3, pause=2.0)


@pytest.mark.parametrize("cause", ["data", "code"])
def test_bad_data_and_mistakes_are_final_at_once(cause: str) -> None:
    assert POLICY.judge([Setback(cause)]).final


def test_what_the_worker_calls_final_is_final() -> None:
    assert POLICY.judge([Setback("io", final=True)]).final


def test_file_systems_are_asked_again_after_pauses_that_grow() -> None:
    verdicts = [POLICY.judge([Setback("io")] * n) for n in (1, 2, 3)]
    assert verdicts == [Verdict(pause=2.0), Verdict(pause=4.0), Verdict(final=True)]


def test_memory_is_tried_once_more_alone_with_more_of_it() -> None:
    assert POLICY.judge([Setback("memory")]) == Verdict(alone=True, large=True)
    assert POLICY.judge([Setback("memory")] * 2).final


def test_a_unit_that_hangs_is_tried_once_more_alone() -> None:
    assert POLICY.judge([Setback("deadline")]) == Verdict(alone=True)
    assert POLICY.judge([Setback("deadline")] * 2).final


def test_a_unit_whose_worker_died_is_tried_alone_with_more_memory_up_to_the_attempts() -> None:
    verdicts = [POLICY.judge([Setback("lost")] * n) for n in (1, 2, 3)]
    assert verdicts == [Verdict(alone=True, large=True)] * 2 + [Verdict(final=True)]


def test_suspects_are_repeated_alone_without_a_count() -> None:
    assert POLICY.judge([Setback("lost", counted=False)] * 5) == Verdict(alone=True)
    assert not POLICY.judge([Setback("lost", counted=False)] * 5 + [Setback("lost")] * 2).final


def test_nothing_is_repeated_for_ever() -> None:
    assert POLICY.judge([Setback("lost", counted=False)] * 50).final
    assert POLICY.judge([Setback("lost"), Setback("io"), Setback("memory")]).final
