"""Steps at known frames, against dense generalised least squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fmbdask_kernels.covariance import read_pattern, timing
from fmbdask_kernels.held import held_steps
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

FLOOR = 5e-3


def dense(
    ramp: NDArray[Any], used: NDArray[np.bool_], frames: list[int], pattern: NDArray[Any], rho: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps and slope, and their covariance in units of the read variance."""
    index = np.flatnonzero(used)
    m = index.size - 1
    model = np.zeros((5, m))
    timing(pattern, index, model)
    covariance = np.diag(model[1] + rho * model[2])
    off = model[3, :-1] + rho * model[4, :-1]
    covariance += np.diag(off, 1) + np.diag(off, -1)
    columns = [((index[:-1] < k) & (k <= index[1:])).astype(float) for k in frames] + [model[0]]
    design = np.stack(columns, axis=1)
    weight = np.linalg.inv(covariance)
    inverse = np.linalg.inv(design.T @ weight @ design)
    return inverse @ design.T @ weight @ np.diff(ramp[index]), inverse


@settings(max_examples=40, derandomize=True)
@given(st.integers(8, 40), st.integers(0, 10_000), st.booleans())
def test_dense_least_squares_agrees(reads: int, seed: int, uneven: bool) -> None:
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.uniform(0.5, 2.0, reads)) if uneven else np.arange(reads)
    pattern = read_pattern(times)
    frames = np.sort(rng.choice(np.arange(2, reads - 1), 2, replace=False))
    ramp = rng.normal(0, 10, reads) + 3 * pattern[0]
    ramp += 200 * (np.arange(reads) >= frames[0]) + 70 * (np.arange(reads) >= frames[1])
    used = rng.random(reads) < 0.9
    used[[0, frames[0] - 1, *frames, -1]] = True
    if used.sum() < 7:
        return
    # no Poisson noise: rho stays at its floor; infinitely sure of the variance: errors are known
    found = held_steps(
        ramp[None], used[None], 100.0, np.inf, FLOOR, 0.0, pattern, np.array([[frames[0], frames[1], -1]])
    )
    wanted, inverse = dense(ramp.astype(np.float32), used, frames.tolist(), pattern, FLOOR)
    assert found.amplitude[0] == pytest.approx(wanted[0], rel=1e-4, abs=1e-2)
    assert found.rate[0] == pytest.approx(wanted[2], rel=1e-4, abs=1e-3)
    assert found.error[0] == pytest.approx(10 * np.sqrt(inverse[0, 0]), rel=1e-4)
    assert found.rate_error[0] == pytest.approx(10 * np.sqrt(inverse[2, 2]), rel=1e-4)
    assert found.lean[0] == pytest.approx(inverse[0, 2] / inverse[0, 0], rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("dof", [np.inf, 5.0])
def test_dense_least_squares_agrees_with_one_step(dof: float) -> None:
    """Neighbours share tables where their reads, bins and steps are equal, and only there."""
    rng = np.random.default_rng(8)
    pixels, reads = 60, 24
    pattern = read_pattern(np.arange(reads))
    ramps = rng.normal(0, 10, (pixels, reads)) + 200 * (np.arange(reads) >= 9)
    ramps[::3] += np.cumsum(rng.poisson(400.0, (20, reads)), axis=1)
    used = rng.random(ramps.shape) < np.where(np.arange(pixels) < 30, 1.0, 0.9)[:, None]
    frames = np.repeat([9, 9, 14], 20)[rng.permutation(pixels), None]
    one = held_steps(ramps, used, 100.0, dof, FLOOR, 1.0, pattern, frames)
    # a second step that no read tells of leaves the first one as it is, by another way
    both = held_steps(
        ramps, used, 100.0, dof, FLOOR, 1.0, pattern, np.concatenate([frames, 0 * frames], axis=1)
    )
    for name, a, b in zip(one._fields, one, both, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, err_msg=name)
    assert np.isfinite(one.amplitude).sum() > 50


def test_no_bias_towards_large_steps() -> None:
    """Steps of half a sigma come out right on average, and so do rates; pulls have unit width."""
    rng = np.random.default_rng(2)
    pixels, reads, frame = 4000, 50, 20
    pattern = read_pattern(np.arange(reads))
    ramps = rng.normal(0, 10, (pixels, reads)) + rng.poisson(4.0, (pixels, reads)).cumsum(axis=1)
    ramps[:, frame:] += 5
    used = np.ones(ramps.shape, bool)
    found = held_steps(ramps, used, 100.0, 50.0, 1e-4, 1.0, pattern, frame)
    for value, error, true in ((found.amplitude, found.error, 5), (found.rate, found.rate_error, 4)):
        pull = (value - true) / error
        assert abs(pull.mean()) < 4 / np.sqrt(pixels)
        assert pull.std() == pytest.approx(1, abs=0.05)


def test_a_step_at_either_end_is_not_known() -> None:
    pattern, ramps = read_pattern(np.arange(12)), np.arange(24.0).reshape(2, 12)
    used = np.ones(ramps.shape, bool)
    used[1, 6:] = False
    for frame in (0, 12):
        assert np.isnan(held_steps(ramps, used, 1.0, 5.0, FLOOR, 0.0, pattern, frame).amplitude).all()
    found = held_steps(ramps, used, 1.0, 5.0, FLOOR, 0.0, pattern, 8)
    assert np.isfinite([part[0] for part in found]).all()
    assert np.isnan([part[1] for part in found]).all()


def test_equal_steps_count_once() -> None:
    pattern = read_pattern(np.arange(20))
    ramps = np.random.default_rng(1).normal(0, 5, (1, 20))
    used = np.ones(ramps.shape, bool)
    once, twice = (
        held_steps(ramps, used, 25.0, 9.0, FLOOR, 0.0, pattern, np.array([frames]))
        for frames in ([7], [7, 7])
    )
    for one, other in zip(once, twice, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_place_of_a_ramp_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    pattern = read_pattern(np.arange(30))
    ramps = rng.normal(0, 5, (60, 30)) + rng.uniform(0, 300, (60, 1)) * np.arange(30)
    used = rng.random(ramps.shape) < 0.97
    frames = np.stack([np.full(60, 11), rng.integers(-1, 29, 60)], axis=1)
    whole = held_steps(ramps, used, 25.0, 9.0, 1e-4, 1.0, pattern, frames)
    order = rng.permutation(60)
    again = held_steps(ramps[order], used[order], 25.0, 9.0, 1e-4, 1.0, pattern, frames[order])
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one[order], other)
