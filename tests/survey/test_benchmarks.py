"""The scripts in benchmarks/ run, at small size, so that they cannot rot."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from fmbdask.ramps.simulation import SimulationConfig
from fmbdask.survey.exposures.simulate import simulate_survey

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def test_exposure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = simulate_survey(SimulationConfig().resized(20, 64, 64), tmp_path, seed=1, workers=1)
    monkeypatch.setattr(sys, "argv", ["exposure.py", str(path), "--threads", "2"])
    runpy.run_path(str(SCRIPTS / "exposure.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "end to end" in printed
    assert "x (decoding + searching)" in printed
    assert "MB of maps" in printed
