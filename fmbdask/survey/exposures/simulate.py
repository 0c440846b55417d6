"""Simulate a survey: files of exposures with their truth beside them, made by several processes.

Small exposures are made whole, one a process; large ones are cut into strips of rows that the processes write
into one file. Every number depends on the seed, the exposure and the row alone, so the cut does not show.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fmbdask.atomic import atomic
from fmbdask.errors import FmbdaskError, InputError, OutputExistsError
from fmbdask.ramps.simulation import (
    EVENT_UNITS,
    PIXEL_UNITS,
    Exposure,
    SimulationConfig,
    Strip,
    Truth,
    make_truth,
    plan_exposure,
    simulate_rows,
)
from fmbdask.ramps.simulation.memory import attributes, exposure_name
from fmbdask.store.writer import RampWriter

if TYPE_CHECKING:
    import pandas as pd

Report = Callable[[int, int, str], None]
FileFormat = Literal["fits", "zarr"]

#: Exposures of at most this many values are made whole by one process.
_SMALL = 64 * 2**20
#: Values of the rows that are made in one go: what bounds the memory of a process.
_BLOCK = 8 * 2**20
#: Tasks in flight for each process.
_AHEAD = 2


@dataclass(frozen=True)
class Job:
    """One exposure to be written: what it is, and where it goes."""

    config: SimulationConfig
    exposure: Exposure
    path: Path
    file_format: FileFormat
    overwrite: bool

    @property
    def outputs(self) -> tuple[Path, Path, Path]:
        """The exposure, its events and its pixels."""
        return (self.path, *truth_paths(self.path))

    @property
    def values(self) -> int:
        """Size of the exposure."""
        rows, columns = self.config.image_shape
        return self.config.num_frames * rows * columns


def simulate_survey(
    config: SimulationConfig,
    out: str | os.PathLike[str] | None = None,
    *,
    start_index: int = 0,
    end_index: int = 0,
    seed: int = 0,
    workers: int | None = None,
    file_format: FileFormat = "fits",
    overwrite: bool = False,
    progress: Report | None = None,
) -> list[Path]:
    """Write the exposures of an index range and their truth.

    For each index and each detector of the gain library there are ``num_exposure_events`` exposures with
    events and ``num_baseline_exposures`` without. Beside ``h2rg_0000.fits`` stand
    ``h2rg_0000_truth.parquet`` (events) and ``h2rg_0000_truth_pixels.parquet``.

    Parameters
    ----------
    config
        What to simulate.
    out
        Folder; ``config.output_dir`` by default.
    start_index, end_index
        First and last index, both included.
    seed
        Same seed, same bits, whatever the number of processes.
    workers
        Processes; the cores of this machine by default. One makes everything in this process.
    file_format
        ``"fits"`` or ``"zarr"``.
    overwrite
        Replace what is there.
    progress
        Called with (done, total, text).

    Returns
    -------
    list of Path
        The exposures, in order.

    Raises
    ------
    InputError
        If the index range is empty.
    OutputExistsError
        If a file is there already; nothing is written then.
    """
    if end_index < start_index or start_index < 0:
        raise InputError(
            f"indices {start_index} to {end_index} name no exposure: give 0 <= start index <= end index"
        )
    from fmbdask.cluster.local import cores

    folder = Path(config.output_dir if out is None else out)
    jobs = [
        Job(
            config,
            exposure,
            folder / f"{exposure_name(config, exposure)}.{file_format}",
            file_format,
            overwrite,
        )
        for exposure in exposures(config, start_index, end_index, seed)
    ]
    if not overwrite:
        for path in (path for job in jobs for path in job.outputs):
            if path.exists():
                raise OutputExistsError(f"{path} is already there: choose another folder or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    count = workers or cores()
    report = progress or _silent
    if not jobs:
        return []
    small = jobs[0].values <= _SMALL
    if count == 1 or (small and len(jobs) == 1):
        _in_this_process(jobs, report)
    else:
        _in_processes(jobs, min(count, len(jobs)) if small else count, small, report)
    return [job.path for job in jobs]


def exposures(config: SimulationConfig, start: int, end: int, seed: int) -> Iterator[Exposure]:
    """List the exposures of an index range."""
    for index in range(start, end + 1):
        for detector in range(len(config.gain_library)):
            for number in range(config.num_exposure_events):
                yield Exposure(seed, index, detector, False, number)
            for number in range(config.num_baseline_exposures):
                yield Exposure(seed, index, detector, True, number)


def truth_paths(exposure: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Files of the events and of the pixels that belong to an exposure."""
    path = Path(exposure)
    return path.with_name(f"{path.stem}_truth.parquet"), path.with_name(f"{path.stem}_truth_pixels.parquet")


def write_truth(truth: Truth, exposure: Path, *, overwrite: bool = False) -> None:
    """Write the truth of an exposure beside it, with units in the columns and the configuration."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = ((truth.events, EVENT_UNITS), (truth.pixels, PIXEL_UNITS))
    for path, (frame, units) in zip(truth_paths(exposure), tables, strict=True):
        kinds = {"O": pa.string(), "b": pa.bool_(), "i": pa.int64(), "f": pa.float64()}
        fields = [
            pa.field(name, kinds[frame[name].dtype.kind], metadata={"unit": unit})
            for name, unit in units.items()
        ]
        schema = pa.schema(fields, metadata={"fmbdask": json.dumps(truth.meta)})
        with atomic(path, overwrite=overwrite) as temporary:
            pq.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False), temporary)


def read_truth(exposure: str | os.PathLike[str]) -> Truth:
    """Read the truth that belongs to a simulated exposure.

    Raises
    ------
    InputError
        If there is none.
    """
    import pyarrow.parquet as pq

    frames: list[pd.DataFrame] = []
    meta: dict[str, Any] = {}
    for path in truth_paths(exposure):
        if not path.is_file():
            raise InputError(f"{path} is not there: only simulated exposures have a truth beside them")
        table = pq.read_table(path)
        meta = json.loads(table.schema.metadata[b"fmbdask"])
        frames.append(table.to_pandas())
    return Truth(frames[0], frames[1], meta)


def write_exposure(job: Job, strips: Callable[[RampWriter, Iterator[Strip]], None]) -> None:
    """Plan an exposure, have its strips written, and write its truth."""
    plan = plan_exposure(job.config, job.exposure, job.path.stem)
    rows, columns = job.config.image_shape
    shape = (job.config.num_frames, rows, columns)
    dtype = np.uint16 if job.config.effects.quantisation else np.float32
    writer = RampWriter(
        job.path,
        shape,
        dtype,
        attributes(plan),
        job.file_format,
        frame_time=job.config.frame_time,
        overwrite=job.overwrite,
    )
    with writer:
        height = strip_height(writer, job)
        strips(writer, (plan.strip(y0, min(y0 + height, rows)) for y0 in range(0, rows, height)))
        write_truth(make_truth(plan), job.path, overwrite=job.overwrite)


def strip_height(writer: RampWriter, job: Job) -> int:
    """Rows that one task makes: what the format asks for, else as many as the memory of a process bears."""
    if job.file_format == "zarr":
        return writer.strip
    return block_height(job.config)


def block_height(config: SimulationConfig) -> int:
    """Rows that are held as floating-point numbers at a time."""
    return max(_BLOCK // (config.num_frames * config.image_shape[1]), 4)


def write_strip(writer: RampWriter, strip: Strip) -> None:
    """Make the rows of a strip, a few at a time, and write them."""
    import zarr

    height = block_height(strip.config)
    if strip.y1 - strip.y0 <= height:
        writer.write_rows(0, strip.y0, simulate_rows(strip))
        return
    shape = (strip.config.num_frames, strip.y1 - strip.y0, strip.config.image_shape[1])
    block = np.empty(shape, writer.dtype)
    for y0 in range(strip.y0, strip.y1, height):
        y1 = min(y0 + height, strip.y1)
        block[:, y0 - strip.y0 : y1 - strip.y0] = simulate_rows(strip.cut(y0, y1))
    # encoders side by side would double the memory, and the other processes use the cores already
    with zarr.config.set({"async.concurrency": 1}):
        writer.write_rows(0, strip.y0, block)


def write_whole(job: Job) -> None:
    """Write one exposure in this process."""

    def strips(writer: RampWriter, parts: Iterator[Strip]) -> None:
        for part in parts:
            write_strip(writer, part)

    write_exposure(job, strips)


def _in_this_process(jobs: list[Job], report: Report) -> None:
    report(0, len(jobs), "simulating")
    for done, job in enumerate(jobs, 1):
        write_whole(job)
        report(done, len(jobs), f"simulated {job.path.name}")


def _in_processes(jobs: list[Job], count: int, small: bool, report: Report) -> None:
    # forking a process that runs threads (Dask, Arrow) can hang it
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(count, mp_context=context) as pool:
            if small:
                names = ((job.path.name, pool.submit(write_whole, job)) for job in jobs)
                _drain(names, len(jobs), _AHEAD * count, report)
                return
            for job in jobs:
                _strips_in(pool, job, _AHEAD * count, report)
    except BrokenProcessPool:
        raise FmbdaskError(
            "a process of the simulation ended before its work was done: use fewer workers if memory is "
            'short, and call from a script under `if __name__ == "__main__":`'
        ) from None


def _strips_in(pool: ProcessPoolExecutor, job: Job, ahead: int, report: Report) -> None:
    def strips(writer: RampWriter, parts: Iterator[Strip]) -> None:
        total = -(-job.config.image_shape[0] // strip_height(writer, job))
        tasks = ((job.path.name, pool.submit(write_strip, writer, part)) for part in parts)
        _drain(tasks, total, ahead, report)

    write_exposure(job, strips)


def _drain(tasks: Iterator[tuple[str, Future[None]]], total: int, ahead: int, report: Report) -> None:
    """Keep ``ahead`` tasks in flight until all are done; the first error ends it."""
    report(0, total, "simulating")
    done = 0
    flying: dict[Future[None], str] = {}
    try:
        for name, future in tasks:
            flying[future] = name
            while len(flying) >= ahead:
                done = _land(flying, done, total, report)
        while flying:
            done = _land(flying, done, total, report)
    finally:
        for future in flying:
            future.cancel()
        wait(flying)


def _land(flying: dict[Future[None], str], done: int, total: int, report: Report) -> int:
    finished, _ = wait(flying, return_when=FIRST_COMPLETED)
    for future in finished:
        name = flying.pop(future)
        future.result()
        done += 1
        report(done, total, f"simulating {name}")
    return done


def _silent(done: int, total: int, text: str) -> None:
    """Report nothing."""
