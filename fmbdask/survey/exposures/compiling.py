"""First use on a machine: kernels compiled by two processes at once, and left on disk for all others."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

#: What the two processes compile: the fits, and what takes as long as they do before the search needs them.
FITS = "from fmbdask.survey.exposures.compiling import compile_fits; compile_fits()"
REST = "from fmbdask.survey.exposures.compiling import compile_rest; compile_rest()"
SEARCH = "from fmbdask.survey.exposures.compiling import compile_search; compile_search()"


def compile_kernels() -> bool:
    """Compile the kernels of the ramp detector where the cache does not hold them.

    Compilation keeps one core busy, whatever the number of threads, so two processes take half of it. What
    they leave on disk is loaded here; what they failed to leave is compiled here.

    Returns
    -------
    bool
        Whether there was anything to compile.
    """
    from fmbdask_kernels.jit import is_cached
    from fmbdask_kernels.steps import _fit
    from fmbdask_kernels.telegraph import _fit as last

    if is_cached(_fit) and is_cached(last):
        return False
    first: Any = _fit
    with _one_by_one(Path(first._cache.cache_path)):
        if is_cached(_fit) and is_cached(last):  # another worker of this machine has done it meanwhile
            return False
        for children in ((FITS, REST), (SEARCH,)):
            running = [
                subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL, env=os.environ)
                for code in children
            ]
            for child in running:
                child.wait()
    return True


@contextmanager
def _one_by_one(folder: Path) -> Iterator[None]:
    """Let one process at a time inside: all workers of a node would compile the same side by side."""
    with ExitStack() as stack:
        with suppress(OSError):  # a file system without locks, or a folder that may not be written to
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((folder / "compiling.lock").open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def compile_rest() -> None:
    """Compile what measures offsets and noise."""
    from ...ramps.config import DetectionConfig
    from ...ramps.detector import describe
    from ...ramps.prepare import prepare

    prepare(tiny(), describe(tiny()), DetectionConfig(), 0)


def compile_search() -> None:
    """Compile everything that a search calls and the cache does not hold."""
    from ...ramps.detect import detect

    detect(tiny())


def compile_fits() -> None:
    """Compile the fits of steps and telegraph noise, as the detector calls them."""
    from fmbdask_kernels.covariance import read_pattern
    from fmbdask_kernels.held import held_steps
    from fmbdask_kernels.steps import fit_steps
    from fmbdask_kernels.telegraph import fit_telegraph

    ramps = tiny().values[0].reshape(_FRAMES, -1).T.astype(np.float32)
    used, pattern = np.ones(ramps.shape, np.bool_), read_pattern(np.arange(_FRAMES))
    variance, dof, floor, poisson = 100.0, 50.0, 5e-3, 1.0
    steps = fit_steps(ramps, used, variance, dof, floor, floor, poisson, 4.5, pattern, 12)
    fit_telegraph(ramps, used, variance, dof, steps.rho, floor, poisson, pattern, steps)
    held_steps(ramps, used, variance, dof, floor, poisson, pattern, _FRAMES // 2)


_FRAMES, _EDGE = 24, 24


def tiny() -> xr.DataArray:
    """A ramp with a hit, a telegraph pixel and a border, just large enough for every kernel to be called."""
    counts = np.random.default_rng(1).normal(1000, 10, (1, _FRAMES, _EDGE, _EDGE))
    counts[0, 12:, 12, 12] += 300
    for start in range(4, _FRAMES, 8):
        counts[0, start : start + 4, 8, 16] += 150
    counts[0, 10:, 16, 8] = 65535
    return xr.DataArray(
        np.rint(counts).astype(np.uint16),
        dims=("integration", "frame", "y", "x"),
        attrs={"gain": 1.0, "reference_border": [2, 2, 2, 2], "amplifiers": 1, "source": "a tiny ramp"},
        name="ramp",
    )
