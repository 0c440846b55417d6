"""A worker that is killed between any two writes: what is marked is there, nothing is there in part."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("first", "stride"), [(1, 9), pytest.param(1, 1, marks=pytest.mark.long)], ids=["some", "all"]
)
def test_killed_between_two_writes(tmp_path: Path, first: int, stride: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.survey.killing", tmp_path, str(first), str(stride)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["steps"] > 50
    assert found["partly"] > 3
