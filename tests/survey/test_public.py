"""The functions that `fmbdask.survey` lends."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import fmbdask


@pytest.mark.parametrize("name", ["pipeline", "plan", "resume", "run"])
def test_functions_are_meant_whichever_modules_were_imported(name: str) -> None:
    for module in ("pipelines.protocol", "planning.plan", "running.run"):
        importlib.import_module(f"fmbdask.survey.{module}")
    assert callable(getattr(fmbdask.survey, name))
    assert name in dir(fmbdask.survey)


def test_the_room_opens_at_once() -> None:
    code = "import sys, fmbdask.survey; print(' '.join(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numba", "dask", "distributed", "torch", "xarray", "pydantic"} & set(loaded.split())
