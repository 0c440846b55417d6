"""What can only be seen on a GPU: the same results there, streamed blocks, and whole detections."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fmbdask_kernels import rate_tables
from fmbdask_kernels import rates as cpu_rates
from fmbdask_kernels.cupy.card import missing
from fmbdask_kernels.temporal import temporal_features

from fmbdask.ramps import detect, simulate

from ..test_temporal import NOISE, make_block
from .compare import assert_same, told
from .test_streaming import check, make

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(missing() is not None, reason=f"{missing()}")]


def compare(seed: int, frames: int, ny: int, nx: int, dtype: Any = np.uint16, **masks: Any) -> None:
    """Hold the kernels of the GPU against those of the CPU."""
    import cupy

    block = make_block(seed, frames, ny, nx, noise=12.0, gradient=seed % 3 > 0)
    data, used, tables, prior, offsets = told(block)
    data = data.astype(dtype)
    want = temporal_features(data, used, tables, prior, offsets, pattern=block.pattern, **masks)
    there = {k: cupy.asarray(v) for k, v in masks.items()}
    got = temporal_features(cupy.asarray(data), used, tables, prior, offsets, pattern=block.pattern, **there)
    assert_same(got.get(), want, NOISE.poisson, NOISE.rho_variance, tables)
    parts = rate_tables.make_rates(block.pattern, tables, 0.01)
    rate, error = cpu_rates.rates(cupy.asarray(data), used, cupy.asarray(want), prior, tables, offsets, parts)
    known = cpu_rates.rates(data, used, want, prior, tables, offsets, parts)
    whole = want[-1] == used.size
    for a, b in zip((rate, error), known, strict=True):
        np.testing.assert_allclose(a.get()[whole], b[whole], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("frames", "ny", "nx"), [(4, 1, 1), (17, 3, 33), (60, 8, 200), (450, 4, 64)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gpu_equals_cpu(seed: int, frames: int, ny: int, nx: int) -> None:
    compare(seed, frames, ny, nx)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_masked_pixels_equal_those_of_the_cpu(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    usable = rng.random((50, 6, 100)) > 0.02
    level = rng.choice([3100.0, 4000.0, np.inf], (6, 100)).astype(np.float32)
    compare(1, 50, 6, 100, dtype, usable=usable, saturation=level)


def test_ramps_too_long_for_shared_memory() -> None:
    compare(0, 4000, 1, 40)


def test_streamed_blocks_equal_those_of_the_cpu() -> None:
    from fmbdask_kernels.cupy.streaming import first_pass

    blocks = [make(2 * k, 1 + k % 3, 20 + k, masked=k % 2 == 1) for k in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for block, found in zip(blocks, pool.map(first_pass, blocks), strict=True):
            check(block, *found)


def test_detection_finds_the_same_events() -> None:
    ramp, _ = simulate(shape=(40, 128, 128), seed=5)
    here, there = detect(ramp), detect(ramp, device="gpu")
    for column in ("type", "first_frame"):
        np.testing.assert_array_equal(here.events[column], there.events[column])
    for column in ("y", "x"):
        np.testing.assert_allclose(here.events[column], there.events[column], rtol=1e-6)
    np.testing.assert_array_equal(here.maps["mask"], there.maps["mask"])
    np.testing.assert_allclose(here.maps["rate"], there.maps["rate"], rtol=1e-4, atol=1e-4)
