"""From a file to a result: the same bits for every format and from Python, with all that it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr

import fmbdask
from fmbdask.errors import InputError, OutputExistsError
from fmbdask.ramps import DetectionConfig, detect
from fmbdask.ramps.simulation import SimulationConfig
from fmbdask.store.catalog import UNITS, read_table
from fmbdask.survey.exposures.simulate import simulate_survey
from fmbdask.survey.exposures.work import detect_exposure, detect_exposures, ingest_exposures

#: Every kind of event in a frame whose sides are odd, more than one chunk wide in Zarr.
CROWDED: dict[str, Any] = {
    "image_shape": (75, 90),
    "num_frames": 30,
    "exp_time": 3000.0,
    "patch_size": (32, 32),
    "amplifiers": 2,
    "gain_library": {"a": 1.5},
    "cosmic_ray_per_exp_range": (20, 20),
    "rtn_per_exp_range": (20, 20),
    "rtn_offset_range": (200.0, 300.0),
    "snowballs_per_exp_range": (1, 1),
    "snowball_radius_range": (4.0, 5.0),
}
SEED = 5


@pytest.fixture(scope="module")
def exposure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return simulate_survey(SimulationConfig.read(CROWDED), folder, seed=SEED, workers=1)[0]


@pytest.fixture(scope="module")
def result(exposure: Path) -> Path:
    return detect_exposure(exposure, exposure.parent / "out", features=True)


@pytest.fixture(scope="module")
def content(result: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((result / "detections.json").read_text())
    return read


def products(result: Path) -> xr.Dataset:
    opened: xr.Dataset = xr.open_zarr(str(result / "products.zarr"), consolidated=False)
    return opened


def assert_same(one: Path, other: Path) -> None:
    """Compare two results bit by bit; where they came from may differ."""
    a, b = (read_table(folder / "detections.parquet") for folder in (one, other))
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    maps = [products(folder) for folder in (one, other)]
    assert set(maps[0]) == set(maps[1])
    for name in maps[0]:
        assert maps[0][name].values.tobytes() == maps[1][name].values.tobytes(), name


def test_python_gives_the_bits_of_the_result(exposure: Path, result: Path) -> None:
    found = detect(fmbdask.open_ramp(exposure), features=True)
    written = read_table(result / "detections.parquet")
    pd.testing.assert_frame_equal(found.events, written, check_exact=True, check_dtype=False)
    maps = products(result)
    for name in found.maps:
        assert found.maps[name].values.tobytes() == maps[name].values.tobytes(), name


def test_ingested_exposures_give_the_same_bits(exposure: Path, result: Path, tmp_path: Path) -> None:
    (outcome,) = ingest_exposures([exposure], tmp_path)
    assert outcome.result is not None
    assert_same(result, detect_exposure(outcome.result, tmp_path / "out", features=True))


def test_offsets_kept_beside_an_exposure_are_used(
    exposure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (outcome,) = ingest_exposures([exposure], tmp_path)
    assert outcome.result is not None

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("fmbdask.ramps.prepare.measure", refuse)
    detect_exposure(outcome.result, tmp_path / "kept")
    # another border, or another level of saturation, is another measurement
    for override in ({"reference_border": 2}, {"saturation": 30000.0}, {"amplifiers": 3}):
        with pytest.raises(AssertionError, match="measured again"):
            detect_exposure(outcome.result, tmp_path / "other", overrides=override)


@pytest.mark.parametrize("override", [{"reference_border": 2}, {"saturation": 30000.0}, {"amplifiers": 3}])
def test_overrides_mean_the_same_for_ingested_exposures(
    exposure: Path, tmp_path: Path, override: dict[str, Any]
) -> None:
    (outcome,) = ingest_exposures([exposure], tmp_path)
    assert outcome.result is not None
    results = [
        detect_exposure(path, tmp_path / name, overrides=override)
        for name, path in (("fits", exposure), ("zarr", outcome.result))
    ]
    assert_same(*results)


@pytest.mark.parametrize("name", ["bad_pixels", "saturation"])
def test_maps_mean_the_same_for_ingested_exposures(exposure: Path, tmp_path: Path, name: str) -> None:
    (outcome,) = ingest_exposures([exposure], tmp_path)
    assert outcome.result is not None
    values = np.full((75, 90), 65000.0, np.float32)
    values[:, ::3] = 5000
    np.save(tmp_path / "map.npy", values if name == "saturation" else values < 6000)
    results = [
        detect_exposure(path, tmp_path / kind, overrides={name: tmp_path / "map.npy"})
        for kind, path in (("fits", exposure), ("zarr", outcome.result))
    ]
    assert_same(*results)


def test_other_formats_give_the_same_bits(exposure: Path, result: Path, tmp_path: Path) -> None:
    ramp = fmbdask.open_ramp(exposure)
    np.save(tmp_path / "x.npy", ramp.values)
    known = ("gain", "read_noise", "saturation", "reference_border", "amplifiers", "amplifier_layout")
    overrides = {name: ramp.attrs[name] for name in known if name in ramp.attrs}
    overrides["frame_time"] = float(ramp.read_times.diff("frame").mean())
    assert_same(result, detect_exposure(tmp_path / "x.npy", tmp_path, features=True, overrides=overrides))


@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(exposure: Path, result: Path, tmp_path: Path, threads: int) -> None:
    (outcome,) = detect_exposures([exposure], tmp_path, threads=threads, features=True)
    assert outcome.result is not None
    assert_same(result, outcome.result)


def test_json_names_what_made_it(exposure: Path, content: dict[str, Any]) -> None:
    assert set(content) == {"exposure", "versions", "configuration", "detections"}
    assert content["exposure"] == str(exposure)
    assert {"python", "fmbdask", "numpy", "numba"} <= set(content["versions"])
    assert content["configuration"]["detection"] == DetectionConfig().model_dump(mode="json")
    assert content["configuration"]["exposure"]["gain"] == 1.5
    assert content["configuration"]["found"]["false_alarms_expected"] > 0


COMMON = {
    "type", "centroid", "first_frame", "time", "mean_intensity", "max_intensity", "spatial_extent",
    "significance", "confidence",
}  # fmt: skip
OWN = {
    "cosmic_ray": {"n_steps", "n_saturated", "amplitude"},
    "telegraph_noise": {"transitions", "dwell_high", "dwell_low", "duty", "fit_quality", "amplitude"},
    "snowball": {
        "radius",
        "core_radius",
        "circularity",
        "halo_amplitude",
        "halo_scale",
        "n_saturated",
        "expansion",
    },
}


@pytest.mark.parametrize("kind", OWN)
def test_each_kind_has_its_fields(content: dict[str, Any], kind: str) -> None:
    found = [d for d in content["detections"] if d["type"] == kind]
    assert found
    others = set().union(*(fields for name, fields in OWN.items() if name != kind)) - OWN[kind] - COMMON
    for detection in found:
        assert set(detection) >= COMMON | OWN[kind]
        assert not set(detection) & (others - {"amplitude", "n_steps", "n_saturated"})
        row, column = detection["centroid"]
        assert 0 <= row < 75
        assert 0 <= column < 90
        whole = ("first_frame", "spatial_extent", "event_id", "peak_y", "peak_x")
        assert all(isinstance(detection[name], int) for name in whole)
        assert 0 <= detection["confidence"] <= 1
        assert detection["mean_intensity"] <= detection["max_intensity"]
        assert detection["time"] == pytest.approx(100.0 * (detection["first_frame"] + 1))


def test_json_and_parquet_agree(result: Path, content: dict[str, Any]) -> None:
    table = read_table(result / "detections.parquet")
    assert (
        [d["event_id"] for d in content["detections"]] == table.event_id.tolist() == list(range(len(table)))
    )
    for name in ("significance", "first_frame", "spatial_extent", "max_intensity"):
        assert [d[name] for d in content["detections"]] == table[name].tolist()
    assert [d["centroid"] for d in content["detections"]] == table[["y", "x"]].values.tolist()


def test_every_column_has_a_unit(result: Path) -> None:
    schema = pq.read_schema(result / "detections.parquet")
    assert set(schema.names) == set(UNITS)
    units = {field.name: field.metadata[b"unit"].decode() for field in schema}
    assert all(units.values())
    assert (units["amplitude"], units["time"], units["y"], units["first_frame"]) == (
        "DN", "s", "pixel", "frame",
    )  # fmt: skip


def test_products_are_a_dataset_with_units(result: Path) -> None:
    maps = products(result)
    assert {"mask", "rate", "rate_error", "max_intensity", "persistence_count"} <= set(maps)
    for name in maps:
        assert maps[name].dims == ("integration", "y", "x")
        assert maps[name].attrs["units"]
    assert maps["rate"].attrs["units"] == "electron / s"
    assert maps["mask"].dtype == np.uint8
    assert maps["mask"].attrs["flag_values"] == [0, 1, 2, 3]
    assert maps.attrs["exposure"] == "h2rg_0000"


def test_without_a_frame_time_the_unit_is_the_frame(exposure: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", fmbdask.open_ramp(exposure).values)
    result = detect_exposure(tmp_path / "x.npy", tmp_path)
    table = read_table(result / "detections.parquet")
    assert table.attrs["units"]["time"] == "frame"
    assert table.time.tolist() == table.first_frame.tolist()
    assert products(result)["rate"].attrs["units"] == "DN / frame"


def test_an_exposure_without_events_has_an_empty_catalogue(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    np.save(tmp_path / "x.npy", np.rint(random.normal(5000, 20, (12, 40, 40))).astype(np.uint16))
    result = detect_exposure(tmp_path / "x.npy", tmp_path)
    table = read_table(result / "detections.parquet")
    assert table.empty
    assert set(table.columns) == set(UNITS)
    assert json.loads((result / "detections.json").read_text())["detections"] == []
    assert not products(result)["mask"].values.any()


def test_a_result_is_kept_unless_it_may_be_replaced(exposure: Path, tmp_path: Path) -> None:
    one = detect_exposure(exposure, tmp_path)
    before = (one / "detections.json").stat().st_mtime_ns
    with pytest.raises(OutputExistsError, match="is already there: give --overwrite"):
        detect_exposure(exposure, tmp_path)
    assert (one / "detections.json").stat().st_mtime_ns == before
    assert detect_exposure(exposure, tmp_path, overwrite=True) == one
    assert (one / "detections.json").stat().st_mtime_ns > before
    assert detect_exposure(exposure, tmp_path, name="again") == tmp_path / "again"


def test_outcomes_keep_the_order_of_the_exposures(exposure: Path, tmp_path: Path) -> None:
    outcomes = detect_exposures([tmp_path / "absent.fits", exposure], tmp_path / "out")
    assert [o.exposure for o in outcomes] == [tmp_path / "absent.fits", exposure]
    assert outcomes[0].result is None
    assert "absent.fits does not exist: check the path" in str(outcomes[0].error)
    assert outcomes[1].error is None
    assert "cosmic ray" in outcomes[1].summary
    with pytest.raises(InputError, match="given 2 times"):
        detect_exposures([exposure, exposure], tmp_path / "out")
