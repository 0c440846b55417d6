"""Compilation at first use: two processes make what one search needs, once."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SIGNATURES = """
from fmbdask_kernels import gather, steps, telegraph, temporal
from fmbdask.survey.exposures.compiling import compile_fits
import fmbdask as fm
compile_fits()
ramp, _ = fm.ramps.simulate(shape=(20, 64, 64), seed=1)
fm.ramps.detect(ramp)
fm.ramps.detect(ramp.chunk({"y": 30}))
kernels = (steps._fit, telegraph._fit, gather._gather, temporal.fused)
print([len(k.signatures) for k in kernels])
"""
COLD = """
from fmbdask.survey.exposures.compiling import compile_kernels
print(compile_kernels(), compile_kernels())
"""


def run(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return done.stdout.strip()


def test_the_fits_are_compiled_for_the_types_that_detection_uses() -> None:
    assert run(SIGNATURES) == "[1, 1, 1, 1]"


@pytest.mark.long
def test_an_empty_cache_is_filled_once_by_one_of_the_workers_of_a_machine(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        said = pool.map(lambda _: run(COLD, NUMBA_CACHE_DIR=str(tmp_path)), range(2))
    assert sorted(said) == ["False False", "True False"]
