"""Time and memory that a detector takes to learn from a table and to score all of it.

    python benchmarks/tables_million.py KIND [--rows 1000000] [--width 100] [--steps N] [--set NAME=VALUE ...]

The table is made on the fly, block by block: vectors from 20 latent variables through a bent map, with noise;
with ``--steps`` sequences of so many steps and ``--width`` features, periodic with correlated noise.
"""

from __future__ import annotations

import argparse
import ast
import os
import resource
import time
import warnings
from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import xarray as xr

from fmbdask.anomaly import class_of
from fmbdask.anomaly.threads import cores

#: Rows of a chunk, and latent variables.
CHUNK, LATENT = 16384, 20


def vectors(start: int, stop: int, width: int) -> np.ndarray:
    """Rows of the table; (stop - start, width) float32."""
    maps = np.random.default_rng(0).normal(size=(2, LATENT, width)).astype(np.float32) / LATENT**0.5
    random = np.random.default_rng([1, start])
    latent = random.standard_normal((stop - start, LATENT), np.float32)
    bent = latent @ maps[0] + np.tanh(latent) ** 2 @ maps[1]
    return bent + np.float32(0.1) * random.standard_normal(bent.shape, np.float32)


def sequences(start: int, stop: int, steps: int, width: int) -> np.ndarray:
    """Periodic signals with correlated noise; (stop - start, steps, width) float32."""
    random = np.random.default_rng([2, start])
    size = (stop - start, 1, width)
    phase = random.uniform(0, 2 * np.pi, size) + random.uniform(0.2, 0.6, size) * np.arange(steps)[:, None]
    noise = random.standard_normal((stop - start, steps, width), np.float32)
    for step in range(1, steps):
        noise[:, step] += 0.5 * noise[:, step - 1]
    return (np.sin(phase) + 0.2 * noise).astype(np.float32)


def table(rows: int, width: int, steps: int | None) -> xr.DataArray:
    """A lazy table, or sequences."""
    cuts = [*range(0, rows, CHUNK), rows]
    shape = (width,) if steps is None else (steps, width)
    make = dask.delayed(vectors if steps is None else sequences, pure=True)
    blocks = [da.from_delayed(make(a, b, *shape), (b - a, *shape), np.float32) for a, b in pairwise(cuts)]
    dims = ("object", "feature") if steps is None else ("object", "time", "feature")
    return xr.DataArray(da.concatenate(blocks), dims=dims, name="table")


def clocks() -> tuple[float, float]:
    """Seconds: of the clock, and of CPU."""
    return time.perf_counter(), time.process_time()


def peak() -> float:
    """Largest resident memory so far [GB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Learn, score, and print what both took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kind", help="autoencoder, isolation_forest, neighbours, lstm, mahalanobis ...")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=100, help="features")
    parser.add_argument("--steps", type=int, help="of sequences")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the detector")
    arguments = parser.parse_args()
    settings = {}
    for text in arguments.set:
        name, _, value = text.partition("=")
        try:
            settings[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            settings[name] = value
    detector = class_of(arguments.kind)(**settings)
    data = table(arguments.rows, arguments.width, arguments.steps)
    small = table(2048, arguments.width, arguments.steps)
    with dask.config.set(scheduler="threads", num_workers=cores()), warnings.catch_warnings():
        warnings.simplefilter("error")
        begin = clocks()
        data.max().compute()
        print_line("making", begin, arguments.rows)
        begin = clocks()
        detector.fit(data, progress=lambda *_: None)
        print_line("fit", begin, arguments.rows)
        detector.score(small).compute()
        begin = clocks()
        found = detector.score(data).compute().values
        print_line("score", begin, arguments.rows)
    shape = f"{arguments.rows} x " + (f"{arguments.steps} x " if arguments.steps else "")
    print(
        f"{arguments.kind} {settings or ''} on {shape}{arguments.width}: scores from {found.min():.4g} to "
        f"{found.max():.4g}; {cores()} cores, load {os.getloadavg()[0]:.1f}"
    )


def print_line(what: str, begin: tuple[float, float], rows: int) -> None:
    """What a step took."""
    wall, cpu = (now - then for now, then in zip(clocks(), begin, strict=True))
    print(
        f"{what:<8}{wall:9.1f} s  {cpu:9.1f} s CPU  {1e6 * cpu / rows:8.2f} us a row  peak {peak():6.2f} GB",
        flush=True,
    )


if __name__ == "__main__":
    main()
