"""The scripts in benchmarks/ run, at small size, so that they cannot rot."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from fmbdask.cli.app import app
from fmbdask.ramps.simulation import SimulationConfig
from fmbdask.survey.bench.overhead import summary, where
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


def run(script: str, *arguments: str) -> str:
    """What a script prints, in a process of its own: some of them fork, which tests with threads must not."""
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *arguments], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def test_million(tmp_path: Path) -> None:
    printed = run("million.py", "2000", "--each", "8", "--assume", "-o", str(tmp_path))
    assert printed.startswith("2000 regions in 250 exposures")
    for name in ("plan", "marks", "resume: ledger", "status", "ledger from journals"):
        assert re.search(rf"^{name} +\d", printed, re.MULTILINE), printed


def test_cost() -> None:
    printed = run("cost.py", "--cores", "1", "--set", "exposure_cpu=36")
    assert "1,000 core-hours" in printed
    ramps = printed.split("1e+09 objects")[0]
    # so few cores that they are what decides
    assert re.search(r"^ +10 +10 +100\.00 .* cores$", ramps, re.MULTILINE), ramps


def test_all_of_them_end_in_a_summary(tmp_path: Path) -> None:
    printed = run("all.py", "--quick", "--only", "kernels,cost", "-o", str(tmp_path))
    assert [line.split()[0] for line in printed.splitlines()] == ["kernels", "cost"]
    rows = pd.read_csv(tmp_path / "summary.csv")
    assert rows["status"].tolist() == ["done", "done"]
    assert rows["figure"].str.len().min() > 10


@pytest.mark.long
def test_projection(tmp_path: Path) -> None:
    table = tmp_path / "projection.csv"
    printed = run("projection.py", "--quick", "-o", str(tmp_path), "--csv", str(table))
    assert "2 workers; ratios from" in printed
    found = pd.read_csv(table)
    assert found["format"].tolist() == ["fits", "zarr"]
    assert (found.filter(like="ratio") > 0).all(axis=None)


@pytest.mark.long
def test_overhead(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "overhead", "--quick", "-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    rounds = pd.read_csv(tmp_path / "overhead_rounds.csv")
    assert rounds["way"].tolist() == ["loop", "survey", "cp"]
    shares = pd.read_csv(tmp_path / "overhead_where.csv").set_index("part")["share"]
    assert shares.iloc[:4].sum() == pytest.approx(1)


def test_where_the_time_of_workers_goes() -> None:
    columns = ["worker", "kind", "begin", "end", "cpu"]
    mine = pd.DataFrame(
        [("a", "map", 0, 4, 4), ("a", "map", 5, 9, 4), ("b", "map", 1, 7, 6)], columns=columns
    )
    loop = pd.DataFrame([("x", "map", 0, 7, 7)], columns=columns)
    shares = where(mine, loop, coordinator=0.7).set_index("part")["share"]
    assert shares["units"] == pytest.approx(14 / 18)
    assert shares["before a worker's first unit"] == pytest.approx(1 / 18)
    assert shares["after its last unit"] == pytest.approx(2 / 18)
    assert shares["between units"] == pytest.approx(1 / 18)
    assert shares["map: CPU, survey over loop"] == pytest.approx(2)
    assert shares["coordinator: CPU over the loop's"] == pytest.approx(0.1)


def test_ratios_are_those_of_each_round() -> None:
    rows = [
        (0, "loop", 2.0),
        (0, "survey", 3.0),
        (1, "loop", 4.0),
        (1, "survey", 4.4),
        (0, "cp", 1.0),
        (1, "cp", 1.0),
    ]
    table = pd.DataFrame(rows, columns=["round", "way", "wall"])
    for name in ("cpu", "start", "end", "cpu_all"):
        table[name] = table["wall"]
    found = summary(table).set_index("way")
    assert found.loc["survey", ["ratio", "ratio_low", "ratio_high"]].tolist() == pytest.approx(
        [1.3, 1.1, 1.5]
    )
    assert found.loc["loop", "cpu_ratio"] == 1
