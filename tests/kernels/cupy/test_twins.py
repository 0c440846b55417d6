"""The kernels for GPUs, built as C++ and run on this processor, against those for CPUs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fmbdask_kernels import rate_tables
from fmbdask_kernels import rates as cpu_rates
from fmbdask_kernels.cupy import rates as gpu_rates
from fmbdask_kernels.cupy import temporal as gpu
from fmbdask_kernels.cupy.packed import padded
from fmbdask_kernels.planes import COUNT, PLANES
from fmbdask_kernels.temporal import temporal_features
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ..test_temporal import NOISE, Block, make_block
from .compare import assert_same, told
from .host import HostCard

shapes = {
    "seed": st.integers(0, 10_000),
    "frames": st.integers(4, 70),
    "ny": st.integers(1, 4),
    "nx": st.integers(1, 80),
}


def both(card: HostCard, block: Block, **masks: Any) -> tuple[Any, Any, Any]:
    """Planes of the twin and of the kernel, and the tables they used."""
    arguments = told(block)
    given_ = {"pattern": block.pattern, **masks}
    return (
        gpu.temporal_features(*arguments, **given_, card=card),
        temporal_features(*arguments, **given_),
        arguments[2],
    )


def check(card: HostCard, block: Block, **masks: Any) -> int:
    got, want, tables = both(card, block, **masks)
    return assert_same(got, want, NOISE.poisson, NOISE.rho_variance, tables)


@settings(max_examples=20)
@given(**shapes, noise=st.sampled_from([3.0, 12.0, 90.0, 1500.0]), gradient=st.booleans())
@example(seed=1, frames=4, ny=1, nx=1, noise=12.0, gradient=True)
@example(seed=0, frames=17, ny=3, nx=33, noise=1500.0, gradient=False)
@example(seed=2, frames=33, ny=4, nx=64, noise=12.0, gradient=True)
def test_equals_the_kernel(
    host_card: HostCard, seed: int, frames: int, ny: int, nx: int, noise: float, gradient: bool
) -> None:
    block = make_block(seed, frames, ny, nx, noise, gradient)
    compared = check(host_card, block)
    assert compared >= 0.9 * ny * nx - 1


@settings(max_examples=10)
@given(**shapes)
def test_masked_pixels_equal_the_kernel(
    host_card: HostCard, seed: int, frames: int, ny: int, nx: int
) -> None:
    block = make_block(seed, frames, ny, min(nx, 20), noise=10.0)
    rng = np.random.default_rng(seed)
    usable = rng.random(block.data.shape) > 0.1 * rng.random()
    usable[:, 0, 0] = False
    usable[block.used[: rng.integers(1, 5)], 0, 0] = True  # one to four reads
    level = rng.choice([3100.0, 4000.0, np.inf], block.data.shape[1:]).astype(np.float32)
    check(host_card, block, usable=usable, saturation=level)
    check(host_card, block, saturation=65535.0)


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4])
def test_short_ramps(host_card: HostCard, left: int) -> None:
    block = make_block(2, 20, 2, 5)
    usable = np.zeros(block.data.shape, bool)
    usable[block.used[-left or len(usable) :]] = True
    got, want, _ = both(host_card, block, usable=usable)
    assert (got[-1] == left).all()
    assert np.isnan(got[:-1]).all() == (left < 4)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@settings(max_examples=8)
@given(**shapes, dtype=st.sampled_from([np.float32, np.float64, np.int32, ">f4"]))
def test_other_types_equal_the_kernel(
    host_card: HostCard, seed: int, frames: int, ny: int, nx: int, dtype: Any
) -> None:
    block = make_block(seed, frames, ny, min(nx, 12), noise=10.0)
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        block.data = block.data + rng.normal(0, 0.3, block.data.shape)
        block.data[rng.random(block.data.shape) < 0.05] = np.nan
    block.data = block.data.astype(dtype)
    check(host_card, block)


@pytest.mark.parametrize("frames", [4, 7, 16, 17, 18, 33])
@pytest.mark.parametrize("value", [0, 1, 32768, 65535])
def test_constant_pixels(host_card: HostCard, frames: int, value: int) -> None:
    block = make_block(0, frames, 1, 5)
    block.data[:] = value
    for part in (block.column, block.gradient, block.row):
        part[:] = 0
    planes = dict(zip(PLANES, both(host_card, block)[0], strict=True))
    assert (planes["minimum"] == value).all()
    for name in ("mad_difference", "largest_difference", "persistence_count", "step_significance", "slope"):
        assert (planes[name] == 0).all(), name
    assert (planes["first_appearance"] == -1).all()


@pytest.mark.parametrize("jump", [15000, 16000, 16001, 32768, 65535])
@pytest.mark.parametrize("down", [False, True])
def test_jumps_over_the_whole_range(host_card: HostCard, jump: int, down: bool) -> None:
    block = make_block(6, 30, 1, 4)
    rng = np.random.default_rng(jump)
    top = np.where(np.arange(30) >= 12, jump, 0)[:, None, None] - rng.integers(0, 20, (30, 1, 4))
    block.data = np.clip(jump - top if down else top, 0, 65535).astype(np.uint16)
    check(host_card, block)


@pytest.mark.parametrize("noise", [1e3, 4e3, 1e4, 2e4])
def test_brackets_hold_for_any_noise(host_card: HostCard, noise: float) -> None:
    block = make_block(8, 41, 2, 32, noise)
    rng = np.random.default_rng(int(noise))
    uniform = rng.uniform(0, 16000, block.data.shape)  # differences up to the largest that are not masked
    for values in (block.data, uniform, np.where(rng.random(block.data.shape) < 0.5, 0, 16000)):
        block.data = np.clip(values, 0, 65535).astype(np.uint16)
        check(host_card, block)


def test_geometry_keeps_the_bits(host_card: HostCard) -> None:
    block = make_block(3, 60, 5, 70)
    usable = np.random.default_rng(0).random(block.data.shape) > 0.001
    arguments = {"pattern": block.pattern, "usable": usable}
    found = []
    for card in (host_card, host_card.with_shared(20_000), host_card.with_shared(1_000)):
        found.append(gpu.temporal_features(*told(block), **arguments, card=card))
        np.testing.assert_array_equal(found[0], found[-1])
    assert card.launched[0][:2] == ("temporal", ("-DSPILL",))
    for y, x in ((slice(0, 2), slice(0, 31)), (slice(2, 5), slice(31, 70))):
        part = {"pattern": block.pattern, "usable": np.ascontiguousarray(usable[:, y, x])}
        planes = gpu.temporal_features(*told(block, y, x), **part, card=host_card)
        np.testing.assert_array_equal(planes, found[0][:, y, x])


@pytest.mark.parametrize(
    ("per_block", "per_processor", "threads"),
    [(232_448, 233_472, 192), (166_912, 167_936, 128)],
    ids=["H100 and H200", "A100"],
)
def test_geometry_of_known_cards(per_block: int, per_processor: int, threads: int) -> None:
    rows, shared = gpu.geometry(450, per_block, per_processor)
    assert per_processor // (shared + 1024) * rows * 32 == threads
    for n in (4, 100, 450, 1000, 2000):
        rows, shared = gpu.geometry(n, per_block, per_processor)
        assert shared == 32 * rows * 4 * (padded(n - 1) // 2 + padded(n - 1) // 16)
        assert 0 < shared <= per_block
    assert gpu.geometry(30_000, per_block, per_processor) == (1, 0)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("seed", [0, 1, 4])
def test_rates_equal_the_kernel(host_card: HostCard, seed: int, dtype: Any) -> None:
    block = make_block(seed, 40, 4, 40, noise=10.0)
    block.data = block.data.astype(dtype)
    data, used, tables, prior, offsets = told(block)
    usable = np.random.default_rng(seed).random(data.shape) > 0.002
    usable[:, 0, 0] = False
    planes = temporal_features(data, used, tables, prior, offsets, pattern=block.pattern, usable=usable)
    parts = rate_tables.make_rates(block.pattern, tables, 0.02)
    want = cpu_rates.rates(data, used, planes, prior, tables, offsets, parts)
    got = gpu_rates.rates(data, used, planes, prior, tables, offsets, parts, card=host_card)
    whole = planes[-1] == used.size  # the rates of others mean nothing
    assert whole.sum() > 100
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_allclose(a[whole], b[whole], rtol=1e-5, atol=1e-5)


def test_looks_are_counted(host_card: HostCard) -> None:
    block = make_block(0, 60, 2, 32)
    data, used, tables, prior, offsets = told(block)
    data[:, 0, 0] = np.arange(60) % 2 * 30000  # masked, so never looked at
    seen = np.full(data.shape[1:], -1, np.int32)
    facts = gpu.tell(host_card, used, tables, prior, offsets, 32, block.pattern)
    level = np.full(seen.shape, np.inf, np.float32)
    kept = gpu.in_use(host_card, data, used)
    gpu.features(host_card, kept, facts, level, seen=seen)
    assert seen[0, 0] == 0
    assert (seen.ravel()[1:] & 255).min() >= 1
    assert (seen.ravel()[1:] >> 8).min() >= 1
    assert (seen >> 8).max() < 9


class ndarray(np.ndarray[Any, Any]):
    """An array that says it is one of CuPy."""

    __module__ = "cupy"


def test_the_array_chooses_the_kernel(host_card: HostCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "current", lambda: host_card)
    monkeypatch.setattr(gpu_rates, "current", lambda: host_card)
    block = make_block(2, 30, 2, 32)
    data, used, tables, prior, offsets = told(block)
    host_card.launched.clear()
    there = data.view(ndarray)
    planes = temporal_features(there, used, tables, prior, offsets, pattern=block.pattern)
    assert planes.shape == (COUNT, 2, 32)
    parts = rate_tables.make_rates(block.pattern, tables, 0.0)
    cpu_rates.rates(there, used, planes, prior, tables, offsets, parts)
    assert [name for name, _, _ in host_card.launched] == ["temporal", "masked", "rates"]
