"""The temporal features: fused and masked kernels against the dense reference, and bits against every cut."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fmbdask_kernels.covariance import read_pattern
from fmbdask_kernels.tables import make_offsets, make_prior, make_tables
from fmbdask_kernels.temporal import PLANES, temporal_features
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from .reference import temporal as reference

NOISE = reference.Noise(variance=100.0, dof=40.0, noisy=4.0, poisson=0.7, rho_variance=90.0)
FLOOR = 5e-3
#: Planes that hold counts, frames or sums of integers, and must agree exactly for integer data.
EXACT = (
    "minimum", "maximum", "median_difference", "mad_difference", "largest_difference", "first_appearance",
    "largest_difference_frame", "persistence_count", "max_intensity", "transition_count", "reads",
)  # fmt: skip


@dataclass
class Block:
    """A block with all that the kernels are told about it."""

    data: NDArray[Any]
    used: NDArray[np.int64]
    pattern: NDArray[np.float64]
    column: NDArray[np.float32]
    gradient: NDArray[np.float32]
    height: NDArray[np.float32]
    row: NDArray[np.float32]

    def run(self, y: slice = slice(None), x: slice = slice(None), **masks: Any) -> NDArray[np.float32]:
        """Features of a part of the block."""
        data = self.data[:, y, x]
        ny, nx = data.shape[1:]
        tables = make_tables(self.pattern, FLOOR)
        prior = make_prior(nx, *(getattr(NOISE, name) for name in NOISE.__dataclass_fields__))
        offsets = make_offsets(
            tables, nx, ny, self.column[:, x], self.gradient[:, x], self.height[y], self.row[:, y]
        )
        masks = {k: v[..., y, x] if np.ndim(v) > 1 else v for k, v in masks.items()}
        return temporal_features(data, self.used, tables, prior, offsets, pattern=self.pattern, **masks)

    def expected(self, y: int, x: int, good: NDArray[np.bool_]) -> dict[str, float]:
        """The reference at one pixel; ``good`` (N,) are its usable reads."""
        offset = self.column[:, x] + self.height[y] * self.gradient[:, x] + self.row[:, y]
        rho = make_tables(self.pattern, FLOOR).rho.astype(np.float64)
        integer = bool(np.issubdtype(self.data.dtype, np.integer))
        return reference.features(
            self.data[self.used, y, x].astype(np.float64), good, offset.astype(np.float64), self.used,
            self.pattern, NOISE, rho, integer,
        )  # fmt: skip


def make_block(seed: int, frames: int, ny: int, nx: int, noise: float = 12.0, gradient: bool = True) -> Block:
    """Ramps of many rates with steps, spikes and offsets; unequal times and reads for odd seeds."""
    rng = np.random.default_rng(seed)
    skipped = rng.random(frames) < 0.1 * (seed % 3)
    skipped[rng.permutation(frames)[:4]] = False
    used = np.flatnonzero(~skipped)
    times, count = np.arange(frames) * 10.0, np.ones(frames)
    if seed % 2:
        times = np.cumsum(rng.uniform(5, 15, frames))
        count = rng.integers(1, 4, frames)
    pattern = read_pattern(times[used], count[used])
    rate = rng.choice([0.0, 0.3, 2.0, 15.0, 60.0], (ny, nx)) * rng.uniform(0.5, 1.5, (ny, nx))
    ramp = (
        3000 + rng.poisson(rate, (frames, ny, nx)).cumsum(axis=0) + rng.normal(0, 1, (frames, ny, nx)) * noise
    )
    hit = rng.random((ny, nx)) < 0.4
    after = np.arange(frames)[:, None, None] >= rng.integers(1, frames, (ny, nx))
    ramp += after * hit * rng.choice([-40, 40, 300, 5000], (ny, nx))
    ramp[rng.integers(0, frames)] += (rng.random((ny, nx)) < 0.1) * 500
    n = used.size
    steepness = rng.normal(0, 0.02, (n, nx)) if gradient else np.zeros((n, nx))
    parts = rng.normal(0, 3, (n, nx)), steepness, rng.uniform(-50, 50, ny), rng.normal(0, 2, (n, ny))
    column, slope, height, row = (p.astype(np.float32) for p in parts)
    return Block(
        np.clip(np.rint(ramp), 0, 65535).astype(np.uint16), used, pattern, column, slope, height, row
    )


def assert_pixel(got: dict[str, float], want: dict[str, float], integer: bool = True) -> None:
    """Integers exactly, the rest to the rounding of float32."""
    if len(want) == 1:
        assert got.pop("reads") == want["reads"]
        assert np.isnan(list(got.values())).all()
        return
    assert got["rho_bin"] == want["rho_bin"]
    span = 1.0 + abs(want["maximum"] - want["minimum"])
    # a strong step leaves the difference of two large sums as the noise
    loss = 2e-7 * want["read_variance"] / min(want["noise"] ** 2, NOISE.variance)
    for name, value in want.items():
        absolute, relative = 1e-3, 5e-4 + loss
        if name in EXACT:
            absolute, relative = (0.0, 0.0) if integer else (1e-3, 1e-6)
        elif name in ("slope", "rate"):
            absolute, relative = 2e-6 * span, 1e-5
        elif name in ("read_variance", "roughness", "intensity_variance"):
            absolute, relative = 2e-6 * span**2, 2e-4
        assert got[name] == pytest.approx(value, abs=absolute, rel=relative), name


def pixel(planes: NDArray[np.float32], y: int, x: int) -> dict[str, float]:
    return dict(zip(PLANES, planes[:, y, x].astype(float).tolist(), strict=True))


shapes = {
    "seed": st.integers(0, 10_000),
    "frames": st.integers(4, 70),
    "ny": st.integers(1, 5),
    "nx": st.integers(1, 300),
}


@settings(max_examples=25)
@given(**shapes, noise=st.sampled_from([3.0, 12.0, 90.0, 150.0, 1500.0]), gradient=st.booleans())
@example(seed=1, frames=4, ny=1, nx=1, noise=12.0, gradient=True)
@example(seed=0, frames=5, ny=2, nx=129, noise=1500.0, gradient=False)
@example(seed=2, frames=8, ny=1, nx=128, noise=12.0, gradient=True)
@example(seed=4, frames=9, ny=1, nx=3, noise=12.0, gradient=True)
def test_equals_reference(seed: int, frames: int, ny: int, nx: int, noise: float, gradient: bool) -> None:
    block = make_block(seed, frames, ny, nx, noise, gradient)
    planes = block.run()
    rng = np.random.default_rng(seed)
    for y, x in {(0, 0), (ny - 1, nx - 1), *zip(rng.integers(0, ny, 6), rng.integers(0, nx, 6), strict=True)}:
        assert_pixel(pixel(planes, y, x), block.expected(y, x, np.ones(block.used.size, bool)))


@settings(max_examples=15)
@given(**shapes)
def test_masked_equals_reference(seed: int, frames: int, ny: int, nx: int) -> None:
    block = make_block(seed, frames, ny, min(nx, 20), noise=10.0)
    rng = np.random.default_rng(seed)
    usable = rng.random(block.data.shape) > 0.1
    level = rng.choice([3100.0, 4000.0, 1e9], block.data.shape[1:]).astype(np.float32)
    planes = block.run(usable=usable, saturation=level)
    for y in range(block.data.shape[1]):
        for x in range(0, block.data.shape[2], 3):
            reads = block.data[block.used, y, x]
            full = np.logical_or.accumulate(reads >= level[y, x])
            full[:-1] |= full[1:] & (block.pattern[2, :-1] < 1)  # some reads of an average may be full
            good = usable[block.used, y, x] & ~full
            assert_pixel(pixel(planes, y, x), block.expected(y, x, good))


@settings(max_examples=10)
@given(**shapes)
def test_float_data_with_nan_equals_reference(seed: int, frames: int, ny: int, nx: int) -> None:
    block = make_block(seed, frames, ny, min(nx, 12), noise=10.0)
    rng = np.random.default_rng(seed)
    block.data = block.data + rng.normal(0, 0.3, block.data.shape).astype(np.float32)
    block.data[rng.random(block.data.shape) < 0.05] = np.nan
    planes = block.run()
    for y in range(block.data.shape[1]):
        for x in range(0, block.data.shape[2], 3):
            good = np.isfinite(block.data[block.used, y, x])
            assert_pixel(pixel(planes, y, x), block.expected(y, x, good), integer=False)


@settings(max_examples=15)
@given(**shapes, y=st.integers(0, 4), x=st.integers(0, 300))
def test_cuts_keep_the_bits(seed: int, frames: int, ny: int, nx: int, y: int, x: int) -> None:
    block = make_block(seed, frames, ny, nx)
    usable = np.random.default_rng(seed).random(block.data.shape) > 0.001
    whole = block.run(usable=usable)
    y, x = min(y, ny), min(x, nx)
    for rows in (slice(0, y), slice(y, ny)):
        for columns in (slice(0, x), slice(x, nx)):
            part = block.run(rows, columns, usable=usable)
            np.testing.assert_array_equal(part, whole[:, rows, columns])


@pytest.mark.parametrize("frames", [4, 5, 8, 9, 17, 45])
def test_every_lane_gives_the_same_bits(frames: int) -> None:
    for seed in range(10):
        block = make_block(2 * seed, frames, 1, 1, gradient=False)
        block.data = np.repeat(block.data, 200, axis=2)
        block.column, block.gradient = (np.repeat(p, 200, axis=1) for p in (block.column, block.gradient))
        planes = block.run()
        np.testing.assert_array_equal(planes, np.repeat(planes[:, :, :1], 200, axis=2))


def test_threads_keep_the_bits() -> None:
    block = make_block(3, 40, 8, 200)
    alone = block.run()
    with ThreadPoolExecutor(2) as pool:
        for together in pool.map(lambda _: block.run(), range(4)):
            np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("frames", [4, 7, 8, 9, 33])
@pytest.mark.parametrize("value", [0, 1, 32767, 32768, 65535])
def test_constant_pixels(frames: int, value: int) -> None:
    block = make_block(0, frames, 1, 5)
    block.data[:] = value
    for part in (block.column, block.gradient, block.row):
        part[:] = 0
    planes = block.run()
    got = pixel(planes, 0, 2)
    assert (planes == planes[:, :, :1]).all()
    assert got["minimum"] == got["maximum"] == value
    for name in (
        "slope",
        "rate",
        "mad_difference",
        "largest_difference",
        "persistence_count",
        "transition_count",
    ):
        assert got[name] == 0, name
    for name in ("max_intensity", "intensity_variance", "step_amplitude", "step_significance", "step_r2"):
        assert got[name] == 0, name
    assert got["first_appearance"] == -1
    assert got["step_frame"] in block.used


@pytest.mark.parametrize("jump", [15000, 16000, 16001, 32767, 32768, 65535])
@pytest.mark.parametrize("down", [False, True])
def test_jumps_over_the_whole_range(jump: int, down: bool) -> None:
    block = make_block(6, 30, 1, 4)
    rng = np.random.default_rng(jump)
    top = np.where(np.arange(30) >= 12, jump, 0)[:, None, None] - rng.integers(0, 20, (30, 1, 4))
    block.data = np.clip(jump - top if down else top, 0, 65535).astype(np.uint16)
    planes = block.run()
    for x in range(4):
        assert_pixel(pixel(planes, 0, x), block.expected(0, x, np.ones(block.used.size, bool)))


def test_too_few_reads_are_nan_but_counted() -> None:
    block = make_block(0, 12, 1, 3)
    usable = np.ones(block.data.shape, bool)
    usable[3:, 0, 1] = False
    planes = block.run(usable=usable)
    assert pixel(planes, 0, 1)["reads"] == (block.used < 3).sum()
    assert np.isnan(planes[:-1, 0, 1]).all()
    assert np.isfinite(planes[:, 0, [0, 2]]).all()


def test_a_hit_is_found_where_it_is() -> None:
    block = make_block(0, 60, 4, 64, noise=10.0)
    rng = np.random.default_rng(1)
    block.data = (2000 + rng.normal(0, 10, block.data.shape)).astype(np.uint16)
    block.data[30:, 2, 33] += 200
    planes = block.run()
    got = pixel(planes, 2, 33)
    assert got["step_frame"] == 30
    assert got["step_amplitude"] == pytest.approx(200, abs=20)
    assert got["step_significance"] > 10
    assert got["first_appearance"] == 30
