"""From exposures to a history and back into detection, through files and the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from fmbdask.cli.app import app
from fmbdask.errors import InputError
from fmbdask.ramps.simulation import SimulationConfig
from fmbdask.store.catalog import read_table
from fmbdask.store.products import open_products
from fmbdask.survey.bench.truth.remembered import remembered
from fmbdask.survey.exposures.history import build_history, load_history
from fmbdask.survey.exposures.simulate import simulate_survey
from fmbdask.survey.exposures.work import Remembered, detect_exposures

SMALL: dict[str, Any] = {
    "image_shape": (64, 64),
    "num_frames": 24,
    "exp_time": 2400.0,
    "patch_size": (32, 32),
    "amplifiers": 1,
    "gain_library": {"made-up": 1.5},
    "cosmic_ray_per_exp_range": (8, 8),
    "rtn_per_exp_range": (0, 0),
    "snowballs_per_exp_range": (0, 0),
    "effects": {"hot_pixels": {"fraction": 0.01, "rate_range": (5.0, 10.0)}, "sky": None},
}
DETECTOR = "made-up"


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("series")
    paths = simulate_survey(SimulationConfig.read(SMALL), folder / "data", seed=3, end_index=2, workers=1)
    outcomes = detect_exposures(paths, folder / "out")
    assert [o.error for o in outcomes] == [None] * 3
    return folder


def results(survey: Path) -> list[Path]:
    return sorted((survey / "out").iterdir())


def run(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(w) for w in words])


def test_histories_grow_exposure_by_exposure_to_the_same_bits(survey: Path, tmp_path: Path) -> None:
    (whole,) = build_history(results(survey), tmp_path / "whole")
    assert (whole.added, whole.known) == (3, 0)
    for result in reversed(results(survey)):
        (built,) = build_history([result], tmp_path / "grown")
        assert (built.added, built.known) == (1, 0)
    assert (tmp_path / "grown" / built.path.name).read_bytes() == whole.path.read_bytes()
    (again,) = build_history(results(survey)[1:], tmp_path / "grown")
    assert (again.added, again.known) == (0, 2)
    assert again.path.read_bytes() == whole.path.read_bytes()


def test_an_exposure_in_another_format_is_the_same_exposure(survey: Path, tmp_path: Path) -> None:
    import fmbdask

    path = sorted((survey / "data").rglob("*.fits"))[0]
    ramp = fmbdask.open_ramp(path)
    np.save(tmp_path / "copy.npy", ramp.values)
    build_history(results(survey), tmp_path / "history")
    overrides = {k: ramp.attrs[k] for k in ("gain", "saturation", "reference_border", "amplifiers")}
    overrides["frame_time"] = 100.0
    (outcome,) = detect_exposures(
        [tmp_path / "copy.npy"], tmp_path, overrides=overrides, remembered=Remembered(None, DETECTOR)
    )
    assert outcome.result is not None
    (built,) = build_history([outcome.result], tmp_path / "history")
    assert (built.added, built.known) == (0, 1)


def test_the_command_line_builds_a_history_and_uses_it(survey: Path, tmp_path: Path) -> None:
    built = run("ramps", "history", *results(survey), "-o", tmp_path / "history")
    assert built.exit_code == 0, built.output
    assert "3 added, 0 known before" in built.output
    about = json.loads((tmp_path / "history" / f"{DETECTOR}.json").read_text())
    assert len(about["exposures"]) == 3
    hot = load_history(tmp_path / "history", DETECTOR).pixels.query("kind == 'hot'")
    assert (hot["flagged"] == 3).sum() >= 15
    data = sorted((survey / "data").rglob("*.fits"))[0]
    used = run("ramps", "detect", data, "-o", tmp_path / "out", "--detector-history", tmp_path / "history")
    assert used.exit_code == 0, used.output
    assert f"the history of {DETECTOR} (3 exposures) knows" in used.output
    assert "this exposure is part of the history" in used.output
    assert "false alarms expected, " in used.output
    folder = tmp_path / "out" / data.stem
    known = open_products(folder / "products.zarr")["known"]
    assert known.attrs["flag_meanings"].split()[1] == "hot"
    assert (known.values & 2 > 0).sum() >= 15
    assert len(read_table(folder / "detections.parquet")) > 3


def test_what_does_not_fit_is_said_in_a_sentence(survey: Path, tmp_path: Path) -> None:
    data = sorted((survey / "data").rglob("*.fits"))[0]
    build_history(results(survey), tmp_path / "history")

    def refused(folder: Path, exposure: Path = data, *words: str) -> str:
        said = run("ramps", "detect", exposure, "-o", tmp_path / "no", "--detector-history", folder, *words)
        assert said.exit_code == 1
        assert "Traceback" not in said.output
        return " ".join(said.output.split())

    assert "is no folder" in refused(tmp_path / "nowhere")
    assert "no history of detector other (there is: made-up)" in refused(
        tmp_path / "history", data, "--detector", "other"
    )
    np.save(tmp_path / "small.npy", np.random.default_rng(1).integers(5000, 5080, (12, 32, 32), np.uint16))
    smaller = refused(
        tmp_path / "history", tmp_path / "small.npy", "--detector", DETECTOR, "--frame-time", "100"
    )
    assert "32 x 32 pixels, the history of made-up 64 x 64" in smaller
    assert "times in frame" in refused(tmp_path / "history", tmp_path / "small.npy", "--detector", DETECTOR)
    (tmp_path / "history" / f"{DETECTOR}.json").write_text("{")
    assert "build it again" in refused(tmp_path / "history")
    with pytest.raises(InputError, match="name a folder that"):
        build_history([tmp_path], tmp_path / "new")


def test_results_of_earlier_versions_are_asked_for_again(survey: Path, tmp_path: Path) -> None:
    import shutil

    old = tmp_path / "old"
    shutil.copytree(results(survey)[0], old)
    shutil.rmtree(old / "products.zarr" / "noise")
    with pytest.raises(InputError, match="lacks what a history needs"):
        build_history([old], tmp_path / "history")


def test_a_history_finds_fainter_telegraph_pixels_and_fewer_false_hits() -> None:
    """Bounds well below what `benchmarks/history.py` prints for larger exposures."""
    table = remembered(100, 192, 5, 2, seed=811)
    without, knowing = table.iloc[0], table.iloc[1]
    faint = [name for name in table if str(name)[0].isdigit() and float(str(name).split("-")[0]) >= 2]
    gained = knowing[faint].mean() - without[faint].mean()
    assert gained > 0.04, table
    assert knowing["telegraph_purity"] > 0.97, table
    assert knowing["completeness"] >= without["completeness"] - 0.01, table
    # some of the hits that were false are no longer called so
    assert 1 - knowing["purity"] < 0.95 * (1 - without["purity"]), table
    assert 1 - knowing["purity_confident"] < 0.95 * (1 - without["purity_confident"]), table
