"""Ramps that bend without a step: the algebra of smooth terms, and what the detector makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from fmbdask_kernels import covariance, projection, smooth
from fmbdask_kernels.steps import fit_steps

from .reference import steps as reference

SIGMA, WELL = 20.0, 1.2e5


def filled(charge: np.ndarray) -> np.ndarray:
    """Signal of a pixel that falls short by 6 % at the full well, and stops there."""
    charge = np.minimum(charge, WELL)
    return charge * (1 - 0.06 * charge / WELL)


def bends(rng: np.random.Generator, kind: str, k: int, n: int) -> np.ndarray:
    """Mean signal [electron] of ``k`` ramps of one kind."""
    t = np.arange(n)
    if kind == "curve":
        return filled(WELL * rng.uniform(0.3, 0.95, (k, 1)) * t / n)
    if kind == "decay":
        charge, lasting = rng.uniform(50, 2000, (k, 1)), rng.uniform(2, 30, (k, 1))
        return t + charge * (1 - np.exp(-t / lasting))
    full = rng.uniform(0.2, 0.8, (k, 1)) * n
    return rng.uniform(1, 20, (k, 1)) * t + 0.008 * filled(WELL / full * t)


def noisy(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    rise = np.maximum(np.diff(mean, axis=1, prepend=mean[:, :1]), 0)
    shot = np.cumsum(rng.normal(size=mean.shape) * np.sqrt(rise), axis=1)
    return np.asarray(mean + shot + rng.normal(0, SIGMA, mean.shape), np.float32)


def fit(ramps: np.ndarray, threshold: float = 5.0, max_smooth: int = 4):  # type: ignore[no-untyped-def]
    pattern = covariance.read_pattern(np.arange(ramps.shape[1]))
    used = np.ones(ramps.shape, bool)
    return fit_steps(ramps, used, SIGMA**2, 200.0, 0.005, 0.005, 1.0, threshold, pattern, 8, max_smooth)


@pytest.mark.parametrize("kind", ["curve", "decay", "kink"])
@pytest.mark.parametrize("n", [60, 200])
def test_bent_ramps_hold_no_steps(kind: str, n: int) -> None:
    rng = np.random.default_rng(n)
    ramps = noisy(rng, bends(rng, kind, 400, n))
    found = fit(ramps)
    assert (found.count > 0).mean() < 0.03
    assert kind == "curve" or (fit(ramps, max_smooth=0).count > 0).mean() > 0.3


@pytest.mark.parametrize("kind", ["curve", "decay", "kink"])
def test_a_hit_on_a_bent_ramp_is_found_with_its_size(kind: str) -> None:
    rng = np.random.default_rng(4)
    k, n = 300, 100
    mean = bends(rng, kind, k, n)
    at = rng.integers(20, 80, k)
    # a hit must stand out from the Poisson noise of the pixel's own rate as well
    size = 15 * np.sqrt(SIGMA**2 + (mean[:, -1:] - mean[:, :1]) / n)
    found = fit(noisy(rng, mean) + (size * (np.arange(n) >= at[:, None])).astype(np.float32))
    strongest = found.significance.argmax(axis=1)
    right = np.abs(found.frame[np.arange(k), strongest] - at) <= 1
    assert right.mean() > 0.97
    ratio = found.amplitude[np.arange(k), strongest] / size[:, 0]
    assert abs(np.median(ratio[right]) - 1) < 0.03


def test_the_rate_of_a_bent_ramp_is_its_mean() -> None:
    rng = np.random.default_rng(9)
    mean = bends(rng, "kink", 300, 100)
    found = fit(noisy(rng, mean))
    pull = (found.rate - (mean[:, -1] - mean[:, 0]) / 99) / found.rate_error
    assert (found.bends > 0).mean() > 0.9
    assert abs(pull.mean()) < 0.2
    assert 0.8 < pull.std() < 1.2


def test_straight_ramps_stay_straight() -> None:
    rng = np.random.default_rng(2)
    found = fit(noisy(rng, rng.uniform(0, 50, (3000, 1)) * np.arange(80)), threshold=4.5)
    assert (found.bends > 0).mean() < 2e-3


@pytest.mark.parametrize("pattern", ["even", "uneven"])
def test_algebra_equals_dense_regression(pattern: str) -> None:
    """Information, amplitudes and chi^2 of two steps, a kink and two shapes in one model."""
    rng = np.random.default_rng(3)
    n, rho = 40, 0.03
    times = np.arange(n) if pattern == "even" else np.cumsum(rng.uniform(0.5, 2, n))
    reads, m = covariance.read_pattern(times), n - 1
    work, model = np.zeros((projection.WORK_ROWS, n)), np.zeros((5, n))
    covariance.timing(reads, np.arange(n), model)
    dt = model[0]
    shapes = np.zeros((smooth.SHAPES, n))
    count = smooth.make_shapes(dt, m, shapes)
    d = work[projection.DIFFERENCE, :m]
    d[:] = rng.normal(0, 1, m)
    total = projection.tables(model, m, rho, work)
    of_shapes, of_kinks, scratch = np.zeros((3, n))
    smooth.informations(dt, m, total, work, shapes, count, scratch, of_shapes, of_kinks)
    inverse: np.ndarray = np.linalg.inv(reference.covariance(reads, np.arange(n), rho))
    left = inverse - np.outer(inverse @ dt[:m], inverse @ dt[:m]) / (dt[:m] @ inverse @ dt[:m])
    kinks = dt[:m] * (np.arange(m) >= np.arange(m)[:, None])
    np.testing.assert_allclose(
        of_shapes[:count], np.diag(shapes[:count, :m] @ left @ shapes[:count, :m].T), rtol=1e-7
    )
    np.testing.assert_allclose(of_kinks[1:m], np.diag(kinks @ left @ kinks.T)[1:], rtol=1e-7)

    basis, cross, inner = np.zeros((5, n)), np.zeros((5, 5)), np.zeros((5, 5))
    terms, where = np.zeros((projection.TERM_ROWS, 5)), np.zeros(5, np.int64)
    slope, rss = projection.restart(m, total, work)
    rss -= projection.add(12, 0, m, total, work, basis, cross, terms, where)
    for i, (kind, which) in enumerate([(smooth.KINK, 20), (smooth.SHAPE, 0), (smooth.SHAPE, 3)], 1):
        rss -= smooth.add_smooth(kind, which, i, dt, m, total, work, shapes, scratch, basis, cross, terms)
    rss -= projection.add(30, 4, m, total, work, basis, cross, terms, where)
    change, spread = projection.joint(5, total, cross, inner, terms)
    step = np.eye(m)
    kink = kinks[20] - kinks[20].sum() / dt[:m].sum() * dt[:m]
    design = np.column_stack([dt[:m], step[12], kink, shapes[0, :m], shapes[3, :m], step[30]])
    gram = np.linalg.inv(design.T @ inverse @ design)
    beta = gram @ design.T @ inverse @ d
    np.testing.assert_allclose(terms[projection.AMPLITUDE], beta[1:], rtol=1e-6)
    np.testing.assert_allclose(terms[projection.SPREAD], np.diag(gram)[1:], rtol=1e-6)
    np.testing.assert_allclose([slope + change, spread], [beta[0], gram[0, 0]], rtol=1e-6)
    rest = d - design @ beta
    np.testing.assert_allclose(rss, rest @ inverse @ rest, rtol=1e-7)


def test_a_ramp_does_not_depend_on_its_neighbours() -> None:
    """Tables are shared between ramps of equal reads and ratio; the bits stay the same in any order."""
    rng = np.random.default_rng(12)
    n = 60
    ramps = np.concatenate([noisy(rng, bends(rng, kind, 40, n)) for kind in ("curve", "decay", "kink")])
    used = rng.random(ramps.shape) > 0.05 * (rng.random(len(ramps)) > 0.5)[:, None]
    rho = rng.uniform(0.005, 3, len(ramps))
    order = rng.permutation(len(ramps))

    def run(at: np.ndarray):  # type: ignore[no-untyped-def]
        pattern = covariance.read_pattern(np.arange(n))
        return fit_steps(ramps[at], used[at], SIGMA**2, 50.0, rho[at], 0.005, 1.0, 4.5, pattern)

    together, shuffled = run(np.arange(len(ramps))), run(order)
    for a, b in zip(together, shuffled, strict=True):
        np.testing.assert_array_equal(a[order], b)
    alone = run(np.array([7]))
    for a, b in zip(together.at(np.array([7])), alone, strict=True):
        np.testing.assert_array_equal(a, b)
