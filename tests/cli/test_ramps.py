"""`fmbdask ramps`, as a user calls it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from fmbdask_kernels.temporal import PLANES

from fmbdask.cli.app import main
from fmbdask.store.catalog import read_table
from fmbdask.store.products import open_products

SMALL = """
image_shape: [48, 64]
num_frames: 16
exp_time: 800
patch_size: [32, 32]
overlap: 8
cosmic_ray_per_exp_range: [6, 6]
rtn_per_exp_range: [4, 4]
snowballs_per_exp_range: [0, 0]
"""


def status(*words: str | Path) -> int | str | None:
    """Exit status of a call."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two simulated exposures."""
    folder = tmp_path_factory.mktemp("simulated")
    (folder / "small.yaml").write_text(SMALL)
    words = ["simulate", folder / "small.yaml", "-o", folder / "data", "--end-index", "1", "--workers", "1"]
    assert status("ramps", *words) == 0
    return folder / "data"


def test_simulate_writes_exposures_and_truth(simulated: Path) -> None:
    names = {path.name for path in simulated.iterdir()}
    assert names == {
        f"h2rg_000{index}{end}"
        for index in range(2)
        for end in (".fits", "_truth.parquet", "_truth_pixels.parquet")
    }


def test_simulate_names_the_file_and_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(SMALL.replace("num_frames: 16", "num_frames: 2"))
    assert status("ramps", "simulate", config, "-o", tmp_path / "out") == 1
    expected = f"Error: {config}: num_frames should be greater than or equal to 4, not 2\n"
    assert capsys.readouterr().err == expected


def test_simulate_refuses_a_range_that_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    assert status("ramps", "simulate", tmp_path / "small.yaml", "--start-index", "3") == 2
    assert "--end-index" in capsys.readouterr().err


@pytest.fixture(scope="module")
def detected(simulated: Path) -> Path:
    """Folder with the results of one exposure."""
    out = simulated.parent / "out"
    assert status("ramps", "detect", simulated / "h2rg_0000.fits", "-o", out) == 0
    return out


def test_detect_writes_a_result(detected: Path) -> None:
    names = {path.name for path in (detected / "h2rg_0000").iterdir()}
    assert {"detections.json", "detections.parquet", "products.zarr"} <= names


def test_detect_keeps_what_is_there(
    detected: Path, simulated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (detected / "h2rg_0000" / "detections.json").stat().st_mtime_ns
    words = ["ramps", "detect", simulated / "h2rg_0000.fits", "-o", detected]
    assert status(*words) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (detected / "h2rg_0000" / "detections.json").stat().st_mtime_ns == before
    assert status(*words, "--overwrite") == 0
    assert (detected / "h2rg_0000" / "detections.json").stat().st_mtime_ns > before


def test_one_bad_exposure_stops_no_other(
    simulated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.fits"
    bad.write_bytes((simulated / "h2rg_0001.fits").read_bytes()[:40_000])
    exposures = [bad, tmp_path / "missing.fits", simulated / "h2rg_0001.fits"]
    assert status("ramps", "detect", *exposures, "-o", tmp_path / "out") == 1
    shown = capsys.readouterr()
    errors = [line for line in shown.err.splitlines() if line.startswith("Error: ")]
    assert [name in line for name, line in zip(("bad.fits", "missing.fits"), errors, strict=True)] == [
        True,
        True,
    ]
    assert shown.err.splitlines()[-1] == "1 of 3 exposures done, 2 failed"
    assert shown.out.startswith(f"{tmp_path / 'out' / 'h2rg_0001'}: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["h2rg_0001"]


def test_flags_come_before_the_task_file(simulated: Path, tmp_path: Path) -> None:
    task = tmp_path / "task.yaml"
    task.write_text("skip_first: 2\nskip_last: 2\ntelegraph: false\n")
    words = ["--config", task, "--skip-last", "1", "--gain", "2.5", "--features"]
    assert status("ramps", "detect", simulated / "h2rg_0001.fits", "-o", tmp_path / "out", *words) == 0
    written = json.loads((tmp_path / "out" / "h2rg_0001" / "detections.json").read_text())
    used = written["configuration"]
    assert [used["detection"][key] for key in ("skip_first", "skip_last", "telegraph")] == [2, 1, False]
    assert used["overrides"] == {"gain": 2.5}
    maps = open_products(tmp_path / "out" / "h2rg_0001" / "products.zarr")
    assert {"mask", "rate", "persistence_count"} <= set(maps)


def test_ingested_exposures_give_the_same_events(simulated: Path, detected: Path, tmp_path: Path) -> None:
    assert status("ramps", "ingest", simulated / "h2rg_0000.fits", "-o", tmp_path / "zarr") == 0
    assert status("ramps", "detect", tmp_path / "zarr" / "h2rg_0000.zarr", "-o", tmp_path / "out") == 0
    events = [
        read_table(folder / "h2rg_0000" / "detections.parquet") for folder in (detected, tmp_path / "out")
    ]
    pd.testing.assert_frame_equal(*events)


def test_show_draws_figures(detected: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("ramps", "show", detected / "h2rg_0000") == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in written] == ["overview.png", "counts.png", "gallery.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_show_without_the_exposure(
    detected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shutil.copytree(detected / "h2rg_0000", tmp_path / "moved")
    store = result / "products.zarr" / "zarr.json"
    content = json.loads(store.read_text())
    content["attributes"]["source"] = str(tmp_path / "gone.fits")
    store.write_text(json.dumps(content))
    assert status("ramps", "show", result) == 0
    written = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert written == ["overview.png", "counts.png"]


def test_detect_writes_files_for_other_tools(simulated: Path, tmp_path: Path) -> None:
    words = ["ramps", "detect", simulated / "h2rg_0001.fits", "-o", tmp_path / "out", "--skip-last", "1"]
    assert status(*words, "--numpy", "--groupdq", "--ds9") == 0
    folder = tmp_path / "out" / "h2rg_0001"
    maps = open_products(folder / "products.zarr")
    assert set(maps) == {"mask", "rate", "rate_error", "reads", "noise"}
    mask = np.load(folder / "prediction_mask.npy")
    np.testing.assert_array_equal(mask, maps["mask"].values[0])
    ramp = np.load(folder / "h2rg_0001_processed.npy")
    assert (ramp.shape, ramp.dtype) == ((16, 48, 64), np.float32)
    assert np.isnan(ramp[-1]).all()
    with np.load(folder / "h2rg_0001_temporal.npz") as archive:
        assert set(archive.files) == set(PLANES)
        assert archive["slope"].shape == (48, 64)
    steps = read_table(folder / "steps.parquet")
    with fits.open(folder / "h2rg_0001_ramp.fits") as file:
        jumps = np.argwhere(file["GROUPDQ"].data & 4)
        np.testing.assert_array_equal(file["SCI"].data[0, 1:-1], ramp[1:-1])
    listed = steps[["integration", "frame", "y", "x"]].drop_duplicates().sort_values
    order = ["integration", "frame", "y", "x"]
    np.testing.assert_array_equal(jumps, listed(order).to_numpy())
    events = read_table(folder / "detections.parquet")
    assert (folder / "detections.reg").read_text().count("circle(") == len(events)


def test_detect_refuses_a_jwst_file_without_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "dark.npy", np.random.default_rng(1).integers(900, 1100, (12, 32, 32)).astype("u2"))
    words = ["ramps", "detect", tmp_path / "dark.npy", "-o", tmp_path / "out", "--groupdq"]
    assert status(*words) == 1
    assert "has no frame time" in capsys.readouterr().err
    assert not (tmp_path / "out" / "dark").exists()
    assert status(*words, "--frame-time", "10") == 0
    assert (tmp_path / "out" / "dark" / "dark_ramp.fits").exists()


@pytest.mark.parametrize(
    ("name", "table", "written"),
    [
        ("csv", "events", "detections.csv"),
        ("votable", "steps", "steps.vot"),
        ("ecsv", "steps", "steps.ecsv"),
        ("ds9", "events", "detections.reg"),
    ],
)
def test_export_writes_beside_the_table(
    detected: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    table: str,
    written: str,
) -> None:
    result = shutil.copytree(detected / "h2rg_0000", tmp_path / "result")
    words = ["ramps", "export", result, "--format", name, "--table", table]
    assert status(*words) == 0
    assert capsys.readouterr().out == f"{result / written}\n"
    assert (result / written).stat().st_size > 0
    assert status(*words) == 1
    assert "already there" in capsys.readouterr().err
    assert status(*words, "--overwrite") == 0
    assert status(*words, "-o", tmp_path / "named") == 0
    assert (tmp_path / "named").read_bytes() == (result / written).read_bytes()


def test_export_says_what_is_wrong(
    detected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = detected / "h2rg_0000"
    assert status("ramps", "export", tmp_path, "--format", "csv") == 1
    assert "detections.parquet is missing" in capsys.readouterr().err
    assert status("ramps", "export", result, "--format", "ds9", "--table", "steps") == 1
    assert "DS9 regions show events" in capsys.readouterr().err
    assert status("ramps", "export", result, result, "--format", "csv", "-o", tmp_path / "a.csv") == 2
    assert status("ramps", "export", result, "--format", "xls") == 2


def test_show_of_what_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("ramps", "show", tmp_path) == 1
    assert "detections.parquet is missing" in capsys.readouterr().err
