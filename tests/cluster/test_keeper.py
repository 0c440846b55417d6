"""Which jobs are given up and replaced, on a clock of the test's own."""

from __future__ import annotations

import pytest

from fmbdask.cluster.config import ClusterConfig
from fmbdask.cluster.jobs import JobState
from fmbdask.cluster.keeper import AVOID, ENDING, LOST, START, Job, Keeper
from fmbdask.cluster.scripts import pools

RUNNING = JobState("RUNNING", "n1")


def keeper(workers: int = 2) -> Keeper:
    made = Keeper(pools(ClusterConfig.model_validate({"large": {"memory": "4GB"}}), workers, 10**9))
    for number in range(1, workers + 1):
        made.placed(Job(str(number), "cpu", frozenset({f"w{number}"})))
    return made


def test_nothing_happens_while_all_is_well() -> None:
    made = keeper()
    states = {"1": RUNNING, "2": JobState("PENDING", reason="Priority")}
    for now in (0.0, 1e6):
        decisions = made.step(states, {"w1"}, now)
        assert (decisions.over, decisions.ask, decisions.said) == ([], [], [])


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("CANCELLED", "job 1 on n1 was cancelled"),
        ("NODE_FAIL", "job 1 on n1 ended because its node went down"),
        ("PREEMPTED", "job 1 on n1 was preempted"),
        ("TIMEOUT", "job 1 on n1 reached its walltime"),
        ("OUT_OF_MEMORY", "job 1 on n1 was ended by Slurm for taking more memory than it had asked for"),
    ],
)
def test_a_job_that_ended_is_replaced_and_the_reason_told(state: str, words: str) -> None:
    made = keeper()
    made.step({"1": RUNNING, "2": RUNNING}, {"w1", "w2"}, 0)
    decisions = made.step({"1": JobState(state, "n1"), "2": RUNNING}, {"w2"}, 2)
    assert [job.id for job in decisions.over] == ["1"]
    assert (decisions.cancel, decisions.ask) == ([], ["cpu"])
    assert made.placed(Job("3", "cpu", frozenset({"w3"}))) == f"{words}: job 3 takes its place"
    assert made.step({"2": RUNNING, "3": RUNNING}, {"w2", "w3"}, 4).ask == []


def test_a_job_that_is_ending_is_given_time_to_say_why() -> None:
    made = keeper(1)
    made.step({"1": RUNNING}, {"w1"}, 0)
    ending = {"1": JobState("COMPLETING", "n1")}
    assert made.step(ending, set(), 1).ask == []
    assert made.step(ending, set(), 1 + ENDING).ask == ["cpu"]


def test_a_worker_that_is_lost_while_its_job_runs_is_replaced_elsewhere() -> None:
    made = keeper(1)
    made.step({"1": RUNNING}, {"w1"}, 0)
    assert made.step({"1": RUNNING}, set(), 10).cancel == []
    assert made.step({"1": RUNNING}, {"w1"}, 20).cancel == []  # its nanny has started another process
    assert made.step({"1": RUNNING}, set(), 30).cancel == []
    decisions = made.step({"1": RUNNING}, set(), 30 + LOST)
    assert [job.id for job in decisions.cancel] == ["1"]
    assert decisions.ask == ["cpu"]
    assert made.avoided(31 + LOST) == ["n1"]
    assert made.avoided(31 + LOST + AVOID) == []
    assert "its node or network hangs" in str(made.placed(Job("2", "cpu", frozenset({"w2"}))))


def test_a_worker_that_cannot_be_killed_is_given_up_at_once() -> None:
    made = keeper(1)
    made.step({"1": RUNNING}, {"w1"}, 0)
    made.hangs("w1")
    assert [job.id for job in made.step({"1": RUNNING}, {"w1"}, 1).cancel] == ["1"]


def test_a_worker_that_never_appears_is_given_up() -> None:
    made = keeper(1)
    assert made.step({"1": RUNNING}, set(), 0).cancel == []
    decisions = made.step({"1": RUNNING}, set(), START + 1)
    assert [job.id for job in decisions.cancel] == ["1"]
    assert decisions.ask == []  # not at once again


def test_jobs_that_fail_one_after_the_other_end_the_hope() -> None:
    made = keeper(1)
    now = 0.0
    for number in range(1, 4):
        assert made.hopeless == ""
        made.step({str(number): JobState("FAILED", "n1")}, set(), now)
        now += 100
        made.placed(Job(str(number + 1), "cpu", frozenset({f"w{number + 1}"})))
    assert made.hopeless.startswith(
        "3 jobs in a row ended before their worker appeared; the last: job 3 on n1"
    )


def test_a_node_that_swallows_jobs_does_not_end_the_hope_of_others() -> None:
    made = keeper(2)
    made.step({"1": RUNNING, "2": RUNNING}, {"w1", "w2"}, 0)
    made.step({"1": RUNNING, "2": JobState("FAILED", "n9")}, {"w1"}, 1)
    for number in range(3, 9):
        made.placed(Job(str(number), "cpu", frozenset({f"w{number}"})))
        made.step({"1": RUNNING, str(number): JobState("FAILED", "n9")}, {"w1"}, number * 100.0)
    assert made.hopeless == ""
    assert made.avoided(801.0) == ["n9"]


def test_a_retired_job_is_replaced_before_it_ends() -> None:
    made = keeper(1)
    made.step({"1": RUNNING}, {"w1"}, 0)
    assert made.retire("w1") is made.jobs["1"]
    assert made.retire("w1") is None
    assert made.step({"1": RUNNING}, {"w1"}, 1).ask == ["cpu"]
    said = made.placed(Job("2", "cpu", frozenset({"w2"})))
    assert said == "job 1 on n1 nears its walltime: job 2 takes its place"
    decisions = made.step({"1": JobState("CANCELLED", "n1"), "2": RUNNING}, {"w2"}, 2)
    assert (decisions.ask, decisions.said) == ([], [])


def test_larger_jobs_come_and_go_on_demand() -> None:
    made = keeper(1)
    assert made.step({"1": RUNNING}, {"w1"}, 0).ask == []
    made.wanted["large"] = 1
    assert made.step({"1": RUNNING}, {"w1"}, 1).ask == ["large"]
    made.placed(Job("2", "large", frozenset({"l2"})))
    made.wanted["large"] = 0
    decisions = made.step({"1": RUNNING, "2": RUNNING}, {"w1", "l2"}, 2)
    assert [job.id for job in decisions.cancel] == ["2"]
    assert decisions.said == ["job 2 on n1 is not needed any more"]
