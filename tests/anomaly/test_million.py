"""The benchmark of any detector on a large table runs at a small size."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    "options",
    ["mahalanobis --rows 3000 --width 8", "lstm --rows 3000 --width 2 --steps 9 --set epochs=1 hidden=(4,3)"],
)
def test_it_prints_times_and_memory(
    options: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tables_million.py", *options.split()])
    runpy.run_path(str(BENCHMARKS / "tables_million.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["making", "fit", "score"]
    assert all("us a row" in line and "GB" in line for line in lines[:3])
    assert "on 3000 x" in lines[3]
