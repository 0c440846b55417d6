from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fmbdask.anomaly.levels import KNOTS, UNKNOWN, Levels
from fmbdask.errors import ConfigError

P_VALUES = st.floats(1e-300, 1.0, exclude_min=False)


@st.composite
def levels(draw: st.DrawFn) -> Levels:
    count = draw(st.integers(0, 4))
    surprise = sorted(draw(st.sets(st.integers(1, 290), min_size=count + 1, max_size=count + 1)))
    inner = sorted(draw(st.sets(st.integers(1, 99), min_size=count, max_size=count)))
    values = [0.0, *(n / 100 for n in inner), 1.0]
    first, last = sorted(draw(st.sets(st.integers(1, 100), min_size=2, max_size=2)))
    knots = tuple(zip([1.0, *(10.0**-s for s in surprise)], values, strict=True))
    return Levels(knots, first / 100, last / 100)


def test_knots_have_their_levels_exactly() -> None:
    p, level = np.array(KNOTS).T
    assert np.array_equal(Levels().score(p), level)
    assert Levels().codes(Levels().score(p)).tolist() == [0, 1, 2, 2]


@given(levels(), P_VALUES, P_VALUES)
def test_levels_fall_with_p_and_stay_between_0_and_1(one: Levels, first: float, second: float) -> None:
    low, high = one.score([min(first, second), max(first, second)])
    assert 0.0 <= high <= low <= 1.0
    assert one.codes(high) <= one.codes(low)


@given(levels(), st.floats(0.0, 1.0))
def test_p_value_is_the_inverse_of_score(one: Levels, level: float) -> None:
    assert_allclose(one.score(one.p_value(level)), level, atol=1e-9)


@given(levels(), P_VALUES)
def test_a_level_does_not_depend_on_what_is_beside_it(one: Levels, p: float) -> None:
    beside = one.score(np.array([[1e-200, p], [p, 1.0]]))
    assert beside.shape == (2, 2)
    assert beside[0, 1] == beside[1, 0] == one.score(p)


@given(levels())
def test_saved_levels_are_the_same(one: Levels) -> None:
    assert Levels.of(one.meta()) == one


def test_what_has_no_p_value_is_unknown() -> None:
    usual = Levels()
    found = usual.score([np.nan, 0.5])
    assert np.isnan(found).tolist() == [True, False]
    assert usual.codes(found).tolist() == [UNKNOWN, 0]
    assert usual.names(usual.codes(found)).tolist() == ["unknown", "normal"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"knots": ((1.0, 0.0),)}, "two knots or more"),
        ({"knots": ()}, "two knots or more"),
        ({"knots": ((0.5, 0.0), (0.1, 1.0))}, "must fall from 1"),
        ({"knots": ((1.0, 0.0), (0.0, 1.0))}, "above 0"),
        ({"knots": ((1.0, 0.0), (np.nan, 1.0))}, "must fall"),
        ({"knots": ((1.0, 0.0), (0.1, 0.5), (0.2, 1.0))}, "must fall"),
        ({"knots": ((1.0, 0.1), (0.1, 1.0))}, "must rise from 0 to 1"),
        ({"knots": ((1.0, 0.0), (0.1, 0.5), (0.01, 0.5), (0.001, 1.0))}, "must rise"),
        ({"knots": ((1.0, 0.0), (0.1, 0.9))}, "must rise from 0 to 1"),
        ({"knots": (1.0, 0.1)}, "pairs"),
        ({"warning": 0.7}, "0 < warning < critical"),
        ({"warning": 0.0}, "0 < warning < critical"),
        ({"critical": 1.5}, "0 < warning < critical"),
        ({"critical": np.nan}, "0 < warning < critical"),
        ({"critical": "high"}, "numbers"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Levels(**options)  # type: ignore[arg-type]
