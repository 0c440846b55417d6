"""Pixels that are full below the stated saturation level."""

from __future__ import annotations

import numpy as np
import pytest
from fmbdask_kernels import covariance
from fmbdask_kernels.steps import fit_steps
from numpy.typing import NDArray

from fmbdask.ramps.plateaus import before_plateau

WELL, GAIN, SIGMA, LEVEL = 1.2e5, 1.9, 10.0, 65535.0


def filling(share: tuple[float, float], pixels: int, frames: int = 450, seed: int = 3) -> NDArray[np.float32]:
    """Hot pixels that are full after these shares of the ramp [DN]."""
    rng = np.random.default_rng(seed)
    rate = WELL / (rng.uniform(*share, (pixels, 1)) * frames)
    charge = np.minimum(np.cumsum(rng.poisson(np.broadcast_to(rate, (pixels, frames))), axis=1), WELL)
    signal = charge * (1 - 0.06 * charge / WELL) / GAIN + 1000
    return (signal + rng.normal(0, SIGMA, signal.shape)).astype(np.float32)


def cut(ramps: NDArray[np.float32], level: float = LEVEL) -> NDArray[np.bool_]:
    k = ramps.shape[0]
    every = np.ones(ramps.shape, bool)
    return before_plateau(ramps, every, np.full(k, level, np.float32), np.full(k, SIGMA, np.float32))


@pytest.mark.parametrize("share", [(0.05, 0.1), (0.1, 0.3)])
def test_pixels_that_fill_early_hold_no_steps(share: tuple[float, float]) -> None:
    ramps = filling(share, 150)
    used = cut(ramps)
    pattern = covariance.read_pattern(np.arange(ramps.shape[1]))

    def stepping(reads: NDArray[np.bool_]) -> float:
        found = fit_steps(ramps, reads, SIGMA**2, 200.0, 0.05, 0.001, 1 / GAIN, 5.34, pattern)
        return float(((found.amplitude > 0) & (found.frame >= 0)).any(axis=1).mean())

    assert stepping(np.ones(ramps.shape, bool)) > 0.08
    assert stepping(used) < 0.02
    assert used.sum(axis=1).min() > 0.8 * share[0] * ramps.shape[1]


def test_what_is_no_full_pixel_keeps_its_reads() -> None:
    rng = np.random.default_rng(1)
    t = np.arange(200)
    growing = 300.0 * t
    hit = np.where(t >= 60, 58000.0, 0.0)
    faint = np.minimum(100.0 * t, 8000.0)
    late_hit = np.where(t >= 60, 55000.0, 30.0 * t)
    ramps = (np.stack([growing, hit, faint, late_hit]) + 1000 + rng.normal(0, SIGMA, (4, t.size))).astype(
        "f4"
    )
    assert cut(ramps).all()
    assert cut(filling((0.1, 0.3), 5), np.inf).all()
