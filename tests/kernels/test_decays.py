"""One early step against one decaying current."""

from __future__ import annotations

import numpy as np
from fmbdask_kernels.covariance import read_pattern, timing
from fmbdask_kernels.decays import step_or_decay
from numpy.typing import NDArray

FRAMES, STEPS, LASTING = 40, 6, (2.0, 7.0, 20.0)
SIGMA, RHO = 10.0, 0.02


def reference(ramp: NDArray[np.float32], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Generalised least squares with matrices."""
    index = np.flatnonzero(used)
    model = np.zeros((5, index.size - 1))
    timing(read_pattern(np.arange(FRAMES)), index, model)
    off = (model[3] + RHO * model[4])[:-1]
    inverse = np.linalg.inv(np.diag(model[1] + RHO * model[2]) + np.diag(off, 1) + np.diag(off, -1))
    slope = inverse @ model[0]
    project = inverse - np.outer(slope, slope) / (model[0] @ slope)
    d = np.diff(ramp[index].astype(float))

    def gain(shape: NDArray[np.float64]) -> float:
        moment = shape @ project @ d
        return float(moment**2 / (shape @ project @ shape) / SIGMA**2) if moment > 0 else 0.0

    out = np.zeros(STEPS + len(LASTING))
    for i, frame in enumerate(index[1:]):
        if frame <= STEPS:
            out[frame - 1] = gain(np.eye(index.size - 1)[i])
    for i, lasting in enumerate(LASTING):
        out[STEPS + i] = gain(np.diff(1 - np.exp(-(index - index[0]) / lasting)))
    return out


def test_gains_are_those_of_matrices() -> None:
    rng = np.random.default_rng(3)
    ramps = rng.normal(500, SIGMA, (20, FRAMES)).astype(np.float32)
    ramps[:8, 3:] += 60
    ramps[8:14] += (80 * (1 - np.exp(-np.arange(FRAMES) / 5))).astype(np.float32)
    used = np.ones(ramps.shape, bool)
    used[::3, 4] = False
    used[5, 30:] = False
    found = step_or_decay(ramps, used, SIGMA**2, RHO, read_pattern(np.arange(FRAMES)), STEPS, LASTING)
    wanted = np.array([reference(r, u) for r, u in zip(ramps, used, strict=True)])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
    assert found[:8, 2].mean() > found[:8, STEPS:].max(axis=1).mean() + 4
    assert found[8:14, STEPS:].max(axis=1).mean() > found[8:14, :STEPS].max(axis=1).mean()


def test_a_ramp_without_reads_explains_nothing() -> None:
    ramps = np.ones((2, FRAMES), np.float32)
    used = np.zeros(ramps.shape, bool)
    used[1, :3] = True
    pattern = read_pattern(np.arange(FRAMES))
    assert not step_or_decay(ramps, used, 1.0, RHO, pattern, STEPS, LASTING).any()
