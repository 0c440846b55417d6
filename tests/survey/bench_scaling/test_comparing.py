"""Comparing files of rows: what is slower, what is noise, what one run cannot tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fmbdask.cli.app import app
from fmbdask.errors import InputError
from fmbdask.survey.bench.scaling.comparing import compare_files, ratio_of


def rows(
    path: Path, walls: list[float], *, task: str = "sleep", cpu: float = 1.0, host: str = "here"
) -> Path:
    """A file of repeats of one measurement."""
    pd.DataFrame(
        {
            "host": host, "cluster": "local", "mode": "weak", "task": task, "task_seconds": 0.1, "workers": 2,
            "threads": 1, "regions": 100, "wall": walls, "cpu_workers": cpu, "cpu_coordinator": 0.5,
        }
    ).to_csv(path, index=False)  # fmt: skip
    return path


def test_slower_and_faster_are_told_apart(tmp_path: Path) -> None:
    old = rows(tmp_path / "a.csv", [10.0, 10.2, 9.9])
    new = rows(tmp_path / "b.csv", [13.0, 13.1, 12.8], cpu=0.5, host="there")
    found = compare_files(old, new).set_index("measure")
    assert found.loc["wall", "verdict"] == "slower"
    assert found.loc["wall", "low"] < found.loc["wall", "ratio"] < found.loc["wall", "high"]
    assert found.loc["wall", "ratio"] == pytest.approx(1.3)
    assert found.loc["cpu", "verdict"] == "faster"
    back = compare_files(new, old).set_index("measure")
    assert back.loc["wall", "verdict"] == "faster"
    assert back.loc["wall", "low"] == pytest.approx(1 / found.loc["wall", "high"])


@pytest.mark.parametrize(
    ("before", "after", "tolerance", "verdict"),
    [
        ([10.0, 10.1, 9.9], [10.5, 10.4, 10.6], 0.1, "same"),  # surely slower, but within the tolerance
        ([10.0, 10.1, 9.9], [10.5, 10.4, 10.6], 0.02, "slower"),
        ([10.0, 16.0, 7.0], [13.0, 9.0, 18.0], 0.1, "same"),  # beyond the tolerance, but noise
        ([10.0], [20.0], 0.1, "one run"),
        ([10.0], [10.1], 0.1, "same"),
        ([10.0, 10.0], [20.0, 20.0], 0.1, "slower"),
    ],
)
def test_verdicts(
    tmp_path: Path, before: list[float], after: list[float], tolerance: float, verdict: str
) -> None:
    found = compare_files(rows(tmp_path / "a.csv", before), rows(tmp_path / "b.csv", after), tolerance)
    assert list(found[found["measure"] == "wall"]["verdict"]) == [verdict]


def test_interval_holds_the_ratio_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        _, low, high = ratio_of(np.exp(rng.normal(0, 0.1, 3)), np.exp(rng.normal(0.2, 0.1, 4)))
        held += low <= np.exp(0.2) <= high
    assert 0.92 < held / 400 < 0.99


def test_files_with_nothing_in_common_are_refused(tmp_path: Path) -> None:
    old, new = rows(tmp_path / "a.csv", [1.0]), rows(tmp_path / "b.csv", [1.0], task="io")
    with pytest.raises(InputError, match="nothing in common"):
        compare_files(old, new)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="no column cluster"):
        compare_files(path, path)
    with pytest.raises(InputError, match="cannot be read"):
        compare_files(tmp_path / "none.csv", path)


def test_command_ends_with_1_where_something_got_slower(tmp_path: Path) -> None:
    old, new = rows(tmp_path / "a.csv", [10.0, 10.1]), rows(tmp_path / "b.csv", [20.0, 20.1])
    run = CliRunner()
    slower = run.invoke(app, ["bench", "compare", str(old), str(new)])
    assert slower.exit_code == 1
    assert "1 slower" in slower.output
    assert run.invoke(app, ["bench", "compare", str(new), str(old)]).exit_code == 0
    assert run.invoke(app, ["bench", "compare", str(old), str(new), "--tolerance", "1.5"]).exit_code == 0
