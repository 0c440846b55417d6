"""The two-level model against its reference, and telegraph noise told from everything else."""

# compiled functions carry no annotations
# mypy: allow-untyped-calls

from __future__ import annotations

import numpy as np
import pytest
from fmbdask_kernels import pathsum, rivals, twolevel
from fmbdask_kernels.covariance import read_pattern, timing
from fmbdask_kernels.projection import DIFFERENCE, TERM_ROWS, WORK_ROWS, restart, tables
from fmbdask_kernels.steps import Steps, fit_steps
from fmbdask_kernels.telegraph import Telegraph, fit_telegraph, is_telegraph
from numpy.typing import NDArray

from .reference import steps as dense
from .reference import telegraph as reference

Float = NDArray[np.float64]
SIGMA = 10.0


class Setting:
    """One ramp with everything the inner functions want, and the dense matrices of the reference."""

    def __init__(self, seed: int, n: int, rho: float, amplitude: float = 5.0, uneven: bool = False) -> None:
        rng = np.random.default_rng(seed)
        times = np.cumsum(1.0 + np.arange(n) % 3) if uneven else np.arange(n, dtype=float)
        self.pattern = read_pattern(times, 1 + np.arange(n) % 2 if uneven else 1)
        self.n, self.m, self.rho = n, n - 1, rho
        self.path = (np.cumsum(rng.random(n) < 0.15) % 2).astype(np.int64)
        y = amplitude * self.path + rng.normal(0, 1, n) * np.sqrt(self.pattern[2])
        y += 0.3 * self.pattern[0] + np.cumsum(rng.normal(0, np.sqrt(rho), n))
        self.y = y - y[0]
        self.d, self.dt = np.diff(self.y), np.diff(self.pattern[0])
        self.inverse = np.linalg.inv(dense.covariance(self.pattern, np.arange(n), rho)).astype(np.float64)
        self.model, self.work = np.zeros((5, n)), np.zeros((WORK_ROWS, n))
        self.reads = np.zeros((twolevel.READ_ROWS, n))
        timing(self.pattern, np.arange(n), self.model)
        self.work[DIFFERENCE, : self.m] = self.d
        self.reads[twolevel.LEVEL], self.reads[twolevel.TIME] = self.y, self.pattern[0]
        self.reads[twolevel.READ] = self.pattern[2]
        self.total = tables(self.model, self.m, rho, self.work)
        self.slope, self.rss = restart(self.m, self.total, self.work)
        twolevel.gains(self.model, n, rho, self.reads)


SETTINGS = [(1, 9, 0.005, False), (2, 40, 0.3, False), (3, 61, 0.05, True), (4, 120, 0.01, True)]


@pytest.mark.parametrize(("seed", "n", "rho", "uneven"), SETTINGS)
def test_viterbi_equals_reference(seed: int, n: int, rho: float, uneven: bool) -> None:
    s = Setting(seed, n, rho, 3.0, uneven)
    path, back = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for amplitude, cost in (
        (3.0, (0.1, 2.4, 0.1, 2.4)),
        (1.5, (0.05, 3.0, 0.4, 1.1)),
        (6.0, (0.1, 2.4, 0.1, 2.4)),
    ):
        twolevel.viterbi(s.reads, n, amplitude, s.slope, s.model, cost, back, path)
        want = reference.viterbi(s.y, s.pattern[0], s.pattern[2], rho, amplitude, s.slope, cost)
        # a path and its opposite flip at the same reads; without flips nothing tells them apart
        np.testing.assert_array_equal(np.diff(path), np.diff(want))


@pytest.mark.parametrize(("seed", "n", "rho", "uneven"), SETTINGS)
def test_refit_and_rivals_equal_dense_regression(seed: int, n: int, rho: float, uneven: bool) -> None:
    s = Setting(seed, n, rho, 5.0, uneven)
    assert s.rss == pytest.approx(reference.chi_square(s.d, s.dt, s.inverse))
    amplitude, information, _ = twolevel.refit(s.path, s.m, s.total, s.work)
    want = reference.fit_regressor(s.d, s.dt, s.inverse, np.diff(s.path).astype(float))
    assert (amplitude, information) == pytest.approx(want[:2])
    assert s.rss - amplitude**2 * information == pytest.approx(want[2])
    pulses = np.eye(s.m)[:-1] - np.eye(s.m)[1:]
    least = min(reference.fit_regressor(s.d, s.dt, s.inverse, pulse)[2] for pulse in pulses)
    assert s.rss - rivals.outlier(s.m, s.total, s.work) == pytest.approx(least)
    lasting = 0.2 * s.pattern[0, -1]
    shape = np.diff(1 - np.exp(-s.pattern[0] / lasting))
    size, _, left = reference.fit_regressor(s.d, s.dt, s.inverse, shape)
    gain, size_found = rivals.fade(lasting, s.reads, s.m, s.total, s.work)
    assert (s.rss - gain, size_found) == pytest.approx((left, size))


@pytest.mark.parametrize(("seed", "n", "rho", "uneven"), SETTINGS)
def test_positive_steps_are_bounded_by_least_squares(seed: int, n: int, rho: float, uneven: bool) -> None:
    """Dropping negative steps one by one never beats non-negative least squares, and here equals it."""
    s = Setting(seed, n, rho, 5.0, uneven)
    where = np.flatnonzero(np.diff(s.path) > 0)[:6]
    room = max(where.size, 1)
    left, _ = rivals.positive_steps(
        where, s.m, s.total, s.work, np.zeros((room, n)), np.zeros((room, room)), np.zeros((TERM_ROWS, room)),
        np.zeros(room, np.int64), np.zeros((room, room)),
    )  # fmt: skip
    assert left == pytest.approx(reference.positive_steps(s.d, s.dt, s.inverse, where.tolist()), rel=0.02)


@pytest.mark.parametrize(("seed", "n", "rho", "uneven"), SETTINGS)
def test_sum_over_paths_equals_reference(seed: int, n: int, rho: float, uneven: bool) -> None:
    s = Setting(seed, n, rho, 3.0, uneven)
    read, flat = s.pattern[2], np.zeros(n, np.int64)
    for amplitude, path, scale in ((3.0, s.path, 1.0), (0.0, flat, 1.7), (2.0, s.path, 0.8)):
        got = pathsum.filtered(s.reads, n, path, amplitude, 0.2, rho, 0.0, 0.1, 0.3, scale)
        spread = np.roots([1.0, -rho / scale, -rho / scale * read.mean()]).max()
        window = min(n, int(1.5 * (spread + read.mean()) / spread) + 1)
        level = (s.y - amplitude * path - 0.2 * s.pattern[0])[:window].mean()
        want = reference.filtered(s.y, s.pattern[0], read, float(level), amplitude, 0.2, rho, 0.1, 0.3, scale)
        assert got == pytest.approx(want)
        if amplitude == 0.0:
            alone = pathsum.filtered_flat(s.reads, n, 0.2, rho, 0.0, scale)
            assert alone == pytest.approx(want)


@pytest.mark.parametrize("dof", [0.5, 7.0, 50.0, np.inf])
def test_likelihood_is_that_of_t_distributions(dof: float) -> None:
    for m in (5, 80):
        ratio = twolevel.likelihood(1.3 * m, m, dof) - twolevel.likelihood(5.0 * m, m, dof)
        want = reference.likelihood(1.3 * m, m, dof) - reference.likelihood(5.0 * m, m, dof)
        assert ratio == pytest.approx(want)


def flips(rng: np.random.Generator, k: int, n: int, high: float, low: float) -> NDArray[np.int64]:
    """Paths of two states with geometric dwells."""
    state = rng.random(k) < high / (high + low)
    out = np.zeros((k, n), np.int64)
    for i in range(n):
        out[:, i] = state
        state ^= rng.random(k) < np.where(state, 1 / high, 1 / low)
    return out


def noise(rng: np.random.Generator, k: int, n: int, rate: float, spread: float = 0.1) -> Float:
    """Counts with read noise that differs by ``spread`` from pixel to pixel, Poisson noise and rounding."""
    sigma = SIGMA * np.exp(rng.normal(0, spread, (k, 1)))
    shot = rng.poisson(rate, (k, n)).cumsum(axis=1)
    return np.asarray(np.round(1000 + shot + sigma * rng.normal(0, 1, (k, n))))


def judge(ramps: Float, rate: float) -> tuple[Telegraph, Steps]:
    k, n = ramps.shape
    pattern, used = read_pattern(np.arange(n)), np.ones((k, n), bool)
    rho = max(rate / SIGMA**2, 0.005)
    steps = fit_steps(ramps, used, SIGMA**2, 50.0, rho, 0.005, 1.0, 4.5, pattern)
    result = fit_telegraph(ramps, used, SIGMA**2, 50.0, steps.rho, 0.005, 1.0, pattern, steps)
    return result, steps


def test_a_clear_case_is_measured() -> None:
    """Amplitude 20 sigma: the path is certain, so every figure follows from the truth."""
    rng = np.random.default_rng(2)
    k, n = 60, 120
    path = flips(rng, k, n, 8, 12)
    ramps = noise(rng, k, n, 3.0, 0.0) + 20 * SIGMA * path
    result, _ = judge(ramps, 3.0)
    found = is_telegraph(result)
    change = np.diff(path, axis=1)
    assert found.mean() > 0.95
    exact = found & (result.transitions == (change != 0).sum(axis=1))
    assert exact.mean() > 0.9
    reads = np.arange(n)
    for p in np.flatnonzero(exact):
        assert result.first_frame[p] == np.flatnonzero(change[p])[0] + 1
        assert result.downs[p] == (change[p] < 0).sum()
        assert result.duty[p] == pytest.approx(path[p].mean())
        assert result.dwell_high[p] == pytest.approx(path[p].sum() / max(result.downs[p], 1))
        rho = max(result.rate[p] / SIGMA**2, 0.005)
        inverse = np.linalg.inv(dense.covariance(read_pattern(reads), reads, rho)).astype(np.float64)
        d, dt = np.diff(ramps[p]), np.ones(n - 1)
        size, _, left = reference.fit_regressor(d, dt, inverse, change[p].astype(float))
        # the kernel keeps a rho that is within ten per cent of this one
        assert result.amplitude[p] == pytest.approx(size, rel=0.01)
        assert result.chi2[p] == pytest.approx(left / SIGMA**2, rel=0.05)
    assert np.median(result.fit_quality[exact]) > 0.9
    pull = (result.rate[exact] - 3.0) / result.rate_error[exact]
    assert abs(np.median(pull)) < 0.5
    assert np.median(abs(result.level[exact] - 1000)) < 10


@pytest.mark.parametrize(
    ("n", "rate", "amplitude", "high", "low", "least"),
    [
        (20, 0.1, 8, 4, 4, 0.80),
        (60, 0.1, 5, 3, 8, 0.93),
        (60, 0.1, 4, 3, 8, 0.83),
        (100, 0.1, 4, 2, 2, 0.88),
        (100, 5.0, 5, 10, 10, 0.97),
        (450, 0.1, 3, 10, 10, 0.98),
        (450, 0.1, 3, 2, 2, 0.93),
        (450, 20.0, 4, 10, 10, 0.97),
        (450, 0.1, 3, 60, 60, 0.88),
        (450, 20.0, 6, 5, 40, 0.97),
        (450, 5.0, 20, 3, 8, 0.99),
    ],
)
def test_telegraph_noise_is_found(
    n: int, rate: float, amplitude: float, high: float, low: float, least: float
) -> None:
    rng = np.random.default_rng(n)
    path = flips(rng, 400, n, high, low)
    path = path[(np.diff(path, axis=1) != 0).sum(axis=1) >= 3]
    result, _ = judge(noise(rng, len(path), n, rate) + amplitude * SIGMA * path, rate)
    assert is_telegraph(result).mean() > least


def test_telegraph_noise_under_a_hit_is_found() -> None:
    """A hit of 300 sigma in the middle neither hides the flips nor counts as one."""
    rng = np.random.default_rng(9)
    n = 200
    path = flips(rng, 300, n, 10, 15)
    ramps = noise(rng, 300, n, 0.1) + 6 * SIGMA * path
    ramps[:, 90:] += 3000
    result, steps = judge(ramps, 0.1)
    assert is_telegraph(result).mean() > 0.95
    assert np.median(result.amplitude) == pytest.approx(60, rel=0.05)
    assert np.all((steps.frame == 90).any(axis=1))


def impostors(rng: np.random.Generator, k: int, n: int, rate: float) -> dict[str, Float]:
    """Ramps that flip no level."""
    frames = np.arange(n)
    hits = np.zeros((k, n))
    for p, size in enumerate(rng.integers(0, 5, k)):
        for _ in range(size):
            hits[p, rng.integers(1, n) :] += np.exp(rng.uniform(np.log(30), np.log(3000)))
    lasting = n * np.exp(rng.uniform(np.log(0.03), 0, (k, 1)))
    trapped = np.exp(rng.uniform(np.log(30), np.log(3000), (k, 1)))
    fall = np.exp(-frames / lasting)
    glitch = np.zeros((k, n))
    glitch[np.arange(k), rng.integers(1, n - 1, k)] = rng.uniform(50, 500, k)
    return {
        "white": noise(rng, k, n, rate),
        "hits": noise(rng, k, n, rate) + hits,
        "hot": noise(rng, k, n, rate + 300) + hits * (rng.random((k, 1)) < 0.3),
        "decay": noise(rng, k, n, rate)
        + rng.poisson(trapped * fall * -np.expm1(-1 / lasting)).cumsum(axis=1),
        "glitch": noise(rng, k, n, rate) + glitch,
    }


@pytest.mark.parametrize(("n", "rate"), [(20, 0.1), (60, 5.0), (100, 20.0), (450, 0.1)])
def test_nothing_else_is_called_telegraph(n: int, rate: float) -> None:
    rng = np.random.default_rng(100 + n)
    k = 800
    for kind, ramps in impostors(rng, k, n, rate).items():
        result, _ = judge(ramps, rate + 300 * (kind == "hot"))
        assert is_telegraph(result).mean() <= (0.005 if n < 60 else 0.0026), kind


def test_masked_and_short_ramps() -> None:
    rng = np.random.default_rng(4)
    k, n = 100, 80
    path = flips(rng, k, n, 6, 9)
    ramps = noise(rng, k, n, 0.1) + 8 * SIGMA * path
    used = rng.random((k, n)) > 0.2
    used[:5, 6:] = False
    ramps[~used] = 65535
    pattern = read_pattern(np.arange(n))
    steps = fit_steps(ramps, used, SIGMA**2, 50.0, 0.005, 0.005, 1.0, 4.5, pattern)
    result = fit_telegraph(ramps, used, SIGMA**2, 50.0, steps.rho, 0.005, 1.0, pattern, steps)
    found = is_telegraph(result)
    assert not found[:5].any()
    assert found[5:].mean() > 0.9
    assert np.all(used[np.flatnonzero(found), result.first_frame[found]])


def test_a_hit_that_dwarfs_the_flips_is_told_apart() -> None:
    rng = np.random.default_rng(8)
    k, n, sigma = 40, 200, 10.0
    state = np.cumsum(rng.random((k, n)) < 0.06, axis=1) % 2
    ramps = rng.normal(0, sigma, (k, n)) + 6 * sigma * state + 60 * sigma * (np.arange(n) >= 90)
    pattern, used = read_pattern(np.arange(n)), np.ones((k, n), bool)
    steps = fit_steps(ramps, used, sigma**2, 50.0, 0.005, 0.005, 1.0, 5.0, pattern, 24)
    fit = fit_telegraph(ramps, used, sigma**2, 50.0, steps.rho, 0.005, 1.0, pattern, steps)
    marked = ((fit.hits & ~fit.sure)[:, None] >> np.arange(24)) & 1 > 0
    found = is_telegraph(fit)
    assert found.mean() > 0.8
    at_hit = np.abs(steps.frame - 90) <= 1
    assert np.all((marked & at_hit)[found].any(axis=1))
    assert (marked & ~at_hit)[found].any(axis=1).mean() < 0.05


def test_a_hit_no_larger_than_the_flips_is_found_by_their_alternation() -> None:
    rng = np.random.default_rng(12)
    k, n, sigma = 60, 120, 10.0
    path = flips(rng, k, n, 12, 12)
    path = path[(np.diff(path, axis=1) != 0).sum(axis=1) >= 4]
    ramps = rng.normal(0, sigma, path.shape) + 9 * sigma * path + 11 * sigma * (np.arange(n) >= 60)
    pattern, used = read_pattern(np.arange(n)), np.ones(path.shape, bool)
    steps = fit_steps(ramps, used, sigma**2, 50.0, 0.005, 0.005, 1.0, 4.5, pattern, 24)
    fit = fit_telegraph(ramps, used, sigma**2, 50.0, steps.rho, 0.005, 1.0, pattern, steps)
    found = is_telegraph(fit)
    assert found.mean() > 0.95
    assert np.median(fit.amplitude[found]) == pytest.approx(90, rel=0.1)
    assert (fit.sure[found] > 0).mean() > 0.5
    assert np.all(fit.hits & fit.sure == fit.sure)


def test_short_excursions_to_one_level_are_flips_when_there_are_many() -> None:
    rng = np.random.default_rng(13)
    k, n = 40, 120
    path = np.zeros((k, n), np.int64)
    for p in range(k):
        for i, at in enumerate(rng.choice(np.arange(4, n - 4, 4), 8, replace=False)):
            path[p, at : at + 1 + (i < 3)] = 1
    result, _ = judge(noise(rng, k, n, 0.1, 0.0) + 9 * SIGMA * path, 0.1)
    assert is_telegraph(result).mean() > 0.8
    assert not is_telegraph(result, min_dwell_often=1.5).any()
