"""Moderated variance, the Gaussian equivalent of Student's t, and the bins of rho."""

from __future__ import annotations

import numpy as np
import pytest
from fmbdask_kernels.covariance import read_pattern
from fmbdask_kernels.lanes import LANES
from fmbdask_kernels.noise import gaussian_equivalent, rho_bin, rho_bins, standardise, standardise_lanes
from fmbdask_kernels.tables import make_tables
from scipy import stats

F = np.float32


@pytest.mark.parametrize("nu", [8, 20, 100, 450])
@pytest.mark.parametrize("t", [-6.0, -1.0, 0.0, 0.5, 2.0, 4.5, 8.0])
def test_gaussian_equivalent_of_student_t(nu: int, t: float) -> None:
    want = -stats.norm.ppf(stats.t.sf(t, nu)) if t < 0 else stats.norm.isf(stats.t.sf(t, nu))
    assert gaussian_equivalent(F(t), F(nu)) == pytest.approx(want, rel=0.01, abs=0.01)


def test_series_and_logarithm_meet() -> None:
    t = np.sqrt(0.05 * 100) * np.array([1 - 1e-6, 1 + 1e-6])
    below, above = (gaussian_equivalent(F(v), F(100)) for v in t)
    assert below == pytest.approx(above, rel=1e-5)


def test_lanes_equal_single_pixels() -> None:
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 40, LANES).astype(F)
    rss = (raw**2 + rng.uniform(0, 30_000, LANES)).astype(F)
    variance, dof, noisy = (np.full(LANES, v, F) for v in (100.0, 30.0, 3.0))
    z, noise, t, nu = np.zeros((4, LANES), F)
    standardise_lanes(raw, rss, 60, variance, dof, noisy, z, noise, t, nu)
    own = (rss.astype(float) - raw.astype(float) ** 2) / 58
    assert (own > 300).any()
    assert (own < 300).any()
    for j in range(LANES):
        want = standardise(float(raw[j]), float(rss[j]), 60, 100.0, 30.0, 3.0)
        assert (z[j], noise[j]) == pytest.approx(want, rel=1e-4)
        pooled = own[j] if own[j] > 300 else (58 * own[j] + 30 * 100) / 88
        assert noise[j] == pytest.approx(pooled, rel=1e-4)


def test_bins_of_rho() -> None:
    tables = make_tables(read_pattern(np.arange(8)), 5e-3)
    rng = np.random.default_rng(0)
    slope = (10 ** rng.uniform(-3, 5, LANES) * rng.choice([-1, 1], LANES)).astype(F)
    poisson, variance = np.full(LANES, 0.7, F), np.full(LANES, 90.0, F)
    bins = np.zeros(LANES, np.int32)
    last = rho_bins(slope, poisson, variance, tables.edges, np.zeros(LANES, F), bins)
    want = np.searchsorted(tables.edges, slope * F(0.7) / F(90.0))
    np.testing.assert_array_equal(bins, want)
    assert last == want.max()
    for j in range(LANES):
        assert rho_bin(slope[j], F(0.7), F(90.0), tables.edges) == want[j]
    inner = (want > 0) & (want < tables.rho.size - 1)
    ratio = slope[inner] * 0.7 / 90 / tables.rho[want[inner]]
    assert (np.abs(np.log(ratio)) <= np.log(1.5) / 2 + 1e-6).all()
