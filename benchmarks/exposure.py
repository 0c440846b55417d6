"""One exposure from file to catalogue: CPU time against decoding plus kernels, memory, wall time.

    python benchmarks/exposure.py EXPOSURE [EXPOSURE...] [--threads 2] [--profile FOLDED]

Each region is first read and then searched on one thread, the two timed apart; then the whole exposure goes
through `fmbdask.ramps.detect` on all threads. Memory is the anonymous part of the resident set above what the
imports and compiled kernels take, against eight chunks a thread plus the two-dimensional maps.

With `--profile` a thread looks at the stacks of all others every few milliseconds while an exposure is
searched, and gives the CPU time that a thread has spent since to the stack that it is in. Printed are CPU
seconds and peak memory by phase; the file holds one stack a line, functions separated by semicolons, and its
CPU time in microseconds: the folded stacks that speedscope and flamegraph.pl draw. Kernels count with the
function that calls them.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections import defaultdict
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
from fmbdask.survey.exposures.compiling import compile_kernels, tiny

#: Functions that make a phase; of those in one stack the first of this list counts.
PHASES = (
    ("prepare: noise", ("measure_noise",)),
    ("prepare: offsets", ("measure",)),
    ("prepare: rest", ("prepare",)),
    ("reduce: halos", ("with_halos",)),
    ("reduce: events", ("find_events",)),
    ("reduce: maps and tables", ("finish",)),
    ("region: fused pass", ("temporal_features",)),
    ("region: rates", ("_rates",)),
    ("region: fit steps", ("fit_steps",)),
    ("region: fit telegraph noise", ("fit_telegraph",)),
    ("region: rates with steps", ("rates_of",)),
    ("region: steps or decays", ("step_or_decay",)),
    ("region: gather ramps", ("gather_ramps",)),
    ("region: rest", ("search_region",)),
    ("decode", ("__call__",)),
)
#: Between two looks of the profiler [s].
INTERVAL = 0.002


def anonymous() -> float:
    """Anonymous resident memory of this process [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


@contextmanager
def peak_of(samples: list[float]):
    """Sample the anonymous memory while the block runs; yields a list that gets the CPU time of that."""
    done, spent = threading.Event(), [0.0]

    def watch() -> None:
        while not done.wait(0.01):
            samples.append(anonymous())
            spent[0] = time.thread_time()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield spent
    finally:
        done.set()
        watcher.join()


class Profile:
    """CPU time of every stack of every thread but its own, and the memory of every phase, sampled."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, ...], float] = defaultdict(float)
        self.peak: dict[str, float] = defaultdict(float)
        self.done = threading.Event()
        self.watcher = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self) -> Profile:
        self.base = anonymous()
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.watcher.join()

    def watch(self) -> None:
        """Look at all threads until it is enough."""
        known: dict[int, float] = {}
        while not self.done.wait(INTERVAL):
            memory = anonymous() - self.base
            for thread, frame in sys._current_frames().items():
                if thread == self.watcher.ident:
                    continue
                try:
                    now = time.clock_gettime(time.pthread_getcpuclockid(thread))
                except OSError:  # it has ended
                    continue
                spent, known[thread] = now - known.get(thread, now), now
                stack = []
                while frame is not None:
                    module = frame.f_globals.get("__name__", "")
                    stack.append((module, frame.f_code.co_name))
                    frame = frame.f_back
                stack.reverse()
                if any(name == "watch" for _, name in stack):
                    continue
                self.seconds[tuple(f"{m}.{name}" for m, name in stack)] += spent
                if spent > 0:
                    phase = phase_of([name for module, name in stack if not module.startswith("threading")])
                    self.peak[phase] = max(self.peak[phase], memory)

    def table(self) -> str:
        """CPU seconds and peak memory by phase, in the order of the phases."""
        seconds: dict[str, float] = defaultdict(float)
        for stack, spent in self.seconds.items():
            seconds[phase_of([name.rpartition(".")[2] for name in stack])] += spent
        names = [name for name, _ in PHASES] + ["other"]
        whole = sum(seconds.values())
        lines = [f"  {'phase':30s} {'CPU s':>7s} {'share':>6s} {'peak MB':>8s}"]
        lines += [
            f"  {n:30s} {seconds[n]:7.2f} {seconds[n] / whole:6.1%} {self.peak[n]:8.0f}"
            for n in names
            if seconds[n] > 0
        ]
        return "\n".join([*lines, f"  {'all':30s} {whole:7.2f}"])

    def write(self, path: Path) -> None:
        """Write folded stacks."""
        folded = sorted((";".join(stack), round(1e6 * spent)) for stack, spent in self.seconds.items())
        path.write_text("".join(f"{stack} {spent}\n" for stack, spent in folded if spent))


def phase_of(names: list[str]) -> str:
    """Phase of a stack of functions."""
    found = set(names)
    return next((phase for phase, wanted in PHASES if not found.isdisjoint(wanted)), "other")


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
        peak_of(samples) as watching,
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        found = fm.ramps.detect(fm.open_ramp(path))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu - watching[0]
    return wall, cpu, max(samples) - base, found


def main() -> None:
    """Print a table for each exposure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exposures", nargs="+")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--profile", type=Path, help="write where the time goes as folded stacks")
    arguments = parser.parse_args()
    bound_arenas()
    compile_kernels()
    fm.ramps.detect(tiny())
    warm, _ = fm.ramps.simulate(shape=(30, 128, 128), seed=1)
    fm.ramps.detect(warm)
    fm.open_ramp(arguments.exposures[0])
    for path in arguments.exposures:
        if arguments.profile is not None:
            with Profile() as profile:
                whole(path, arguments.threads)
            print(f"{path}:")
            print(profile.table())
            name = arguments.profile
            if len(arguments.exposures) > 1:
                name = name.with_stem(f"{name.stem}_{Path(path).stem}")
            profile.write(name)
            continue
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
