"""A network beside the rules: what it accepts becomes events, and nothing of the rules changes."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="networks need torch")

import dask.array as da  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import xarray as xr  # noqa: E402

import fmbdask  # noqa: E402
from fmbdask.errors import InputError  # noqa: E402
from fmbdask.models.handles import ModelHandle, save_network  # noqa: E402
from fmbdask.models.unet import Architecture, build_unet  # noqa: E402
from fmbdask.ramps.network.evidence import Confidence  # noqa: E402
from fmbdask.ramps.network.hybrid import normalisation  # noqa: E402
from fmbdask.ramps.simulation import simulate  # noqa: E402

SHAPE = (40, 160, 176)


@pytest.fixture(scope="module")
def ramp() -> xr.DataArray:
    found, _ = simulate({"cosmic_ray_per_exp_range": (60, 60)}, shape=SHAPE, seed=5)
    return found


def saved(folder: Path, *, intercept: float = 0.0, **changes: Any) -> ModelHandle:
    """An untrained network, whose confidence is decided by the significance of the proposals alone."""
    network = build_unet(changes.pop("architecture", Architecture(channels=3, widths=(4, 8))), seed=1)
    confidence = Confidence(intercept=intercept, evidence=0.0, score=2.0).as_dict()
    given = {"normalisation": normalisation(), "provenance": {"confidence": confidence}} | changes
    return save_network(folder, network, **given)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved(tmp_path_factory.mktemp("unet") / "model").path


def test_accepted_proposals_are_added_and_events_of_the_rules_stay(ramp: xr.DataArray, model: str) -> None:
    rules = fmbdask.ramps.detect(ramp)
    both = fmbdask.ramps.detect(ramp, model=model, model_confidence=0.6)
    assert (rules.events["found_by"] == "rules").all()
    more = both.events[both.events["found_by"] == "network"]
    assert len(more) > 0
    assert (more["type"] == "cosmic_ray").all()
    assert (more["confidence"] >= 0.6).all()
    assert (more["spatial_extent"] >= 2).all()
    kept = both.events[both.events["found_by"] == "rules"].drop(columns="event_id").reset_index(drop=True)
    assert kept.equals(rules.events.drop(columns="event_id"))
    assert both.events["event_id"].tolist() == list(range(len(both.events)))
    place = tuple(more[name].to_numpy() for name in ("integration", "peak_y", "peak_x"))
    assert (both.maps["mask"].values[place] == 1).all()
    assert (rules.maps["mask"].values[place] == 0).all()
    assert set(more["event_id"]) <= set(both.steps["event_id"])
    none = fmbdask.ramps.detect(ramp, model=model, model_confidence=1.0)
    assert none.events.equals(rules.events)


@pytest.mark.parametrize("chunks", [(1, -1, 64, 176), (1, -1, 50, 70)])
def test_the_same_events_for_any_chunks(ramp: xr.DataArray, model: str, chunks: tuple[int, ...]) -> None:
    whole = fmbdask.ramps.detect(ramp, model=model, model_confidence=0.6)
    cut = fmbdask.ramps.detect(
        ramp.copy(data=da.from_array(ramp.values, chunks=chunks)), model=model, model_confidence=0.6
    )
    assert cut.events.equals(whole.events)
    assert np.array_equal(cut.maps["mask"], whole.maps["mask"])


def test_networks_that_cannot_be_asked_are_refused(ramp: xr.DataArray, tmp_path: Path) -> None:
    other = saved(tmp_path / "inputs", normalisation={"channels": ["counts"]})
    with pytest.raises(InputError, match="trained on inputs of another kind"):
        fmbdask.ramps.detect(ramp, model=other.path)
    two = Architecture(channels=3, classes=("background", "star"), widths=(4, 8))
    classes = saved(tmp_path / "classes", architecture=two)
    with pytest.raises(InputError, match="knows no cosmic_ray"):
        fmbdask.ramps.detect(ramp, model=classes.path)
    bare = saved(tmp_path / "bare", provenance={})
    with pytest.raises(InputError, match="no calibration of its confidence"):
        fmbdask.ramps.detect(ramp, model=bare.path)
    with pytest.raises(InputError, match="holds no saved model"):
        fmbdask.ramps.detect(ramp, model=str(tmp_path / "absent"))
    good = saved(tmp_path / "good")
    with pytest.raises(InputError, match="another"):
        fmbdask.ramps.detect(ramp, model=good.path, model_sha256="0" * 64)


def test_the_comparison_with_the_rules_runs(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[3] / "benchmarks" / "hybrid.py"
    size = ["--exposures", "2", "--frames", "40", "--size", "96", "--confidence", "0.6"]
    monkeypatch.setattr(sys, "argv", ["hybrid.py", model, *size, "-o", str(tmp_path / "each.csv")])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    assert "from a confidence of 0.6" in printed
    assert "hits, peak below 3 sigma" in printed
    rows = pd.read_csv(tmp_path / "each.csv")
    assert len(rows) == 2 * 2 * 7
    assert (rows["found"] <= rows["true"]).all()
