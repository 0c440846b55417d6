"""Grouping of sparse steps against dense labelling."""

from __future__ import annotations

import numpy as np
from fmbdask_kernels.events import absorb_groups, group_steps
from hypothesis import given, settings
from hypothesis import strategies as st

from .reference import events as reference

places = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 6), st.booleans()), min_size=1, max_size=60
)


@settings(max_examples=200, deadline=None)
@given(places, st.sampled_from([1, 2, 3]))
def test_groups_are_those_of_a_dense_volume(points: list[tuple[int, int, int, bool]], reach: int) -> None:
    frame, y, x, strong = (np.array(v) for v in zip(*points, strict=True))
    labels = group_steps(frame, y, x, strong, reach)
    got = {frozenset(np.flatnonzero(labels == k).tolist()) for k in range(labels.max() + 1)}
    want = {frozenset(g) for g in reference.group_steps(frame, y, x, strong, reach)}
    assert got == want


@settings(max_examples=100, deadline=None)
@given(places, st.randoms(use_true_random=False))
def test_labels_do_not_depend_on_the_order(points: list[tuple[int, int, int, bool]], random: object) -> None:
    frame, y, x, strong = (np.array(v) for v in zip(*points, strict=True))
    order = np.array(random.sample(range(len(points)), len(points)))  # type: ignore[attr-defined]
    labels = group_steps(frame, y, x, strong)
    np.testing.assert_array_equal(group_steps(frame[order], y[order], x[order], strong[order]), labels[order])
    first = [
        min((frame[i], y[i], x[i], not strong[i]) for i in np.flatnonzero(labels == k)) for k in set(labels)
    ]
    assert first == sorted(first)


def test_no_steps_no_groups() -> None:
    empty = np.zeros(0, int)
    assert group_steps(empty, empty, empty, empty.astype(bool)).size == 0


def test_rows_do_not_touch_around_the_edge() -> None:
    """The last column of one row and the first of the next are far apart."""
    labels = group_steps([0, 0], [0, 1], [9, 0], [True, True])
    assert labels.tolist() == [0, 1]


def test_strong_groups_take_in_what_is_near_in_space_and_time() -> None:
    width = 20
    # an event of two pixels; a fragment two columns on; the same too late; one beside the fragment; a stray
    row = np.array([105, 106, 108, 107, 110, 189])
    start = np.array([0, 2, 3, 4, 5, 6])
    frame, reach = np.array([10, 12, 18, 11, 10]), np.array([1, 3, 3, 1, 1])
    seed = np.array([True, True, True, True, False])
    into = absorb_groups(row, start, width, frame, reach, np.full(5, 2), seed, np.arange(5), np.full(5, -1))
    assert into.tolist() == [0, 0, 2, 0, -1]
