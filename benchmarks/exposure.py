"""One exposure from file to catalogue: CPU time against decoding plus kernels, memory, wall time.

    python benchmarks/exposure.py EXPOSURE [EXPOSURE...] [--threads 2]

Each region is first read and then searched on one thread, the two timed apart; then the whole exposure goes
through `fmbdask.ramps.detect` on all threads. Memory is the anonymous part of the resident set above what the
imports and compiled kernels take, against eight chunks a thread plus the two-dimensional maps.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import dask
import numpy as np

import fmbdask as fm
from fmbdask.cluster.memory import bound_arenas
from fmbdask.ramps.blocks import chunked
from fmbdask.ramps.config import DetectionConfig
from fmbdask.ramps.detector import as_ramp, describe
from fmbdask.ramps.prepare import prepare
from fmbdask.ramps.region import Limits, search_region
from fmbdask.ramps.sample import read
from fmbdask.regions import tile_regions


def anonymous() -> float:
    """Anonymous resident memory of this process [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def peak_of(samples: list[float]):
    """Sample the anonymous memory while the block runs."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            samples.append(anonymous())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def apart(path: str) -> tuple[float, float, float]:
    """CPU seconds of preparing, of decoding all regions, and of searching them, on one thread."""
    ramp = as_ramp(fm.open_ramp(path))
    detector, settings = describe(ramp), DetectionConfig()
    began = time.process_time()
    prepared = [prepare(ramp, detector, settings, i) for i in range(detector.shape[0])]
    preparing, decoding, searching = time.process_time() - began, 0.0, 0.0
    for region in tile_regions(ramp.shape, max(chunked(ramp).chunks[2])):
        t0 = time.process_time()
        data = read(ramp, region)
        t1 = time.process_time()
        search_region(
            data, prepared[region.integration], region, Limits.of(prepared[0], region, None, None, None)
        )
        decoding += t1 - t0
        searching += time.process_time() - t1
    return preparing, decoding, searching


def whole(path: str, threads: int) -> tuple[float, float, float, object]:
    """Wall seconds, CPU seconds and peak anonymous memory [MB] of a detection on all threads."""
    base, samples = anonymous(), [0.0]
    with (
        ThreadPoolExecutor(threads) as pool,
        dask.config.set(scheduler="threads", pool=pool),
        peak_of(samples),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        found = fm.ramps.detect(fm.open_ramp(path))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return wall, cpu, max(samples) - base, found


def main() -> None:
    """Print a table for each exposure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exposures", nargs="+")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    bound_arenas()
    warm, _ = fm.ramps.simulate(shape=(30, 128, 128), seed=1)
    fm.ramps.detect(warm)
    for path in arguments.exposures:
        wall, cpu, peak, found = whole(path, arguments.threads)
        preparing, decoding, searching = apart(path)
        ramp = fm.open_ramp(path)
        chunk = np.prod([max(c) for c in chunked(as_ramp(ramp)).chunks]) * ramp.dtype.itemsize / 2**20
        maps = sum(v.nbytes for v in found.maps.variables.values()) / 2**20
        print(f"{path}: {ramp.shape} {ramp.dtype}, {ramp.nbytes / 1e9:.2f} GB, {found}")
        both, limit = decoding + searching, 8 * chunk * arguments.threads
        print(f"  end to end   {wall:6.2f} s wall, {cpu:6.2f} s CPU, {ramp.nbytes / wall / 1e9:.2f} GB/s")
        print(
            f"  apart        {decoding:6.2f} s CPU to decode, {searching:.2f} search, {preparing:.2f} prepare"
        )
        print(f"  ratio        {cpu / both:6.2f} x (decoding + searching); at most 1.2")
        print(f"  memory       {peak:6.0f} MB with {maps:.0f} MB of maps; at most {limit:.0f} MB beside them")


if __name__ == "__main__":
    main()
