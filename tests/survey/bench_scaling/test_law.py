"""The law of scalability: what was put into made-up throughputs comes back, and is inside its interval."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbdask.survey.bench.scaling.law import LARGEST, Law, fit

WORKERS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32], float)


def throughput(n: np.ndarray, rate: float, sigma: float, kappa: float) -> np.ndarray:
    return rate * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


@given(
    st.floats(1e-3, 1e4),
    st.floats(0, 0.9),
    st.one_of(st.just(0.0), st.floats(1e-6, 0.1)),
    st.integers(4, 10),
)
def test_parameters_come_back(rate: float, sigma: float, kappa: float, count: int) -> None:
    n = WORKERS[:count]
    law = fit(n, throughput(n, rate, sigma, kappa))
    assert law is not None
    assert law.rate == pytest.approx(rate, rel=1e-6)
    assert law.sigma == pytest.approx(sigma, abs=1e-5)
    assert law.kappa == pytest.approx(kappa, abs=1e-6)
    assert law(n) == pytest.approx(throughput(n, rate, sigma, kappa), rel=1e-5)


@given(
    st.lists(st.floats(0.01, 100), min_size=3, max_size=12),
    st.integers(0, 2**32 - 1),
)
def test_parameters_are_never_negative_and_lie_in_their_intervals(rates: list[float], seed: int) -> None:
    n = np.random.default_rng(seed).choice(WORKERS, len(rates))
    law = fit(n, rates)
    if len(set(n)) < 3:
        assert law is None
    elif law is not None:
        assert law.rate > 0
        for value, (low, high) in ((law.sigma, law.sigma_interval), (law.kappa, law.kappa_interval)):
            assert value >= 0
            if len(rates) > 3:
                assert 0 <= low <= value * (1 + 1e-9) + 1e-12
                assert value <= high * (1 + 1e-9) or high >= LARGEST
            else:
                assert np.isnan([low, high]).all()


def test_order_does_not_matter() -> None:
    rates = throughput(WORKERS, 3.0, 0.05, 0.002) * (1 + 0.02 * np.sin(WORKERS))
    a, b = fit(WORKERS, rates), fit(WORKERS[::-1], rates[::-1])
    assert a is not None
    assert b is not None
    assert (a.sigma, a.kappa) == pytest.approx((b.sigma, b.kappa))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(7)
    n = np.repeat([1.0, 2, 4, 8, 16], 3)
    held = np.zeros(2)
    trials = 100
    for _ in range(trials):
        law = fit(n, throughput(n, 10.0, 0.05, 0.004) * np.exp(0.03 * rng.standard_normal(len(n))))
        assert law is not None
        held += [
            law.sigma_interval[0] <= 0.05 <= law.sigma_interval[1],
            law.kappa_interval[0] <= 0.004 <= law.kappa_interval[1],
        ]
    assert (held / trials > 0.88).all()


def test_few_points_are_said_to_be_few() -> None:
    law = fit([1, 2, 4, 8], [1.0, 1.9, 3.3, 5.1])
    assert law is not None
    assert "4 points for 3 parameters" in law.text()
    none_left = fit([1, 2, 4], [1.0, 1.9, 3.3])
    assert none_left is not None
    assert "too few points" in none_left.text()
    assert fit([1, 2], [1.0, 2.0]) is None


def test_the_largest_throughput_is_where_the_law_says() -> None:
    law = Law(1.0, 0.02, 0.001, (0.0, 1.0), (0.0, 1.0), 9, 0.95)
    n = np.linspace(1, 100, 10_000)
    assert n[np.argmax(law(n))] == pytest.approx(law.peak, abs=0.02)
    assert Law(1.0, 0.1, 0.0, (0.0, 1.0), (0.0, 1.0), 9, 0.95).peak == np.inf
