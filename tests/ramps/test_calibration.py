"""Thresholds, priors and scales against random ramps."""

from __future__ import annotations

import numpy as np
import pytest
from fmbdask_kernels.covariance import read_pattern
from scipy import special, stats

from fmbdask.ramps import calibration, detect, simulate

from ..kernels.reference import steps as dense


def statistics(frames: int, rho: float, ramps: int, seed: int) -> np.ndarray:
    """Step statistics of clean ramps of unit read noise and Poisson variance ``rho``, (ramps, frames - 1)."""
    random = np.random.default_rng(seed)
    walk = np.cumsum(np.sqrt(rho) * random.standard_normal((ramps, frames)), axis=1)
    d = np.diff(walk + random.standard_normal((ramps, frames)), axis=1)
    pattern = read_pattern(np.arange(frames, dtype=float), np.ones(frames, np.int64))
    inverse = np.linalg.inv(dense.covariance(pattern, np.arange(frames), rho))
    ones = np.ones(frames - 1)
    weight = inverse @ ones
    projected = inverse - np.outer(weight, weight) / (ones @ weight)
    return np.asarray((d @ projected) / np.sqrt(np.diag(projected)))


@pytest.mark.parametrize("frames", [4, 9, 40])
@pytest.mark.parametrize("rho", [0.005, 0.3, 20.0])
def test_thresholds_hold_for_random_ramps(frames: int, rho: float) -> None:
    pattern = read_pattern(np.arange(frames, dtype=float), np.ones(frames, np.int64))
    alpha, ramps = 0.02, 60000
    z = statistics(frames, rho, ramps, seed=frames)
    assert z.std() == pytest.approx(1, abs=0.02)
    # the bins of rho that thresholds are interpolated between
    (threshold,) = calibration.thresholds(pattern, np.array([rho]), alpha)
    share = np.mean(z.max(axis=1) > threshold)
    error = np.sqrt(alpha / ramps)
    # an upper bound that is close to exact
    assert 0.85 * alpha - 4 * error < share < alpha + 4 * error


def test_thresholds_rise_with_rarer_alarms_and_more_frames() -> None:
    def threshold(frames: int, alpha: float) -> float:
        pattern = read_pattern(np.arange(frames, dtype=float), np.ones(frames, np.int64))
        return float(calibration.thresholds(pattern, np.array([0.1]), alpha)[0])

    assert threshold(10, 1e-3) < threshold(10, 1e-5) < threshold(10, 1e-7)
    assert threshold(10, 1e-5) < threshold(100, 1e-5)
    # never less than one look at one statistic
    assert threshold(4, 1e-4) > -special.ndtri(1e-4)


def test_correlation_of_two_neighbours_is_that_of_dense_algebra() -> None:
    frames, rho = 12, 0.2
    pattern = read_pattern(np.arange(frames, dtype=float), np.ones(frames, np.int64))
    z = statistics(frames, rho, 40000, seed=1)
    expected = [np.corrcoef(z[:, k], z[:, k + 1])[0, 1] for k in range(frames - 2)]
    np.testing.assert_allclose(calibration.neighbour_correlations(pattern, rho), expected, atol=0.03)


@pytest.mark.parametrize("r", [-0.6, 0.0, 0.5, 0.99])
def test_both_above_is_the_bivariate_normal(r: float) -> None:
    expected = stats.multivariate_normal(cov=[[1, r], [r, 1]]).cdf([-1.3, -1.3])
    assert calibration.both_above(1.3, np.array([r]))[0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("dof", [4.0, 20.0, np.inf])
@pytest.mark.parametrize("nu", [3, 30])
def test_the_prior_is_recovered(dof: float, nu: int) -> None:
    random = np.random.default_rng(7)
    true = 50.0 if np.isinf(dof) else 50.0 * dof / random.chisquare(dof, 40000)
    own = true * random.chisquare(nu, 40000) / nu
    own[:200] *= 100
    variance, found, noisy = calibration.variance_prior(own, nu)
    assert variance == pytest.approx(50, rel=0.04)
    if np.isinf(dof):
        assert found > 300
    else:
        # own variances of few degrees of freedom scatter so much that little is seen of the prior's
        assert 0.6 * dof < found < 1.7 * dof or nu == 3
    assert np.mean(own[200:] > noisy * variance) < 1e-3
    assert (own[:200] > noisy * variance).mean() > 0.9 or dof == 4 or nu == 3


@pytest.mark.parametrize("values", [[], [0.0] * 20, [3.0], [np.nan, 3.0, np.inf]])
def test_a_prior_of_few_pixels(values: list[float]) -> None:
    variance, dof, noisy = calibration.variance_prior(np.array(values), 5)
    assert variance == (3.0 if 3.0 in values else 1.0)
    assert dof == 4
    assert noisy > 1


@pytest.mark.parametrize("factor", [1.0, 1.2, 1.8])
def test_the_scale_of_significances_is_measured(factor: float) -> None:
    z = statistics(20, 0.1, 20000, seed=3).max(axis=1) * factor
    z[:300] = 40  # events
    pattern = read_pattern(np.arange(20.0), np.ones(20, np.int64))
    usual, firing = (
        np.broadcast_to(calibration.thresholds(pattern, np.array([0.1]), a), z.shape) for a in (0.05, 1e-3)
    )
    assert calibration.in_situ_scale(z, usual, firing) == pytest.approx(factor, rel=0.02)


def test_skewness_of_poisson_arrivals() -> None:
    """Thresholds raised for skewness hold for photons arriving one by one."""
    random = np.random.default_rng(5)
    frames, sigma, rate, ramps = 150, 3.0, 1.5, 60000
    counted = np.cumsum(random.poisson(rate, (ramps, frames)), axis=1)
    d = np.diff(counted + sigma * random.standard_normal((ramps, frames)), axis=1)
    rho = rate / sigma**2
    pattern = read_pattern(np.arange(frames, dtype=float), np.ones(frames, np.int64))
    inverse = np.linalg.inv(dense.covariance(pattern, np.arange(frames), rho)) / sigma**2
    weight = inverse.sum(axis=0)
    projected = inverse - np.outer(weight, weight) / weight.sum()
    middle = projected[:, frames // 2]
    z = d @ middle / np.sqrt(middle[frames // 2])
    expected = calibration.skewness(np.array([rate]), np.array([sigma]), np.array([rho]))[0]
    assert stats.skew(z) == pytest.approx(expected, abs=0.03)


def test_gaussian_equivalent_keeps_probabilities() -> None:
    t = np.array([-3.0, 0.5, 2.0, 5.0])
    for nu in (5, 40):
        np.testing.assert_allclose(
            special.ndtr(-calibration.gaussian_equivalent(t, nu)), stats.t.sf(t, nu), rtol=0.06
        )


def test_clean_exposures_keep_the_stated_rate() -> None:
    """Baseline exposures with every effect of a real detector: hot pixels, 1/f noise, drifts, persistence."""
    expected = events = 0.0
    for seed in range(3):
        ramp, _ = simulate(shape=(40, 128, 128), seed=seed, baseline=True)
        found = detect(ramp, false_alarm_rate=1e-3)
        expected += found.info["false_alarms_expected"]
        events += (found.events["type"] == "cosmic_ray").sum()
    assert expected > 30
    assert 0.1 * expected < events < 2.5 * expected
