"""Where the time of one exposure goes, as the script in benchmarks/ tells it."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from fmbdask.ramps.simulation import SimulationConfig
from fmbdask.survey.exposures.simulate import simulate_survey

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "exposure.py"


def test_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (path,) = simulate_survey(SimulationConfig().resized(40, 128, 128), tmp_path, seed=1, workers=1)
    out = tmp_path / "folded.txt"
    monkeypatch.setattr(sys, "argv", ["exposure.py", str(path), "--profile", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    table = dict(re.findall(r"^  (.+?) +(\d+\.\d\d)(?: |$)", capsys.readouterr().out, re.MULTILINE))
    assert float(table["all"]) == pytest.approx(
        sum(float(v) for k, v in table.items() if k != "all"), abs=0.1
    )
    lines = [line.rpartition(" ") for line in out.read_text().splitlines()]
    # microseconds in the file, seconds in the table
    assert sum(int(spent) for *_, spent in lines) / 1e6 == pytest.approx(float(table["all"]), abs=0.02)
    assert any("fmbdask.ramps.detect.detect;" in stack for stack, *_ in lines)
