"""Ramps as a pipeline of runs: the files of a single detection, whatever the regions and their order."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fmbdask.ramps.events import STEP
from fmbdask.ramps.region import RegionResult
from fmbdask.ramps.simulation import SimulationConfig
from fmbdask.regions import Region
from fmbdask.store.catalog import UNITS, read_table
from fmbdask.store.ingest import ingest
from fmbdask.survey.config import read_config
from fmbdask.survey.exposures.simulate import simulate_survey
from fmbdask.survey.exposures.work import detect_exposure
from fmbdask.survey.pipelines import load, make
from fmbdask.survey.pipelines.ramps import pack, unpack
from fmbdask.survey.planning.inputs import find, make_items

from .runner import run_all

#: Every kind of event in a frame whose sides are odd.
CROWDED: dict[str, Any] = {
    "image_shape": (75, 90),
    "num_frames": 30,
    "exp_time": 3000.0,
    "patch_size": (32, 32),
    "amplifiers": 2,
    "gain_library": {"a": 1.5},
    "cosmic_ray_per_exp_range": (20, 20),
    "rtn_per_exp_range": (20, 20),
    "snowballs_per_exp_range": (1, 1),
    "snowball_radius_range": (4.0, 5.0),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate_survey(SimulationConfig.read(CROWDED), folder, end_index=1, seed=8, workers=1)
    ingest(sorted(folder.glob("*.fits"))[0], folder / "copy.zarr")
    return folder


def files(folder: Path) -> Mapping[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def maps_of(folder: Path) -> dict[str, Any]:
    """What the user may say of every pixel: bad ones, levels, and a polynomial."""
    rng = np.random.default_rng(3)
    shape = (75, 90)
    np.save(folder / "bad.npy", rng.random(shape) < 0.01)
    np.save(folder / "levels.npy", rng.uniform(30000, 60000, shape).astype(np.float32))
    curve = np.stack([np.zeros(shape), np.ones(shape), rng.uniform(0, 1e-7, shape)]).astype(np.float32)
    np.save(folder / "curve.npy", curve)
    return {
        "bad_pixels": str(folder / "bad.npy"),
        "saturation": str(folder / "levels.npy"),
        "linearity": str(folder / "curve.npy"),
        "gain": 1.4,
    }


@pytest.mark.parametrize("edge", [16, 64, None])
@pytest.mark.parametrize("told", [False, True])
def test_the_files_of_a_single_detection(data: Path, tmp_path: Path, edge: int | None, told: bool) -> None:
    said = maps_of(tmp_path) if told else {}
    settings = {"inputs": [f"{data}/*.fits"], "output": str(tmp_path / "run"), "edge": edge}
    config = read_config(settings | {"exposure": said, "features": told})
    pipeline = make(config)
    items = make_items(pipeline, find(config.inputs)[0])
    assert [i.problem for i in items] == ["", ""]
    run_all(pipeline, items, tmp_path / "run")
    for item in items:
        single = detect_exposure(
            item.path, tmp_path / "single", overrides=config.exposure.given(), features=told
        )
        assert files(tmp_path / "run" / "products" / item.name) == files(single)


def test_floats_and_stores_give_the_files_of_a_single_detection(data: Path, tmp_path: Path) -> None:
    values = np.load(_as_floats(data, tmp_path))
    assert np.isnan(values).any()
    config = read_config(
        {"inputs": [str(tmp_path / "floats.npy"), str(data / "copy.zarr")], "output": str(tmp_path / "run")}
    )
    pipeline = make(config)
    items = make_items(pipeline, find(config.inputs)[0])
    run_all(pipeline, items, tmp_path / "run")
    for item in items:
        single = detect_exposure(item.path, tmp_path / "single")
        assert files(tmp_path / "run" / "products" / item.name) == files(single)


def _as_floats(data: Path, folder: Path) -> Path:
    import fmbdask

    values = fmbdask.open_ramp(sorted(data.glob("*.fits"))[0]).values.astype(np.float32)
    values[0, 5:8, 20:25, 30:35] = np.nan
    np.save(folder / "floats.npy", values)
    return folder / "floats.npy"


def test_the_catalogue_holds_the_events_of_all(data: Path, tmp_path: Path) -> None:
    config = read_config({"inputs": [f"{data}/*.fits"], "output": str(tmp_path / "run")})
    pipeline = load("ramps", {"config": config.as_json()})
    items = make_items(pipeline, find(config.inputs)[0])
    contexts = run_all(pipeline, items, tmp_path / "run")
    (path,) = (tmp_path / "run" / "catalog").iterdir()
    assert path.name == "events-00000.parquet"
    found = read_table(path)
    single = [read_table(tmp_path / "run" / "products" / i.name / "detections.parquet") for i in items]
    together = pd.concat(single, ignore_index=True)
    assert list(found["exposure"]) == [
        i.name for i, t in zip(items, single, strict=True) for _ in range(len(t))
    ]
    pd.testing.assert_frame_equal(
        found.drop(columns="exposure"), together, check_exact=True, check_dtype=False
    )
    units = found.attrs["units"]
    assert units["amplitude"] == "DN"
    assert units["time"] == "s"
    assert {k: v for k, v in units.items() if UNITS.get(k, "level") not in ("level", "time")}.items() <= (
        UNITS | {"exposure": "1"}
    ).items()
    counted = [c.extra["events"] for c in contexts if "events" in c.extra]
    assert [sum(c.values()) for c in counted] == [len(t) for t in single]


def test_a_catalogue_without_events_has_the_schema(tmp_path: Path) -> None:
    pipeline = make(read_config({"inputs": []}))
    run_all(pipeline, [], tmp_path)
    table = pq.read_table(tmp_path / "catalog" / "events-00000.parquet")
    assert table.num_rows == 0
    assert table.column_names[:3] == ["exposure", "event_id", "type"]


def test_inputs_are_counted_by_their_bytes(data: Path, tmp_path: Path) -> None:
    config = read_config({"inputs": [f"{data}/*.fits"], "edge": 32})
    pipeline = make(config)
    items = make_items(pipeline, find(config.inputs)[0])[:1]
    contexts = run_all(pipeline, items, tmp_path)
    assert sum(c.nbytes for c in contexts) == 30 * 75 * 90 * 2
    assert len({c.inputs for c in contexts if c.nbytes}) == 9


def test_results_of_regions_are_packed_without_loss() -> None:
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    part = whole + np.float32(0.5)
    negative_zero = np.array([[-0.0, 1.0]], np.float32)
    missing = np.array([[np.nan, 1.0]], np.float32)
    steps = np.zeros(2, STEP)
    result = RegionResult(Region(0, 0, 3, 0, 4), steps, steps)
    result = replace(result, maps={"a": whole, "b": part, "c": negative_zero, "d": missing})
    packed = pack(result)
    assert packed.maps["a"].dtype == np.int16
    for name, values in unpack(packed).maps.items():
        assert values.dtype == np.float32
        assert values.tobytes() == result.maps[name].tobytes()


def test_bad_inputs_become_problems_and_are_not_opened(data: Path, tmp_path: Path) -> None:
    good = sorted(data.glob("*.fits"))[0]
    (tmp_path / "cut.fits").write_bytes(good.read_bytes()[:20000])
    (tmp_path / "empty.fits").touch()
    (tmp_path / "text.fits").write_text("no exposure")
    os.mkfifo(tmp_path / "fifo.fits")
    np.save(tmp_path / "short.npy", np.zeros((2, 8, 8), np.uint16))
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling.fits").symlink_to(tmp_path / "gone")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket.fits"))
        config = read_config({"inputs": [f"{tmp_path}/*.*", f"{tmp_path}/folder", "/dev/zero", str(good)]})
        items = make_items(make(config), find(config.inputs)[0])
    problems = {Path(item.path).name: item.problem for item in items}
    words = {
        "cut.fits": "truncated", "empty.fits": "empty", "text.fits": "no format", "fifo.fits": "not a file",
        "short.npy": "2 frames", "folder": "", "dangling.fits": "does not exist", "zero": "not a file",
        "socket.fits": "not a file",
    }  # fmt: skip
    assert set(problems) == {*words, good.name}
    assert problems[good.name] == ""
    for name, word in words.items():
        assert problems[name], name
        assert word in problems[name]
