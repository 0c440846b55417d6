"""Measure the kernels of the ramp search: costs, and ratios that hold on any machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from fmbdask_kernels.covariance import read_pattern
from fmbdask_kernels.everystep import every_step, step_tables
from fmbdask_kernels.steps import fit_steps
from fmbdask_kernels.tables import Offsets, Prior, Tables, make_offsets, make_prior, make_tables
from fmbdask_kernels.telegraph import fit_telegraph
from fmbdask_kernels.temporal import temporal_features
from fmbdask_kernels.tracks import COLUMNS, MARGIN, brightest_lines
from numpy.typing import NDArray

from fmbdask.survey.bench.kernels.vectorised import vectorised_features

#: 4000 cosmic rays of eight pixels on 2048 x 2048, the most that configs/ramps/simulate_ohana.yaml draws, and
#: the share of telegraph pixels of an H2RG at 160 K.
HIT_SHARE, TELEGRAPH_SHARE = 0.008, 0.0006
#: Read noise, rate and size of hits of the block that is measured [DN, DN per frame, DN].
NOISE, RATE, HIT, FLIP = 12.0, 0.05, (60.0, 400.0), (50.0, 150.0)
RHO_FLOOR = 5e-3
#: Side of the part that vectorised NumPy and the masked path get.
SMALL = 128


@dataclass(frozen=True)
class Row:
    """One line of the result: what was measured, its value with unit, and what it is worth comparing with."""

    name: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Problem:
    """A block with all that the fused pass is told about it."""

    data: NDArray[np.uint16]
    used: NDArray[np.int64]
    pattern: NDArray[np.float64]
    tables: Tables
    prior: Prior
    offsets: Offsets
    hit: NDArray[np.bool_]
    telegraph: NDArray[np.bool_]

    def run(self, data: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """One pass over the block, or over ``data`` in its place."""
        return temporal_features(
            self.data if data is None else data, self.used, self.tables, self.prior, self.offsets,
            pattern=self.pattern,
        )  # fmt: skip


def make_problem(frames: int, size: int, seed: int = 0) -> Problem:
    """A dark exposure with offsets, hits and telegraph pixels at the density of the simulator's defaults."""
    rng = np.random.default_rng(seed)
    shape = (frames, size, size)
    ramp = 5000 + rng.standard_normal(shape, np.float32) * np.float32(NOISE)
    ramp += np.arange(frames, dtype=np.float32)[:, None, None] * np.float32(RATE)
    kind = rng.random(shape[1:])
    hit, telegraph = kind < HIT_SHARE, kind > 1 - TELEGRAPH_SHARE
    hit[0, 0], telegraph[0, -1] = True, True  # at least one of each, however small the block
    when = rng.integers(1, frames, hit.sum())
    ramp[:, hit] += (np.arange(frames)[:, None] >= when) * rng.uniform(*HIT, hit.sum()).astype(np.float32)
    flips = rng.random((frames, telegraph.sum())) < 8 / frames
    ramp[:, telegraph] += (np.cumsum(flips, axis=0) % 2) * rng.uniform(*FLIP, telegraph.sum())
    used = np.arange(frames)
    pattern = read_pattern(used)
    tables = make_tables(pattern, RHO_FLOOR)
    column, row = (rng.normal(0, 2, (frames, size)).astype(np.float32) for _ in range(2))
    offsets = make_offsets(tables, size, size, column=column, row=row)
    prior = make_prior(size, NOISE**2, 100.0, 3.0, 0.5, NOISE**2)
    return Problem(np.rint(ramp).astype(np.uint16), used, pattern, tables, prior, offsets, hit, telegraph)


def part(problem: Problem, size: int) -> Problem:
    """The upper left corner of a problem."""
    corner = (slice(None, size), slice(None, size))
    tables = problem.tables
    return Problem(
        np.ascontiguousarray(problem.data[:, *corner]), problem.used, problem.pattern, tables,
        make_prior(size, NOISE**2, 100.0, 3.0, 0.5, NOISE**2), make_offsets(tables, size, size),
        problem.hit[corner], problem.telegraph[corner],
    )  # fmt: skip


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Median CPU time of a call, after one that compiles."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return max(median(taken), 1e-9)


def speed_up(call: Callable[[], object], threads: int, repeats: int) -> float:
    """How much more is done in a time by several threads: the best of wall times, taken in turns."""
    alone, together = [], []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats):
            start = time.perf_counter()
            call()
            middle = time.perf_counter()
            for future in [pool.submit(call) for _ in range(threads)]:
                future.result()
            together.append(time.perf_counter() - middle)
            alone.append(middle - start)
    return threads * min(alone) / min(together)


def read_once(data: NDArray[np.uint16]) -> int:
    """Read a block once."""
    flat = data.reshape(-1)
    return int(np.bitwise_or.reduce(flat[: flat.size // 4 * 4].view(np.uint64)))


def refit(problem: Problem, pixels: NDArray[np.bool_], telegraph: bool) -> None:
    """What the search does again with the pixels that fired."""
    ramps = np.ascontiguousarray(problem.data[:, pixels].T, np.float32)
    used = np.ones(ramps.shape, bool)
    noise = NOISE**2, 100.0
    steps = fit_steps(ramps, used, *noise, RHO_FLOOR, RHO_FLOOR, 0.5, 5.0, problem.pattern)
    if telegraph:
        fit_telegraph(ramps, used, *noise, steps.rho, RHO_FLOOR, 0.5, problem.pattern, steps)


def kernels(frames: int = 450, size: int = 256, repeats: int = 5) -> list[Row]:
    """Measure the kernels on a simulated block of ``frames`` x ``size`` x ``size`` pixels.

    Parameters
    ----------
    frames, size : int
        Frames, and pixels along each side of the block.
    repeats : int
        Runs of each measurement; the median counts.

    Returns
    -------
    list of Row
        CPU time of one core where no other word is said.
    """
    problem = make_problem(frames, size)
    small = part(problem, min(size, SMALL))
    values, pixels = problem.data.size, size * size
    fused = seconds(problem.run, repeats)
    gain = speed_up(problem.run, 2, 3 * repeats)
    read = seconds(lambda: read_once(problem.data), repeats)
    plain = seconds(
        lambda: vectorised_features(
            small.data, small.used, small.tables, small.prior, small.offsets, small.pattern
        ),
        1,
    )
    corner = seconds(small.run, repeats)
    floats = small.data.astype(np.float32)
    masked = seconds(lambda: small.run(floats), 1)
    hits = seconds(lambda: refit(problem, problem.hit, telegraph=False), 1)
    flips = seconds(lambda: refit(problem, problem.telegraph, telegraph=True), 1)
    each = small.data[0].size
    every, lines = of_tracks(problem, frames, repeats)
    return [
        Row("fused pass", fused / values * 1e9, "ns per pixel and frame", "at most 0.8 at 450 frames"),
        Row("fused pass", fused / pixels * 1e9, "ns per pixel"),
        Row("two threads", gain, "times faster", "wall time, idle machine; at least 1.8"),
        Row("reading the block once", fused / read, "times less", "than the fused pass"),
        Row("vectorised NumPy", plain / corner, "times more", "than the fused pass; at least 80"),
        Row("masked or float pixels", masked / each * 1e6, "us per pixel"),
        Row("step fits", hits / int(problem.hit.sum()) * 1e6, "us per pixel that fired"),
        Row("step and telegraph fits", flips / int(problem.telegraph.sum()) * 1e6, "us per telegraph pixel"),
        Row(
            "all fits",
            100 * (hits + flips) / fused,
            "% on top of the fused pass",
            f"{HIT_SHARE:.1%} of pixels hit, {TELEGRAPH_SHARE:.2%} telegraph; at most 50",
        ),
        Row("steps after every read", every, "ns per pixel and frame", "of which lines are made"),
        Row("lines in all directions", lines, "ns per pixel and frame", "about 280 operations each"),
    ]


def of_tracks(problem: Problem, frames: int, repeats: int) -> tuple[float, float]:
    """Cost of significances after every read, and of the lines through them [ns per pixel and frame]."""
    random = np.random.default_rng(1)
    above = random.standard_normal((COLUMNS * COLUMNS, frames - 1), np.float32)
    bins, noise = random.integers(0, 3, len(above)), np.ones(len(above), np.float32)
    tables = step_tables(problem.pattern, frames, np.array([RHO_FLOOR, 0.1, 1.0], np.float32))
    images = random.standard_normal((frames - 1, *(COLUMNS + 2 * MARGIN,) * 2), np.float32)
    every = seconds(lambda: every_step(above, bins, noise, tables), repeats)
    lines = seconds(lambda: brightest_lines(images), repeats)
    return every / above.size * 1e9, lines / above.size * 1e9
