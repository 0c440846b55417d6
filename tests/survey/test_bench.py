"""The benchmarks: that they run, that what they compare is comparable, and that they count right."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

from fmbdask.cli.app import app
from fmbdask.errors import ConfigError, InputError
from fmbdask.ramps.simulation import Truth
from fmbdask.survey.bench.kernels import kernels
from fmbdask.survey.bench.kernels.measure import make_problem
from fmbdask.survey.bench.kernels.vectorised import vectorised_features
from fmbdask.survey.bench.peers import environment
from fmbdask.survey.bench.peers.compare import Tool, compare, tools
from fmbdask.survey.bench.peers.environment import Peers, peer_environment
from fmbdask.survey.bench.peers.figure import peers_figure
from fmbdask.survey.bench.peers.grouping import events_of_flags
from fmbdask.survey.bench.settings import CLEAN, FRAME_TIME, SETTINGS
from fmbdask.survey.bench.truth.ideal import ideal_error
from fmbdask.survey.bench.truth.judge import snowball_cover
from fmbdask.survey.bench.truth.report import printed
from fmbdask.survey.bench.truth.run import (
    Plan,
    completeness_by,
    median_and_worst,
    plan_of,
    reliability,
    truth,
)
from fmbdask.survey.bench.write import as_text, write_tables


@pytest.mark.parametrize("frames", [12, 31])
def test_numpy_and_fused_pass_do_the_same(frames: int) -> None:
    p = make_problem(frames, 24)
    got = vectorised_features(p.data, p.used, p.tables, p.prior, p.offsets, p.pattern)
    np.testing.assert_allclose(got, p.run(), rtol=2e-3, atol=2e-3)


def test_every_row_has_a_positive_value() -> None:
    rows = kernels(frames=12, size=16, repeats=1)
    assert len({(row.name, row.unit) for row in rows}) == len(rows)
    assert all(np.isfinite(row.value) and row.value > 0 for row in rows)


def test_command_prints_json() -> None:
    result = CliRunner().invoke(app, ["bench", "kernels", "--frames", "12", "--size", "16", "--json"])
    assert result.exit_code == 0, result.output
    names = [row["name"] for row in json.loads(result.output)]
    assert "fused pass" in names


TINY = Plan(
    sizes=((24, 64, 64),),
    seeds=2,
    clean_frames=(20,),
    clean_size=64,
    ramps=4096,
    step_frames=(24,),
    step_exposures=1,
    settings=(SETTINGS["dark"], SETTINGS["effects"]),
    noises=CLEAN[:1],
)


@pytest.fixture(scope="module")
def measured() -> dict[str, pd.DataFrame]:
    return truth(TINY)


def test_settings_hold_what_they_say() -> None:
    dark, effects = SETTINGS["dark"].config.effects, SETTINGS["effects"].config.effects
    for name in ("settling", "nonlinearity", "persistence", "glitches", "pink_noise", "amplifier_noise"):
        assert getattr(dark, name) is None
        assert getattr(effects, name) is not None
    low, high = SETTINGS["sky"].config.effects.sky.background_range  # type: ignore[union-attr]
    assert (low * FRAME_TIME, high * FRAME_TIME) == pytest.approx((0.5, 10))
    parts = [SETTINGS["sky"].sized(50, 64, 64, k).effects.sky for k in range(4)]
    bounds = [part.background_range for part in parts if part]
    assert (bounds[0][0], bounds[2][1]) == (low, high)
    assert (bounds[0][1], bounds[1][1]) == (bounds[1][0], bounds[2][0])
    assert bounds[3] == bounds[0]
    for setting in SETTINGS.values():
        config = setting.sized(100, 128, 256)
        assert config.frame_time == pytest.approx(FRAME_TIME)
        assert config.cosmic_ray_per_exp_range == (79, 79)


def test_rows_of_truth(measured: dict[str, pd.DataFrame]) -> None:
    quality = measured["quality"]
    assert set(quality["setting"]) == {"dark", "effects"}
    hits = quality[quality["kind"] == "cosmic_ray"]
    assert (hits["completeness_worst"] <= hits["completeness"]).all()
    assert (hits["completeness"] > 0.5).all()
    each = measured["exposures"]
    assert len(each) == TINY.seeds * len(quality)
    for kind in ("cosmic_ray", "telegraph_noise", "snowball"):
        missed = (measured["missed"]["type"] == kind).sum()
        own = each[each["kind"] == kind]
        assert missed == own["true"].sum() - own["found"].sum()
    assert measured["false_alarms"]["ramps"].eq(56**2).all()
    assert len(measured["steps"]) == 2
    assert measured["steps"]["found_6"].ge(0.5).all()


def test_text_and_files_of_truth(measured: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    text = as_text(printed(measured))
    assert "Clean ramps" in text
    paths = write_tables(measured, text, tmp_path, "truth")
    assert {path.suffix for path in paths} == {".txt", ".csv"}
    again = pd.read_csv(tmp_path / "truth_quality.csv")
    assert again["true"].tolist() == measured["quality"]["true"].tolist()


def test_median_and_worst_of_seeds() -> None:
    row = {"setting": "dark", "frames": 10, "kind": "snowball", "true": 4, "found": 3, "false": 0}
    other = {"purity": 1.0, "within_1": np.nan, "coverage": 0.9}
    parts = [row | other | {"completeness": c, "area": a} for c, a in ((0.5, 1.0), (0.7, 1.3), (1.0, np.nan))]
    (got,) = median_and_worst(pd.DataFrame(parts)).to_dict("records")
    assert (got["true"], got["completeness"], got["completeness_worst"]) == (12, 0.7, 0.5)
    assert (got["area"], got["area_worst"]) == (1.15, 1.3)


def test_completeness_in_bins_leaves_out_slow_telegraph_pixels() -> None:
    common = {"frames": 10, "setting": "dark", "peak_sigma": 4.5}
    events = pd.DataFrame(
        [
            {"kind": "cosmic_ray", "transitions": np.nan, "found": True} | common,
            {"kind": "cosmic_ray", "transitions": np.nan, "found": False} | common,
            {"kind": "telegraph_noise", "transitions": 2.0, "found": False} | common,
        ]
    )
    (row,) = completeness_by(events, "peak_sigma", (4.0, 5.0, np.inf)).to_dict("records")
    assert (row["kind"], row["events"], row["completeness"]) == ("cosmic_ray", 2, 0.5)


def test_reliability_compares_stated_with_real() -> None:
    detections = pd.DataFrame(
        {"kind": "cosmic_ray", "confidence": [0.6, 0.7, 1.0, 1.0], "real": [True, False, True, True]}
    )
    table = reliability(detections).set_index(["kind", "from"])
    assert table.loc[("cosmic_ray", 0.5), "stated"] == pytest.approx(0.65)
    assert table.loc[("cosmic_ray", 0.5), "real"] == 0.5
    assert table.loc[("all", 0.999), "detections"] == 2


def test_ideal_error_is_that_of_least_squares() -> None:
    sigma, frames = 7.0, 40
    t = np.arange(frames) - (frames - 1) / 2
    white = ideal_error(np.zeros(1), np.full(1, sigma), frames)[0]
    assert white == pytest.approx(sigma / np.sqrt((t**2).sum()), rel=1e-3)
    # photons only: the rate is the last count less the first over the time
    photons = ideal_error(np.full(1, 50.0), np.full(1, 0.3), frames)[0]
    assert photons == pytest.approx(np.sqrt(50.0 / (frames - 1)), rel=2e-2)


def test_covered_and_flagged_area_of_snowballs() -> None:
    pixels = pd.DataFrame({"type": "snowball", "y": [4, 4, 5, 5], "x": [4, 5, 4, 5]})
    mask = np.zeros((1, 40, 40), np.uint8)
    mask[0, 4:7, 4:5] = 3  # two of the four pixels, and one beside them
    mask[0, 39, 39] = 3  # far away
    mask[0, 4, 5] = 1  # another kind
    cover = snowball_cover(
        xr.DataArray(mask, dims=("integration", "y", "x")), Truth(pd.DataFrame(), pixels, {})
    )
    assert cover == {"coverage": 0.5, "area": 0.75}


def test_flags_that_touch_are_one_event() -> None:
    flags = np.zeros((10, 30, 30), bool)
    cube = np.zeros(flags.shape, np.float32)
    flags[3, 5, 5] = flags[4, 6, 6] = True  # diagonal in all three axes
    cube[3:, 5, 5], cube[4:, 6, 6] = 50, 80
    flags[3, 8, 5] = True  # two pixels away
    yy, xx = np.mgrid[:30, :30]
    ball = np.hypot(yy - 20, xx - 20) < 5
    flags[7, ball] = True
    cube[7:, ball] += 1000
    flags[8, 20, 27] = True  # beside the snowball, one frame later
    events = events_of_flags(flags, cube).sort_values("y", ignore_index=True)
    assert events["type"].tolist() == ["cosmic_ray", "cosmic_ray", "snowball"]
    first = events.iloc[0]
    assert (first["peak_y"], first["peak_x"], first["first_frame"], first["significance"]) == (6, 6, 4, 80)
    assert (events.iloc[2]["y"], events.iloc[2]["x"]) == (20, 20)
    assert events_of_flags(np.zeros((2, 3, 3), bool), cube).empty


def test_peers_run_and_a_missing_one_is_said(tmp_path: Path) -> None:
    ours, *_, ohana = tools(Peers(Path(sys.executable), "", "no network"))
    table = compare((ours, ohana), (SETTINGS["dark"],), ((24, 64, 64),)).set_index("tool")
    assert table.loc["fmbdask", "hits_found"] > 0.5
    assert table.loc["fmbdask", "cpu_s"] > 0
    assert table.loc["ohana 0.1.0", "note"] == "not installed: no network"
    assert np.isnan(table.loc["ohana 0.1.0", "hits_found"])
    peers_figure(table.reset_index()).savefig(tmp_path / "peers.png", dpi=20)


def test_a_tool_that_stops_is_said() -> None:
    broken = Tool("broken", "run_stcal.py", "likely", Path(sys.executable))
    table = compare((broken,), (SETTINGS["dark"],), ((16, 40, 40),))
    assert table.loc[0, "note"].startswith("stopped: ")


def test_environment_is_never_our_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--env"):
        peer_environment(Path(sys.prefix))
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(ConfigError, match="empty folder"):
        peer_environment(tmp_path)
    assert (tmp_path / "precious.txt").exists()


def test_without_network_the_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        environment, "run", lambda command: "no route to host" if "install" in command else ""
    )
    with pytest.raises(InputError, match="connect to the network") as caught:
        peer_environment(tmp_path / "peers")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "peers").exists()


def test_environment_is_built_once_and_without_ohana_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fails = {"torch==2.13.0"}

    def pretend(command: Sequence[str]) -> str:
        calls.append(command[-1])
        if "venv" in command:
            Path(command[-1]).mkdir()
            (Path(command[-1]) / "pyvenv.cfg").write_text("")
        return "disk full" if command[-1] in fails else ""

    monkeypatch.setattr(environment, "run", pretend)
    folder = tmp_path / "peers"
    assert peer_environment(folder).ohana == "disk full"
    assert "ohana==0.1.0" not in calls
    fails.clear()
    assert peer_environment(folder).ohana == ""
    assert calls.index("torch==2.13.0") < calls.index("ohana==0.1.0")
    before = len(calls)
    assert peer_environment(folder).stcal == ""
    assert len(calls) == before


def test_command_writes_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: dict[str, pd.DataFrame]
) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr(
        "fmbdask.survey.bench.truth.run.truth", lambda plan, report: plans.append(plan) or measured
    )
    result = CliRunner().invoke(app, ["bench", "truth", "--quick", "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert plans == [plan_of(quick=True)]
    assert "Hits and telegraph pixels" in result.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"truth.txt", "truth_quality.csv", "truth_calibration.png"} <= written


def test_a_quick_plan_is_small() -> None:
    full, quick = plan_of(), plan_of(quick=True, seeds=1, ramps=5)
    assert full.ramps == 1_000_000
    assert (quick.seeds, quick.ramps, quick.exposures_of_ramps) == (1, 5, 1)
