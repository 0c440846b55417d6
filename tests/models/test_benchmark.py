"""The benchmark of U-Nets runs, at small size, so that it cannot rot."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "unet.py"


def test_unet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads()
    small = [
        "--patch",
        "8",
        "8",
        "8",
        "--batches",
        "1",
        "2",
        "--repeats",
        "1",
        "--large-patch",
        "8",
        "8",
        "8",
    ]
    monkeypatch.setattr(sys, "argv", ["unet.py", "--threads", "1", *small])
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        torch.set_num_threads(before)
    printed = capsys.readouterr().out
    assert "the loss fell" in printed
    assert "comes back the same" in printed
    assert "22578372 parameters" in printed
    assert printed.count("ns a voxel") == 4
