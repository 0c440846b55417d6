"""p-values of scores: monotone, in (0, 1], right for ordinary objects, and little moved by anomalies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fmbdask.anomaly.calibration import LEAST, Calibration
from fmbdask.anomaly.discovery import discoveries, largest_list
from fmbdask.errors import InputError

SCORES = arrays(np.float64, st.integers(100, 300), elements=st.floats(-1e6, 1e6, width=32))


def law(name: str, count: int, seed: int) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    drawn = {
        "normal": random.normal(size=count),
        "distance": np.sqrt(random.chisquare(60, count)),
        "heavy": random.f(60, 6, count),
        "steps": np.round(random.normal(size=count), 1),
    }
    found: NDArray[np.float64] = drawn[name]
    return found


@settings(max_examples=60, deadline=None)
@given(SCORES, st.booleans())
def test_p_values_are_monotone_and_never_zero(scores: NDArray[np.float64], positive: bool) -> None:
    scores = np.exp(scores / 1e5) if positive else scores
    calibration = Calibration.fit(scores)
    asked = np.sort(np.concatenate([scores, scores * 1.5, [-np.inf, -1e9, 0.0, 1e9, np.inf]]))
    p = calibration.p_value(asked)
    assert ((p > 0) & (p <= 1)).all()
    assert (np.diff(p) <= 0).all()
    assert np.isnan(calibration.p_value(np.array([np.nan]))).all()


@pytest.mark.parametrize("name", ["normal", "distance", "heavy", "steps"])
def test_ordinary_objects_have_even_p_values(name: str) -> None:
    calibration = Calibration.fit(law(name, 20_000, 0))
    p = calibration.p_value(law(name, 100_000, 1))
    for level in (0.5, 0.2, 0.05, 0.01):
        assert (p <= level).mean() == pytest.approx(level, rel=0.15) or level < 0.1 or name == "steps"
        assert (p <= level).mean() <= 1.15 * level
    assert (p <= 1e-4).mean() <= 2e-4
    assert (p <= 1e-3).mean() >= 1e-4 or name not in ("distance", "heavy")  # nor much too large


@pytest.mark.parametrize("name", ["normal", "distance"])
@pytest.mark.parametrize("share", [0.005, 0.0125, 0.03])
def test_anomalies_hardly_move_the_law(name: str, share: float) -> None:
    clean = law(name, 20_000, 2)
    random = np.random.default_rng(3)
    count = int(share * len(clean))
    spread = np.quantile(clean, 0.99) - np.median(clean)
    dirty = clean.copy()
    dirty[:count] = np.quantile(clean, 0.99) + spread * random.uniform(0.5, 3.0, count)
    calibration = Calibration.fit(dirty)
    high = np.quantile(law(name, 400_000, 4), [0.99, 0.999])
    np.testing.assert_array_less(calibration.p_value(high), [0.02, 0.006])
    listed = discoveries(calibration.p_value(dirty), 0.1)
    assert listed[:count].mean() > 0.7
    assert listed[count:].sum() <= 0.12 * listed.sum()


def test_the_empirical_tail_would_list_nothing() -> None:
    scores = np.concatenate([law("normal", 19_800, 5), np.full(200, 9.0)])
    rank = len(scores) - np.argsort(np.argsort(scores))
    assert not discoveries(np.maximum(rank, 200) / len(scores), 0.005).any()
    assert discoveries(Calibration.fit(scores).p_value(scores), 0.005)[-200:].all()


def test_quantiles_and_p_values_agree() -> None:
    for name in ("normal", "distance", "heavy"):
        calibration = Calibration.fit(law(name, 5000, 6))
        for probability in (0.1, 0.5, 0.89, 0.93, 0.999):
            p = calibration.p_value(np.array([calibration.quantile(probability)]))[0]
            assert p == pytest.approx(1 - probability, rel=0.02, abs=2e-3)


def test_equal_scores_are_no_anomalies() -> None:
    calibration = Calibration.fit(np.full(500, 3.0))
    assert calibration.p_value(np.array([3.0, 2.0])).tolist() == [1.0, 1.0]
    assert calibration.p_value(np.array([4.0]))[0] < 1e-6


def test_ties_count_as_equally_high() -> None:
    scores = np.repeat([0.0, 1.0, 2.0], [500, 400, 100])
    assert Calibration.fit(scores).p_value(np.array([1.0]))[0] == pytest.approx(0.5, abs=0.006)


def test_other_scores_drift_and_more_of_the_same_do_not() -> None:
    calibration = Calibration.fit(law("normal", 20_000, 7))
    same = law("normal", 3000, 8)
    assert not calibration.drift(same).drifted
    assert not calibration.drift(np.concatenate([same, np.full(60, 20.0), [np.nan]])).drifted
    assert calibration.drift(same + 0.3).drifted
    assert calibration.drift(same - 0.3).drifted
    assert calibration.drift(same * 1.5).drifted
    assert not calibration.drift(np.array([np.nan])).drifted


def test_saved_is_the_same() -> None:
    calibration = Calibration.fit(law("heavy", 2000, 9))
    again = Calibration.from_arrays(calibration.arrays())
    asked = np.linspace(-1, 50, 999)
    np.testing.assert_array_equal(again.p_value(asked), calibration.p_value(asked))
    assert again.sigma(np.array([3.0])) == calibration.sigma(np.array([3.0]))


def test_too_few_scores_are_refused() -> None:
    with pytest.raises(InputError, match="99 scores are too few"):
        Calibration.fit(np.append(np.arange(99.0), np.nan))


def test_the_least_p_value() -> None:
    assert Calibration.fit(law("normal", 200, 1)).p_value(np.array([np.inf]))[0] == LEAST


def test_lists_at_a_rate() -> None:
    p = np.array([0.9, 0.01, np.nan, 0.02, 0.5, 0.04])
    assert discoveries(p, 0.1).tolist() == [False, True, False, True, False, True]
    assert discoveries(p, 0.03).tolist() == [False] * 6
    assert discoveries(p, 0.06).tolist() == [False, True, False, True, False, False]
    assert not discoveries(np.array([0.5, 0.6, np.nan]), 0.1).any()
    assert largest_list(np.array([1e-6]), 0.1, objects=1000) == 1
    assert largest_list(np.array([1e-3]), 0.1, objects=1000) == 0
    with pytest.raises(InputError, match="false discovery rate of 1"):
        discoveries(p, 1.0)
