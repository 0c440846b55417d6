"""The covariance of differences: against sums over single reads, and its factors against dense algebra."""

from __future__ import annotations

import numpy as np
import pytest
from fmbdask_kernels import covariance
from fmbdask_kernels.covariance import read_pattern
from hypothesis import given
from hypothesis import strategies as st

from .reference.steps import covariance as dense


def covariance_of_reads(starts: np.ndarray, counts: np.ndarray, interval: float, rho: float) -> np.ndarray:
    """Covariance of frames that average reads, read by read; ``rho`` is per unit of time."""
    times = [start + interval * np.arange(n) for start, n in zip(starts, counts, strict=True)]
    poisson = [[np.minimum.outer(a, b).mean() for b in times] for a in times]
    return np.diag(1 / counts) + rho * np.array(poisson)


@given(
    counts=st.lists(st.integers(1, 9), min_size=2, max_size=12),
    gap=st.integers(0, 6),
    interval=st.sampled_from([1.0, 2.5]),
    rho=st.sampled_from([0.0, 0.01, 1.0, 30.0]),
)
def test_averaged_reads_equal_the_double_sum(
    counts: list[int], gap: int, interval: float, rho: float
) -> None:
    number = np.array(counts)
    starts = interval * np.concatenate([[0], np.cumsum(number + gap)[:-1]])
    middle = starts + interval * (number - 1) / 2
    unit = (middle[-1] - middle[0]) / (number.size - 1)
    pattern = read_pattern(middle, number, read_interval=interval)
    reads = covariance_of_reads(starts, number, interval, rho / unit)
    want = np.diff(np.diff(reads, axis=0), axis=1)
    np.testing.assert_allclose(dense(pattern, np.arange(number.size), rho), want, atol=1e-10 * (1 + rho))
    model = np.zeros((5, number.size - 1))
    covariance.timing(pattern, np.arange(number.size), model)
    off = (model[3] + rho * model[4])[:-1]
    got = np.diag(model[1] + rho * model[2]) + np.diag(off, 1) + np.diag(off, -1)
    np.testing.assert_allclose(got, want, atol=1e-10 * (1 + rho))


def test_read_interval_defaults_to_reads_without_pause() -> None:
    given_interval = read_pattern(np.arange(6) * 8.0, 4, read_interval=2.0)
    np.testing.assert_allclose(read_pattern(np.arange(6) * 8.0, 4), given_interval)
    single = read_pattern(np.arange(6) * 8.0)
    np.testing.assert_array_equal(single[0], single[1])


def test_poisson_ramps_have_the_stated_covariance() -> None:
    rng = np.random.default_rng(0)
    steps = rng.poisson(3.0, (40_000, 5, 6))
    frames = steps.reshape(-1, 30).cumsum(axis=1).reshape(-1, 5, 6)[:, :, :4].mean(axis=2)
    got = np.cov(np.diff(frames, axis=1).T)
    want = dense(read_pattern(np.arange(5) * 6.0, 4, read_interval=1.0), np.arange(5), 18.0)
    want -= dense(read_pattern(np.arange(5) * 6.0, 4, read_interval=1.0), np.arange(5), 0.0)
    np.testing.assert_allclose(got, want, atol=0.25)


@pytest.mark.parametrize("rho", [5e-3, 0.3, 20.0])
@pytest.mark.parametrize("m", [1, 2, 3, 10, 40])
def test_factors_equal_dense_algebra(m: int, rho: float) -> None:
    rng = np.random.default_rng(m)
    pattern = read_pattern(np.cumsum(rng.uniform(4, 9, m + 1)), rng.integers(1, 4, m + 1))
    c = dense(pattern, np.arange(m + 1), rho)
    inverse = np.linalg.inv(c)
    model = np.zeros((5, m))
    covariance.timing(pattern, np.arange(m + 1), model)
    weight, link, unit, scale, x = np.zeros((5, m))
    total = covariance.factor(model, m, rho, weight, link, unit, scale)
    d, dt = rng.normal(0, 10, m), np.diff(pattern[0])
    square = covariance.solve(d, m, weight, link, x)
    np.testing.assert_allclose(x, inverse @ d, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(unit, inverse @ dt, rtol=1e-9)
    assert square == pytest.approx(d @ inverse @ d)
    assert total == pytest.approx(dt @ inverse @ dt)
    free = np.diag(inverse) - (inverse @ dt) ** 2 / total
    if m > 1:
        np.testing.assert_allclose(scale, 1 / np.sqrt(free), rtol=1e-6)
    else:
        assert scale[0] == 0  # one difference cannot tell a step from a slope


@pytest.mark.parametrize(
    ("times", "count", "interval", "message"),
    [
        ([0.0, 1.0, 1.0], 1, None, "increasing"),
        ([0.0], 1, None, "at least two"),
        ([[0.0, 1.0]], 1, None, "increasing"),
        ([0.0, 1.0, 2.0], 0, None, "at least 1"),
        ([0.0, 1.0, 2.0], 4, 1.0, "overlap"),
        ([0.0, 1.0, 2.0], 4, -0.1, "overlap"),
    ],
)
def test_bad_patterns(times: object, count: int, interval: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pattern(times, count, interval)  # type: ignore[arg-type]
