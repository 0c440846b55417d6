"""Where the time of threads went, on schedules that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbdask.survey.bench.scaling.shares import shares
from fmbdask.survey.bench.scaling.table import where_time_went


@given(st.integers(1, 40), st.integers(2, 9), st.floats(0.01, 10), st.floats(1e-3, 5), st.floats(0, 3))
def test_gaps_of_a_regular_schedule(slots: int, waves: int, length: float, gap: float, around: float) -> None:
    """Every thread works, pauses and works again: the steady part is one period less than the run."""
    begin = np.repeat(np.arange(waves) * (length + gap), slots)
    wall = waves * length + (waves - 1) * gap + around
    found = shares(begin, begin + length, begin, slots, wall)
    assert found.most == slots
    assert found.steady == pytest.approx((waves - 1) * (length + gap))
    assert found.efficiency == pytest.approx(length / (length + gap))
    assert found.total == pytest.approx(waves * length / wall)


@given(st.integers(1, 20), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_no_share_is_above_one(slots: int, each: int, seed: int) -> None:
    """Threads that do tasks of any length, one after the other."""
    rng = np.random.default_rng(seed)
    pause, length = rng.exponential(0.1, (2, slots, each))
    end = np.cumsum(pause + length, axis=1)
    begin = (end - length).ravel()
    found = shares(begin, end.ravel(), begin, slots, float(end.max()))
    assert found.most <= slots
    assert 0 <= found.total <= 1 + 1e-9
    assert np.isnan(found.efficiency) or 0 <= found.efficiency <= 1 + 1e-9


def test_fewer_tasks_than_threads_have_no_steady_part() -> None:
    begin = np.array([0.0, 0.1])
    found = shares(begin, begin + 1, begin, slots=4, wall=1.2)
    assert found.steady == 0
    assert np.isnan(found.efficiency)
    assert found.total == pytest.approx(2 / 4.8)


def test_parts_of_the_time_make_a_whole() -> None:
    line = {
        "slots": 4, "wall": 10.0, "work": 30.0, "region_median": 1.5, "steady": 6.0, "scheduling": 0.9,
    }  # fmt: skip
    parts = where_time_went(line, region=1.0)
    assert sum(parts.values()) == pytest.approx(1)
    assert parts["work"] == pytest.approx(20 / 40)
    assert parts["slower work"] == pytest.approx(10 / 40)
    assert parts["gaps"] == pytest.approx(2.4 / 40)
