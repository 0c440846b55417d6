"""The step detector against its dense reference, and against the truth of simulated ramps."""

from __future__ import annotations

import numpy as np
import pytest
from fmbdask_kernels.covariance import read_pattern
from fmbdask_kernels.steps import fit_steps

from .reference import steps as reference


def make_ramps(
    rng: np.random.Generator, k: int, n: int, rate: float = 0.0, sigma: float = 10.0, times: object = None
) -> np.ndarray:
    """Ramps with read noise ``sigma`` and Poisson noise of ``rate`` electrons per frame, gain 1."""
    shot = rng.poisson(rate, (k, n)).cumsum(axis=1) if rate > 0 else np.zeros((k, n))
    return np.asarray(shot + rng.normal(0, sigma, (k, n)) + rng.uniform(0, 500, (k, 1)), np.float32)


def add_steps(rng: np.random.Generator, ramps: np.ndarray, most: int, low: float, high: float) -> None:
    k, n = ramps.shape
    for p in range(k):
        for _ in range(rng.integers(0, most + 1)):
            ramps[p, rng.integers(1, n) :] += rng.choice([-1, 1]) * rng.uniform(low, high)


PATTERNS = {
    "single reads": lambda n: read_pattern(np.arange(n)),
    "averages": lambda n: read_pattern(np.arange(n) * 5.0, 4),
    "unequal": lambda n: read_pattern(np.cumsum(1.0 + np.arange(n) % 3), 1 + np.arange(n) % 3),
}


@pytest.mark.parametrize("pattern_name", PATTERNS)
@pytest.mark.parametrize("n", [4, 5, 6, 7, 12, 31, 64])
def test_equals_dense_reference(n: int, pattern_name: str) -> None:
    rng = np.random.default_rng(n)
    k, pattern = 24, PATTERNS[pattern_name](n)
    ramps = make_ramps(rng, k, n, rate=20.0)
    add_steps(rng, ramps, 4, 30, 3000)
    used = rng.random((k, n)) > 0.15
    variance = rng.uniform(80, 130, k)
    dof = rng.choice([0.0, 3.0, 40.0, np.inf], k)
    rho, poisson = rng.uniform(0, 0.5, k), rng.choice([0.0, 1.0], k)
    threshold = rng.uniform(3.5, 5.0, k)
    got = fit_steps(ramps, used, variance, dof, rho, 0.005, poisson, threshold, pattern, 5, 0)
    found = 0
    for p in range(k):
        want = reference.fit_one(
            ramps[p].astype(float), used[p], variance[p], dof[p], rho[p], 0.005, poisson[p], threshold[p],
            pattern, 5,
        )  # fmt: skip
        if want is None:
            assert got.count[p] == 0
            assert np.isnan(got.rate[p])
            continue
        c = got.count[p]
        found += c
        np.testing.assert_array_equal(got.frame[p, :c], want.frame)
        assert np.all(got.frame[p, c:] == -1)
        np.testing.assert_allclose(got.amplitude[p, :c], want.amplitude, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(got.significance[p, :c], want.significance, rtol=1e-4)
        np.testing.assert_allclose(got.rate[p], want.rate, rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(got.rate_error[p], want.rate_error, rtol=1e-4)
        np.testing.assert_allclose(got.rss[p], want.rss, rtol=1e-4, atol=0.1)
        np.testing.assert_allclose(got.rho[p], want.rho, rtol=1e-5)
    assert n < 12 or found > 5


def test_long_ramps_find_every_hit_and_nothing_else() -> None:
    """Two hits of 6 sigma in 450 frames of dark: found, in place, with the amplitude they have."""
    rng = np.random.default_rng(7)
    k, n = 1500, 450
    ramps = make_ramps(rng, k, n, rate=0.1)
    first, second = rng.integers(40, 200, k), rng.integers(250, 420, k)
    frames = np.arange(n)
    ramps += 60 * (frames >= first[:, None]) + 60 * (frames >= second[:, None])
    fit = fit_steps(ramps, np.ones((k, n), bool), 100.0, 50.0, 0.005, 0.005, 1.0, 5.0, read_pattern(frames))
    both = (fit.count == 2) & (abs(fit.frame[:, 0] - first) <= 1) & (abs(fit.frame[:, 1] - second) <= 1)
    assert both.mean() > 0.97
    pull = (fit.amplitude[both, 0] - 60) / (fit.amplitude[both, 0] / fit.significance[both, 0])
    assert abs(pull.mean()) < 0.15
    # the floor of rho allows for drifts that these ramps do not have, so errors are somewhat too large
    assert 0.6 < pull.std() < 1.0


@pytest.mark.parametrize("n", [20, 100])
def test_white_ramps_rarely_fire(n: int) -> None:
    rng = np.random.default_rng(11)
    k = 20000
    ramps = make_ramps(rng, k, n, rate=5.0)
    used = np.ones((k, n), bool)
    fit = fit_steps(ramps, used, 100.0, np.inf, 0.05, 0.005, 1.0, 4.5, read_pattern(np.arange(n)))
    # the union bound over n - 1 places, two-sided, is 6.8e-6 (n - 1)
    assert (fit.count > 0).mean() < 2 * 6.8e-6 * (n - 1)


def test_two_huge_hits_do_not_hide_each_other() -> None:
    """With a weak prior the variance left by one hit drowns the other; looking ahead finds both."""
    rng = np.random.default_rng(3)
    n = 20
    ramps = make_ramps(rng, 50, n)
    frames = np.arange(n)
    ramps += 3000.0 * (frames >= 5) + 3000.0 * (frames >= 14)
    fit = fit_steps(ramps, np.ones((50, n), bool), 100.0, 2.0, 0.005, 0.005, 0.0, 4.5, read_pattern(frames))
    assert np.all(fit.count >= 2)
    assert np.all((fit.frame == 5).any(axis=1) & (fit.frame == 14).any(axis=1))


def test_rho_follows_the_refitted_rate() -> None:
    """A hit inflates the starting ratio; the ratio of the joint fit is that of the rate alone."""
    rng = np.random.default_rng(5)
    n, rate = 100, 30.0
    ramps = make_ramps(rng, 200, n, rate=rate)
    ramps[:, 50:] += 5000
    fit = fit_steps(
        ramps, np.ones((200, n), bool), 100.0, 50.0, 1.0, 0.005, 1.0, 5.0, read_pattern(np.arange(n))
    )
    assert np.all((fit.frame == 50).any(axis=1))
    np.testing.assert_allclose(np.median(fit.rho), rate / 100, rtol=0.25)


def test_fall_is_the_most_negative_step_left_over() -> None:
    """A dense regression with the fitted steps in place says the same."""
    rng = np.random.default_rng(21)
    k, n, sigma, rho = 30, 50, 10.0, 0.05
    pattern = read_pattern(np.arange(n))
    ramps = make_ramps(rng, k, n, sigma=sigma)
    ramps[:, 20:] += 90
    ramps[: k // 2, 35:] -= 30
    used = np.ones((k, n), bool)
    got = fit_steps(ramps, used, sigma**2, np.inf, rho, 0.005, 0.0, 5.0, pattern, 5, 0)
    inverse = np.linalg.inv(reference.covariance(pattern, np.arange(n), 0.005 * 1.5**6)).astype(float)
    checked = 0
    for p in range(k):
        where = got.frame[p, : got.count[p]] - 1
        if (got.amplitude[p] < 0).any() or not where.size:
            continue
        d = np.diff(ramps[p].astype(float)) / sigma
        columns = np.column_stack([np.ones(n - 1), *np.eye(n - 1)[where]])
        weighted = inverse - inverse @ columns @ np.linalg.solve(
            columns.T @ inverse @ columns, columns.T @ inverse
        )
        information = np.diag(weighted)
        z = np.where(information > 1e-6, weighted @ d / np.sqrt(np.maximum(information, 1e-6)), 0)
        assert got.fall[p] == pytest.approx(-z.min(), rel=2e-3)
        checked += 1
    assert checked > 10
