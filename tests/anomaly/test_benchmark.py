"""The benchmark of detectors runs, at small size, so that it cannot rot."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "detectors.py"


@pytest.mark.parametrize("lazy", [False, True])
def test_detectors(
    lazy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--objects", "5000", "--width", "104", "--threads", "2", "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["detectors.py", *given, *(["--lazy"] if lazy else [])])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    assert "scores of both, one pass" in printed
    assert "throughput" in printed
    assert ("cosine: 1/" in printed) is not lazy
    assert len(list(tmp_path.iterdir())) == (0 if lazy else 1)
