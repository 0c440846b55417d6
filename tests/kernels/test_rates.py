"""Rates and their errors: against dense algebra, and as they scatter."""

from __future__ import annotations

import numpy as np
import pytest
from fmbdask_kernels.covariance import read_pattern
from fmbdask_kernels.planes import SLOPE
from fmbdask_kernels.rate_tables import make_rates
from fmbdask_kernels.rates import rates
from fmbdask_kernels.stepped import drift_covariance, rates_with_steps
from fmbdask_kernels.tables import make_offsets, make_prior, make_tables
from fmbdask_kernels.temporal import temporal_features
from hypothesis import given, settings
from hypothesis import strategies as st

from .reference import rates as dense
from .reference.steps import covariance

UNEVEN = read_pattern([1.0, 2.5, 4.5, 6.5, 9.0, 12.5, 17.0, 19.0], [1, 2, 2, 2, 3, 4, 3, 1], 1.0)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    even=st.booleans(),
    light=st.sampled_from([0.0, 1.0, 300.0]),
    drift=st.sampled_from([0.0, 0.01]),
    dof=st.sampled_from([4.0, 1e6]),
    count=st.integers(0, 2),
    flips=st.booleans(),
)
def test_ramps_with_steps_and_gaps_equal_dense_algebra(
    seed: int, even: bool, light: float, drift: float, dof: float, count: int, flips: bool
) -> None:
    rng = np.random.default_rng(seed)
    pattern = read_pattern(np.arange(14)) if even else UNEVEN
    n = pattern.shape[1]
    steps = sorted(rng.choice(np.arange(1, n), count, replace=False).tolist())
    ramp = 20 * rng.standard_normal(n) + np.cumsum(rng.poisson(light, n))
    used = rng.random(n) < 0.9
    used[[0, 1, n - 2, n - 1]] = True
    begins = np.zeros(n, bool)
    begins[steps] = True
    for k in steps:
        ramp[k:] += 1e4
    high = rng.random(n) < 0.5 if flips and n > 10 else np.zeros(n, bool)
    ramp = (ramp + 200 * high).astype(np.float32).astype(np.float64)
    want = dense.with_steps(ramp, used, steps, 400.0, dof, 4.0, 1.0, pattern, drift, high.astype(float))
    got = rates_with_steps(
        ramp[None], used[None], begins[None], 400.0, dof, 4.0, 1.0, pattern, drift, high[None]
    )
    np.testing.assert_allclose([g[0] for g in got], want, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(("reads", "light"), [(1, 1e4), (16, 1.0)], ids=["bright", "averaged"])
def test_long_ramps_equal_dense_algebra(reads: int, light: float) -> None:
    """Determinants of their covariances are beyond what a number holds, above or below."""
    rng = np.random.default_rng(5)
    n, begins = 400, np.arange(400) == 150
    pattern = read_pattern(np.arange(n), reads)
    ramp = 20 * rng.standard_normal(n) / reads**0.5 + np.cumsum(rng.poisson(light, n))
    ramp = ramp.astype(np.float32).astype(np.float64)
    every = np.ones(n, bool)
    want = dense.with_steps(ramp, every, [150], 400.0, 9.0, 4.0, 1.0, pattern, 0.0, np.zeros(n))
    got = rates_with_steps(ramp[None], every[None], begins[None], 400.0, 9.0, 4.0, 1.0, pattern)
    np.testing.assert_allclose([g[0] for g in got], want, rtol=2e-5)


def test_the_neighbours_of_a_ramp_do_not_change_a_bit_of_its_rate() -> None:
    """Ramps that end early, miss reads, step or have two levels share the lanes in many ways."""
    rng = np.random.default_rng(8)
    k, n = 50, 40
    ramps = np.rint(15 * rng.standard_normal((k, n)) + np.cumsum(rng.poisson(3.0, (k, n)), axis=1))
    used = np.arange(n) < rng.choice([0, 1, 2, 3, 17, 30, n], k)[:, None]
    used[::7] &= rng.random((used[::7].shape[0], n)) < 0.8
    begins, high = rng.random((2, k, n)) < 0.1
    high[::3] = False
    variance, pattern = rng.uniform(100, 300, k), read_pattern(np.arange(n))
    together = rates_with_steps(ramps, used, begins, variance, 9.0, 4.0, 1.0, pattern, 0.01, high)
    alone = [
        rates_with_steps(
            ramps[i : i + 1], used[i : i + 1], begins[i : i + 1], variance[i], 9.0, 4.0, 1.0, pattern, 0.01,
            high[i : i + 1],
        )
        for i in range(k)
    ]  # fmt: skip
    np.testing.assert_array_equal(together, np.concatenate(alone, axis=1))
    assert np.isfinite(together).sum() > k


def test_what_has_no_two_reads_on_a_level_has_no_rate() -> None:
    ramp = np.arange(4.0)[None]
    every = np.ones((1, 4), bool)
    rate, error = rates_with_steps(ramp, every, every, 1.0, 10.0, 4.0, 0.0, read_pattern(np.arange(4)))
    assert np.isnan(rate[0])
    assert np.isnan(error[0])
    one = np.array([[True, False, False, False]])
    assert np.isnan(
        rates_with_steps(ramp, one, ~every, 1.0, 10.0, 4.0, 0.0, read_pattern(np.arange(4)))[0][0]
    )


@pytest.mark.parametrize("pattern", [read_pattern(np.arange(40)), UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("drift", [0.0, 0.02])
def test_tables_hold_the_variance_of_both_rates(pattern: np.ndarray, drift: float) -> None:
    n = pattern.shape[1]
    tables = make_tables(pattern, 5e-3)
    parts = make_rates(pattern, tables, drift)
    every = np.arange(n)
    d = np.diff(np.eye(n), axis=0)
    read = covariance(pattern, every, 0.0) + drift * d @ dense.pink(pattern[0]) @ d.T
    photon = covariance(pattern, every, 1.0) - covariance(pattern, every, 0.0)
    plain = tables.slope_weight
    for r in (0, 4, 15):
        left, best, _ = dense.projector(pattern, every, [], float(tables.rho[r]))
        for got, one in ((parts.read, read), (parts.photon, photon)):
            want = plain @ one @ plain, best @ one @ best, plain @ one @ best
            np.testing.assert_allclose(got[:, r], want, rtol=1e-4)
        assert parts.poisson[r] == pytest.approx(np.sum(left * photon), rel=1e-4)
        assert parts.white[r] == pytest.approx(np.sum(left * read), rel=1e-4)


def look(data: np.ndarray, pattern: np.ndarray, sigma: float, drift: float) -> tuple[np.ndarray, ...]:
    n, rows, columns = data.shape
    tables = make_tables(pattern, 5e-3)
    prior = make_prior(columns, sigma**2, 30.0, 4.0, 1.0, sigma**2)
    offsets = make_offsets(tables, columns, rows)
    planes = temporal_features(data, np.arange(n), tables, prior, offsets, pattern=pattern)
    parts = make_rates(pattern, tables, drift)
    return planes, *rates(data, np.arange(n), planes, prior, tables, offsets, parts)


@pytest.mark.parametrize("frames", [20, 120])
@pytest.mark.parametrize(("light", "drift"), [(0.05, 0.0), (2.0, 0.0), (60.0, 0.0), (0.5, 0.02)])
def test_rates_scatter_as_little_as_they_can_and_as_they_say(frames: int, light: float, drift: float) -> None:
    """Generalised least squares with everything known is the ideal."""
    rng = np.random.default_rng(3)
    pattern, sigma, n = read_pattern(np.arange(frames)), 20.0, 6400
    ramps = np.cumsum(rng.poisson(light, (frames, n)), axis=0) + sigma * rng.standard_normal((frames, n))
    d = np.diff(np.eye(frames), axis=0)
    model = covariance(pattern, np.arange(frames), light / sigma**2)
    if drift:
        slow = drift_covariance(np.arange(frames))
        ramps += sigma * np.sqrt(drift) * np.linalg.cholesky(slow + 30.0) @ rng.standard_normal((frames, n))
        model += drift * d @ slow @ d.T
    ideal = sigma / np.sqrt(np.ones(frames - 1) @ np.linalg.solve(model, np.ones(frames - 1)))
    data = np.rint(ramps + 5000).astype(np.uint16).reshape(frames, 80, 80)
    _, rate, error = look(data, pattern, sigma, drift)
    assert (rate - light).std() == pytest.approx(ideal, rel=0.04)
    assert ((rate - light) / error).std() == pytest.approx(1, abs=0.04)
    assert abs((rate - light).mean()) < 0.05 * ideal


def test_an_outlier_has_its_weight_in_the_slope() -> None:
    """The search leaves outlying differences out of its slope; one side of a spike alone would tilt it."""
    rng = np.random.default_rng(4)
    data = np.rint(5000 + 20 * rng.standard_normal((100, 4, 128))).astype(np.uint16)
    data[30, 2, 7] += 110
    data[31, 2, 7] -= 40
    planes, rate, error = look(data, read_pattern(np.arange(100)), 20.0, 0.0)
    assert abs(planes[SLOPE, 2, 7]) > 6 * error[2, 7]
    assert abs(rate[2, 7]) < 4 * error[2, 7]
