"""Kernels as they are compiled: the same bits for who compiles and who loads."""

from __future__ import annotations

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fmbdask_kernels
import numpy as np
import pytest
from fmbdask_kernels.covariance import read_pattern
from fmbdask_kernels.steps import fit_steps

#: Searches a small ramp whose fits have many steps, and prints every float it finds.
SEARCH = """
import hashlib
import numpy as np
from fmbdask.ramps.detect import detect
from fmbdask.survey.exposures.compiling import tiny
found = detect(tiny())
whole = hashlib.sha256()
for name in ("rate", "rate_error", "mask"):
    whole.update(np.ascontiguousarray(found.maps[name].values).tobytes())
numbers = found.events.select_dtypes("number")
whole.update(np.ascontiguousarray(numbers.to_numpy(np.float64)).tobytes())
print(len(found.events), whole.hexdigest())
"""


def dispatchers() -> Iterator[Any]:
    """Everything of the kernels that numba compiles."""
    for info in pkgutil.iter_modules(fmbdask_kernels.__path__):
        if info.ispkg:
            continue
        module = importlib.import_module(f"fmbdask_kernels.{info.name}")
        for value in vars(module).values():
            if getattr(value, "__module__", "") == module.__name__ and hasattr(value, "overloads"):
                yield value


def foreign(compiled: Any) -> list[str]:
    """Functions of this package that the object of a kernel holds beside the kernel itself."""
    own = compiled.fndesc.mangled_name.removeprefix("_ZN")
    functions = compiled.library._get_module_for_linking().functions
    names = [f.name for f in functions if not f.is_declaration and "fmbdask" in f.name]
    return [name for name in names if own not in name]


def test_kernels_hold_all_they_call() -> None:
    """A function in the objects of two kernels is one in a process: which, depends on what it loads first."""
    ramps = np.random.default_rng(1).normal(0, 10, (40, 24)).astype(np.float32)
    ramps[:20, 12:] += 100
    pattern, used = read_pattern(np.arange(24)), np.ones(ramps.shape, bool)
    fit_steps(ramps, used, 100.0, 50.0, 5e-3, 5e-3, 1.0, 4.5, pattern)
    compiled = [c for d in dispatchers() for c in d.overloads.values()]
    assert compiled
    assert {c.fndesc.qualname: foreign(c) for c in compiled if foreign(c)} == {}


@pytest.mark.long
def test_the_process_that_compiles_finds_the_same_bits(tmp_path: Path) -> None:
    """A search with an empty cache against one that loads what the first left there."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    found = [
        subprocess.run(
            [sys.executable, "-c", SEARCH], env=environment, check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    ]
    assert int(found[0].split()[0]) >= 2
    assert found[0] == found[1]
