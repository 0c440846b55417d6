"""Measure the kernels of a GPU: against what the card could do at best, and end to end from Zarr."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import zarr
from fmbdask_kernels.cupy import card as cards
from fmbdask_kernels.cupy.rates import best_rates
from fmbdask_kernels.cupy.streaming import Block, Lanes
from fmbdask_kernels.cupy.temporal import features, tell
from fmbdask_kernels.rate_tables import RateTables, make_rates
from fmbdask_kernels.tables import make_offsets, make_prior
from numpy.typing import NDArray

from fmbdask.ramps.devices import find_device
from fmbdask.ramps.noise import region_offsets
from fmbdask.regions import Region
from fmbdask.store.layout import codec
from fmbdask.survey.bench.kernels.measure import NOISE, Problem, Row, make_problem
from fmbdask.survey.bench.kernels.roofline import (
    Limits,
    exposures_per_second,
    instructions_per_value,
    looks_of_warps,
    roofline,
)

#: Side of the block that is simulated; larger ones are made of copies of it.
SIMULATED = 256
#: Side of a chunk of the store that is streamed.
CHUNK = 128
#: Bytes of a copy that measures a bandwidth.
COPIED = 2**28


@dataclass(frozen=True)
class Times:
    """What was measured, in seconds where no other word is said.

    Attributes
    ----------
    card : Limits
    frames, pixels : int
        Of the block.
    kernel : float
        Features and rates of the block, resident on the card.
    looks : (float, float)
        Of a warp, see :func:`.roofline.looks_of_warps`.
    transfer : float
        To copy the counts of the block to the card from pinned memory.
    decode : float
        To read and decode the block from Zarr on all threads, without more.
    whole : float
        From Zarr to planes in the memory of the machine.
    threads : int
        That decode.
    """

    card: Limits
    frames: int
    pixels: int
    kernel: float
    looks: tuple[float, float]
    transfer: float
    decode: float
    whole: float
    threads: int


def gpu_kernels(frames: int = 450, size: int = 1024, repeats: int = 5) -> list[Row]:
    """Measure the kernels on the GPU of this process.

    Parameters
    ----------
    frames, size : int
        Frames, and pixels along each side of the block.
    repeats : int
        Runs of each measurement; the median counts.

    Returns
    -------
    list of Row
        Wall times.

    Raises
    ------
    ConfigError
        If there is no GPU here.
    """
    find_device("gpu")
    return rows_of(measured(frames, size, repeats))


def rows_of(t: Times) -> list[Row]:
    """Lines of the result: fractions, rates and shares, from times."""
    values = t.frames * t.pixels
    best = roofline(t.card, t.frames, t.looks)
    nbytes = 2.0 * values
    each = t.kernel / values
    size, bandwidth = f"{t.frames} x 2048 x 2048", f"{t.card.bandwidth / 1e9:.0f} GB/s by a copy"
    looks = " + ".join(f"{number:.1f}" for number in t.looks)
    counted = f"{instructions_per_value(t.looks):.0f} per pixel and frame, {looks} looks"
    return [
        Row("resident", each * 1e12, "ps per pixel and frame", t.card.name),
        Row("resident", exposures_per_second(each, t.frames), "exposures a second", f"{size}; at least 100"),
        Row("roofline of memory", best.memory * 1e12, "ps per pixel and frame", bandwidth),
        Row("roofline of instructions", best.instructions * 1e12, "ps per pixel and frame", counted),
        Row("bandwidth reached", 100 * best.memory / each, "%", "of the memory's"),
        Row("instructions reached", 100 * best.instructions / each, "%", "of the highest rate"),
        Row("reached", 100 * best.best / each, "%", f"of the lower roofline, {best.limit}; at least 50"),
        Row("transfer", nbytes / t.transfer / 1e9, "GB/s", "to the card, from pinned memory"),
        Row("end to end", nbytes / t.whole / 1e9, "GB/s", f"from Zarr, {t.threads} threads"),
        Row("end to end", 100 * t.transfer / t.whole, "%", "of the transfer rate; at least 80"),
        Row("end to end", exposures_per_second(t.whole / values, t.frames), "exposures a second"),
        Row("decode alone", 100 * t.decode / t.whole, "%", "of end to end"),
        Row("transfer alone", 100 * t.transfer / t.whole, "%", "of end to end"),
        Row("kernels alone", 100 * t.kernel / t.whole, "%", "of end to end"),
    ]  # fmt: skip


def measured(frames: int, size: int, repeats: int) -> Times:
    """Measure everything on the GPU of this process."""
    card = cards.current()
    problem = enlarged(make_problem(frames, min(size, SIMULATED)), size)
    parts = make_rates(problem.pattern, problem.tables, 0.0)
    kernel, looks = resident(card, problem, parts, repeats)
    with tempfile.TemporaryDirectory() as folder:
        decode, whole, threads = streamed(card, problem, parts, folder, repeats)
    sent = transfer(card, problem.data.nbytes, repeats)
    return Times(limits_of(card), frames, size * size, kernel, looks, sent, decode, whole, threads)


def enlarged(problem: Problem, size: int) -> Problem:
    """A block of ``size`` x ``size`` pixels made of copies of one, with offsets of its own."""
    frames, own = problem.data.shape[:2]
    times = -(-size // own)
    data = np.ascontiguousarray(np.tile(problem.data, (1, times, times))[:, :size, :size])
    rng = np.random.default_rng(1)
    column, row = (rng.normal(0, 2, (frames, size)).astype(np.float32) for _ in range(2))
    offsets = make_offsets(problem.tables, size, size, column=column, row=row)
    hit, telegraph = (np.tile(m, (times, times))[:size, :size] for m in (problem.hit, problem.telegraph))
    prior = make_prior(size, NOISE**2, 100.0, 3.0, 0.5, NOISE**2)
    return Problem(data, problem.used, problem.pattern, problem.tables, prior, offsets, hit, telegraph)


def resident(
    card: Any, problem: Problem, parts: RateTables, repeats: int
) -> tuple[float, tuple[float, float]]:
    """Seconds of features and rates of a block that is on the card, and the looks of a warp."""
    xp, size = card.xp, problem.data.shape[2]
    data, p = card.xp.asarray(problem.data), problem
    told = tell(card, p.used, p.tables, p.prior, p.offsets, size, p.pattern)
    level = xp.full(problem.data.shape[1:], np.inf, np.float32)
    seen = xp.zeros(problem.data.shape[1:], np.int32)

    def once() -> None:
        best_rates(card, data, features(card, data, told, level), told, parts)

    features(card, data, told, level, seen=seen)
    looks = looks_of_warps(seen.get())
    return median(timed(card, once, repeats)), looks


def timed(card: Any, call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call by the card's own clock, after one that compiles."""
    call()
    found = []
    for _ in range(repeats):
        begin, end = card.xp.cuda.Event(), card.xp.cuda.Event()
        begin.record()
        call()
        end.record()
        end.synchronize()
        found.append(card.xp.cuda.get_elapsed_time(begin, end) / 1e3)
    return found


def transfer(card: Any, nbytes: int, repeats: int) -> float:
    """Seconds to copy so many bytes to the card at the rate of one large copy."""
    size = min(nbytes, COPIED)
    source, target = card.pinned(size), card.xp.empty(size, np.uint8)
    return median(timed(card, lambda: card.send(source, target), repeats)) * nbytes / size


def limits_of(card: Any) -> Limits:
    """Multiprocessors and clock as the card says, bandwidth as a copy within its memory shows."""
    xp = card.xp
    device = xp.cuda.Device()
    source = xp.zeros(COPIED, np.uint8)
    target = xp.empty_like(source)

    def copy() -> None:
        target[...] = source

    taken = min(timed(card, copy, 10))
    name = xp.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    clock = 1e3 * int(device.attributes["ClockRate"])
    return Limits(name, int(device.attributes["MultiProcessorCount"]), clock, 2 * COPIED / taken)


def streamed(
    card: Any, problem: Problem, parts: RateTables, folder: str, repeats: int
) -> tuple[float, float, int]:
    """Seconds to decode a block from Zarr, and from there to planes; and the number of threads."""
    stored = store_of(problem.data, folder)
    blocks = blocks_of(problem, parts)
    lanes = Lanes(card)
    threads = len(os.sched_getaffinity(0))

    def decode(place: tuple[slice, slice]) -> NDArray[np.uint16]:
        return np.asarray(stored[:, *place])

    def run(place: tuple[slice, slice]) -> int:
        planes, _ = lanes.run(blocks(place, decode(place)))
        return planes.size

    places = chunks_of(problem.data.shape[1:])
    with ThreadPoolExecutor(threads) as pool:
        decoding = median(wall(lambda: list(pool.map(decode, places)), repeats))
        whole = median(wall(lambda: list(pool.map(run, places)), repeats))
    return decoding, whole, threads


def wall(call: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of each call by the clock on the wall, after one that warms up."""
    call()
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        found.append(time.perf_counter() - begin)
    return found


def store_of(data: NDArray[np.uint16], folder: str) -> Any:
    """A Zarr array of a block, chunked and compressed as fmbdask does."""
    edge = min(CHUNK, data.shape[1])
    stored = zarr.create_array(
        os.path.join(folder, "block.zarr"), shape=data.shape, dtype=data.dtype,
        chunks=(data.shape[0], edge, edge), compressors=codec(),
    )  # fmt: skip
    stored[...] = data
    return stored


def chunks_of(shape: Sequence[int]) -> list[tuple[slice, slice]]:
    """Rows and columns of every chunk."""
    rows, columns = ([slice(a, min(a + CHUNK, n)) for a in range(0, n, CHUNK)] for n in shape)
    return [(y, x) for y in rows for x in columns]


def blocks_of(
    problem: Problem, parts: RateTables
) -> Callable[[tuple[slice, slice], NDArray[np.uint16]], Block]:
    """Make the block of a chunk: what belongs to its rows and columns, and its counts."""
    p = problem
    level = np.full(p.data.shape[1:], 65536, np.float32)

    def block(place: tuple[slice, slice], data: NDArray[np.uint16]) -> Block:
        y, x = place
        prior = make_prior(data.shape[2], NOISE**2, 100.0, 3.0, 0.5, NOISE**2)
        offsets = region_offsets(p.offsets, Region(0, y.start, y.stop, x.start, x.stop))
        return Block(data, p.used, p.pattern, p.tables, prior, offsets, parts, level[y, x])

    return block
