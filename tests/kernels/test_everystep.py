"""Significances after every read, against the dense form of the same estimate."""

from __future__ import annotations

import numpy as np
from fmbdask_kernels import covariance
from fmbdask_kernels.covariance import read_pattern
from fmbdask_kernels.everystep import LANES, every_step, step_tables
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Float = NDArray[np.float64]


def dense(above: Float, pattern: Float, rho: float) -> Float:
    """Generalised least squares of a step between reads k and k + 1 beside a free slope, over its error."""
    m = above.shape[1]
    model = np.zeros((5, m))
    covariance.timing(pattern, np.arange(m + 1), model)
    off = (model[3] + rho * model[4])[: m - 1]
    inverse = np.linalg.inv(np.diag(model[1] + rho * model[2]) + np.diag(off, 1) + np.diag(off, -1))
    slope = inverse @ model[0]
    kept = inverse - np.outer(slope, slope) / (model[0] @ slope)
    error = np.sqrt(np.maximum(np.diag(kept), 1e-30))
    return (above @ kept) / error


@settings(max_examples=25, deadline=None)
@given(
    reads=st.integers(4, 70), pixels=st.integers(1, 3 * LANES), several=st.booleans(), seed=st.integers(0, 99)
)  # fmt: skip
def test_they_are_those_of_the_dense_estimate(reads: int, pixels: int, several: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    times = np.cumsum(random.uniform(8, 12, reads))
    pattern = read_pattern(times, random.integers(1, 4, reads)) if several else read_pattern(times)
    rho = np.array([5e-3, 0.1, 3.0], np.float32)
    above = random.standard_normal((pixels, reads - 1)).astype(np.float32)
    above[random.random(above.shape) < 0.1] = 0
    bins = random.integers(0, 3, pixels)
    noise = random.uniform(1, 20, pixels).astype(np.float32)
    tables = step_tables(pattern, reads, rho)
    found = every_step(above, bins, noise, tables)
    for k in range(3):
        own = bins == k
        wanted = dense(above[own].astype(np.float64), pattern, float(rho[k])) / noise[own, None]
        assert np.allclose(found[own] * noise[own, None], wanted * noise[own, None], atol=2e-4)
    # whatever is beside them
    some = np.flatnonzero(random.random(pixels) < 0.5)
    assert np.array_equal(every_step(above[some], bins[some], noise[some], tables), found[some])


def test_a_step_is_found_with_its_size() -> None:
    pattern, rho = read_pattern(np.arange(40.0)), np.array([0.02], np.float32)
    tables = step_tables(pattern, 40, rho)
    above = np.zeros((1, 39), np.float32)
    above[0, 17] = 3.0
    z = every_step(above, np.zeros(1, np.int64), np.ones(1, np.float32), tables)[0]
    assert z.argmax() == 17
    assert abs(z[17] * tables.scale[0, 17] - 3.0) < 1e-4
