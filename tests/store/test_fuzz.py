"""Damaged files of every format end in one sentence or in the right array: see :mod:`tests.store.fuzz`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from . import fuzz

ROOT = Path(__file__).resolve().parents[2]
#: Cases of each format: few here, the others in a process of their own that may die or hang without harm.
FEW, MANY, SECONDS = 4, 150, 400


@pytest.mark.parametrize("kind", fuzz.FORMATS)
def test_a_few_damaged_files(kind: str, tmp_path: Path) -> None:
    original = fuzz.FORMATS[kind][0](tmp_path)
    for case in range(FEW):
        fuzz.play(kind, case, original, tmp_path / f"case{case}")


@pytest.mark.long
@pytest.mark.parametrize("kind", fuzz.FORMATS)
def test_many_damaged_files(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.store.fuzz", kind, str(FEW), str(MANY), str(tmp_path / "fuzz")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    wrong = [line for line in done.stdout.splitlines() if "WRONG" in line]
    assert not wrong, wrong
    assert done.returncode == 0, f"{done.stdout[-300:]}\n{done.stderr[-3000:]}"
    outcomes = [line.split(":")[0].strip() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert len(outcomes) == MANY
    # damage that nothing notices, or that nothing survives, would be no test
    assert outcomes.count("sentence") > MANY // 10
    assert outcomes.count("sentence") < MANY
