"""The benchmark from end to end, small: every kind of task through a run, its rows, tables and figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fmbdask.cli.app import app
from fmbdask.errors import ConfigError, InputError
from fmbdask.survey.bench.scaling.advice import advice, shortest
from fmbdask.survey.bench.scaling.session import Plan, compared, plan_of, scaling
from fmbdask.survey.bench.scaling.table import COLUMNS, append
from fmbdask.survey.bench.scaling.tasks import KINDS, Bench

FIGURES = ("efficiency", "throughput", "shares")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, str]:
    """All kinds on two threads of this process."""
    out = tmp_path_factory.mktemp("scaling")
    plan = Plan("threads", "weak", KINDS, (2,), (0.02,), repeat=1, seconds=0.1)
    text, paths = scaling(plan, out)
    assert [p.name for p in paths[2:]] == [f"scaling_{name}.png" for name in FIGURES]
    assert all(path.stat().st_size > 0 for path in paths)
    return out, pd.read_csv(out / "scaling.csv"), text


def test_there_is_a_row_a_run(measured: tuple[Path, pd.DataFrame, str]) -> None:
    _, rows, text = measured
    assert tuple(rows.columns) == COLUMNS
    assert list(rows["task"]) == list(KINDS)
    assert list(rows["slots"]) == [2] * len(KINDS)
    assert all(f"{kind}, tasks of 0.02 s, weak, threads" in text for kind in KINDS)


def test_rows_are_consistent(measured: tuple[Path, pd.DataFrame, str]) -> None:
    rows = measured[1]
    assert (rows["work"] <= rows["slots"] * rows["wall"]).all()
    assert (rows["most_busy"] <= rows["slots"]).all()
    assert rows["throughput"].to_numpy() == pytest.approx((rows["regions"] / rows["wall"]).to_numpy())
    assert rows["scheduling_total"].between(0, 1).all()
    assert rows["efficiency"].to_numpy() == pytest.approx(np.ones(len(KINDS)))
    assert rows["slowdown"].to_numpy() == pytest.approx(np.ones(len(KINDS)))
    by_kind = rows.set_index("task")["bytes_per_second"]
    assert (by_kind[["memory", "io", "ramps"]] > 0).all()
    assert (by_kind[["sleep", "compute"]] == 0).all()
    asleep = rows[rows["task"] == "sleep"]
    assert (asleep["region_median"] >= 0.02).all()
    assert (asleep["regions"] == 5 * asleep["slots"]).all()


def test_nothing_of_the_runs_is_left(measured: tuple[Path, pd.DataFrame, str]) -> None:
    kept = {path.name for path in measured[0].iterdir()}
    assert kept == {"scaling.csv", "scaling.txt", *(f"scaling_{name}.png" for name in FIGURES)}


def test_runs_are_compared_with_those_of_the_fewest_threads() -> None:
    def row(slots: int, throughput: float, region: float) -> dict[str, object]:
        same = {"task": "io", "task_seconds": 1.0}
        return same | {"slots": slots, "throughput": throughput, "region_median": region}

    rows = [row(1, 1.0, 1.0), row(1, 1.2, 0.8), row(4, 2.2, 1.8)]
    found = compared(rows[2], rows)
    assert found["slowdown"] == pytest.approx(2.0)
    assert found["efficiency"] == pytest.approx(0.5)
    assert compared(rows[0], rows)["efficiency"] == pytest.approx(1 / 1.1)


def test_rows_are_appended_where_columns_agree(tmp_path: Path) -> None:
    path = tmp_path / "scaling.csv"
    row = dict.fromkeys(COLUMNS, 1)
    append(path, [row])
    append(path, [row, row])
    with path.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    path.write_text("host,cpu\n")
    with pytest.raises(InputError, match="other columns"):
        append(path, [row])
    with pytest.raises(InputError, match="other columns"):
        scaling(Plan("threads"), tmp_path)


def test_command_on_processes_and_saturation(tmp_path: Path) -> None:
    """Sleeping tasks on many threads of one process."""
    words = ["bench", "scaling", "--mode", "saturation", "--slots", "8,16", "--processes", "1"]
    words += ["--task-seconds", ".05", "--seconds", ".2", "-o", str(tmp_path)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0
    rows = pd.read_csv(tmp_path / "scaling.csv")
    assert list(rows["slots"]) == [8, 16]
    assert list(rows["threads"]) == [8, 16]
    assert (rows["cluster"] == "local").all()
    assert (rows["cpu_coordinator"] > 0).all()
    assert (tmp_path / "scaling_saturation.png").stat().st_size > 0


def test_work_of_a_run(tmp_path: Path) -> None:
    weak, strong = Plan(workers=(1, 4), seconds=2.0), Plan(mode="strong", workers=(1, 4), seconds=2.0)
    assert [weak.count(0.1, n) for n in (1, 4)] == [20, 80]
    assert [strong.count(0.1, n) for n in (1, 4)] == [80, 80]
    assert weak.count(10.0, 2) == 10
    survey = Bench("sleep", tmp_path).survey(0.1, 10, tmp_path / "run")
    assert [item.regions for item in survey.plan.items] == [(4,), (4,), (2,)]
    assert survey.regions == 10
    assert survey.plan.calibration.costs(0, survey.plan.items[0]).region == pytest.approx(0.1)
    assert not survey.plan.refusals


def test_saturation_spreads_threads_over_processes() -> None:
    plan = plan_of("local", "saturation", None, (100, 1000), None, None, None)
    assert [(n, slots) for _, n, slots in plan.sites()] == [(4, 100), (4, 1000)]
    assert [site.threads for site, _, _ in plan.sites()] == [25, 250]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"tasks": ("sleep", "swim")}, "no task swim"),
        ({"mode": "feeble"}, "no mode feeble"),
        ({"mode": "saturation", "tasks": ("io",)}, "sleeping tasks alone"),
        ({"workers": (0, 1)}, "at least 1"),
        ({"cluster": "tcp://127.0.0.1:1"}, "cannot be chosen"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Plan(**fields)  # type: ignore[arg-type]


def test_bad_inputs_of_made_up_work_fail_by_name(tmp_path: Path) -> None:
    from fmbdask.survey.config import SurveyConfig
    from fmbdask.survey.pipelines import make

    for name, content in {"a": "{}", "b": "nothing", "c": json.dumps({"regions": 0})}.items():
        (tmp_path / name).write_text(content)
    pipeline = make(SurveyConfig(pipeline="synthetic"))
    items = pipeline.items([str(tmp_path / name) for name in "abcd"], 0)
    assert all("no synthetic input" in item.problem for item in items[:3])
    assert "cannot be read" in items[3].problem
    with pytest.raises(ConfigError, match=r"options\.speed"):
        make(SurveyConfig(pipeline="synthetic", options={"speed": 3}))


def saturated(slots: int, seconds: float, scheduling: float) -> dict[str, object]:
    return {
        "cluster": "local", "mode": "saturation", "task": "sleep", "task_seconds": seconds, "slots": slots,
        "scheduling": scheduling, "task_mean": seconds, "wall": 1.0, "repeat": 0, "tasks": 5000,
        "cpu_coordinator": 10.0, "worker_cores": 4,
    }  # fmt: skip


def test_advice_follows_from_the_rate_where_the_scheduler_was_the_limit() -> None:
    rows = [saturated(1000, 10.0, 0.99), saturated(1000, 1.0, 0.4), saturated(3000, 1.0, 0.13)]
    text = advice(pd.DataFrame(rows))
    assert "390 to 400 tasks a second on 4 cores" in text
    assert "2 ms of CPU time a task" in text
    assert "at 500 a second" in text
    assert f"{shortest(395, 1000):.1f} s with 1000 threads" in text
    assert "job array" in text
    free = advice(pd.DataFrame(rows[:1]))
    assert "No saturation was seen: 1000 threads" in free


def test_advice_follows_from_what_a_task_costs() -> None:
    rows = pd.DataFrame([saturated(2, 0.1, 0.8), saturated(2, 1.0, 0.98)])
    rows = rows.assign(mode="weak", overhead=[0.020, 0.022])
    text = advice(rows)
    assert "21 ms beside its work" in text
    assert "at least 0.4 s" in text
    assert advice(rows.assign(task="io")) == ""
