"""Simulated surveys: names, files, truth beside them, and the same bytes from any number of processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from fmbdask.errors import InputError, OutputExistsError
from fmbdask.ramps.simulation import EVENT_UNITS, SimulationConfig, make_exposure
from fmbdask.store.ramps import open_ramp
from fmbdask.survey.exposures import simulate as module
from fmbdask.survey.exposures.simulate import read_truth, simulate_survey

SMALL = SimulationConfig.read({"snowball_radius_range": [3, 4]}).resized(12, 40, 48)


def test_names_follow_index_detector_and_kind(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"num_baseline_exposures": 1, "gain_library": {"a": 1.0, "b": 2.0}})
    names = [path.name for path in simulate_survey(config, tmp_path, start_index=2, end_index=3, workers=1)]
    assert names == [
        f"h2rg_{index:04d}_{detector}{kind}.fits"
        for index in (2, 3)
        for detector in ("a", "b")
        for kind in ("", "_baseline_00")
    ]
    assert read_truth(tmp_path / names[1]).events.empty
    assert open_ramp(tmp_path / names[2]).attrs["gain"] == 2.0


@pytest.mark.parametrize("file_format", ["fits", "zarr"])
def test_a_file_holds_the_exposure_that_is_made_in_memory(tmp_path: Path, file_format: str) -> None:
    (path,) = simulate_survey(
        SMALL, tmp_path, start_index=5, end_index=5, seed=7, workers=1, file_format=file_format
    )
    ramp, truth = make_exposure(SMALL, 5, seed=7)
    opened = open_ramp(path)
    assert path.stem == "h2rg_0005"
    np.testing.assert_array_equal(opened.values, ramp.values)
    np.testing.assert_allclose(opened.read_times, ramp.read_times)
    for name, value in ramp.attrs.items():
        assert opened.attrs[name] == (pytest.approx(value) if isinstance(value, float) else value)
    read = read_truth(path)
    pd.testing.assert_frame_equal(read.events, truth.events, check_dtype=False)
    pd.testing.assert_frame_equal(read.pixels, truth.pixels, check_dtype=False)
    assert read.meta == truth.meta


def test_units_travel_in_the_columns(tmp_path: Path) -> None:
    simulate_survey(SMALL, tmp_path, workers=1)
    schema = pq.read_schema(tmp_path / "h2rg_0000_truth.parquet")
    assert {field.name: field.metadata[b"unit"].decode() for field in schema} == EVENT_UNITS


def test_processes_write_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone,) = simulate_survey(SMALL, tmp_path / "one", seed=1, workers=1)
    monkeypatch.setattr(module, "_SMALL", 0)
    monkeypatch.setattr(module, "_BLOCK", 12 * 48 * 7)
    seen: list[tuple[int, int, str]] = []
    (together,) = simulate_survey(
        SMALL, tmp_path / "two", seed=1, workers=2, progress=lambda *report: seen.append(report)
    )
    assert alone.read_bytes() == together.read_bytes()
    assert [done for done, _, _ in seen] == list(range(7))
    assert {total for _, total, _ in seen} == {6}
    for name in ("h2rg_0000_truth.parquet", "h2rg_0000_truth_pixels.parquet"):
        assert (alone.parent / name).read_bytes() == (together.parent / name).read_bytes()


def test_small_exposures_are_shared_out_whole(tmp_path: Path) -> None:
    one = simulate_survey(SMALL, tmp_path / "one", end_index=2, workers=1)
    two = simulate_survey(SMALL, tmp_path / "two", end_index=2, workers=2)
    assert [path.name for path in one] == [path.name for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (path,) = simulate_survey(SMALL, tmp_path, seed=1, workers=1)
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r"h2rg_0000\.fits"):
        simulate_survey(SMALL, tmp_path, end_index=1, seed=2, workers=1)
    assert path.read_bytes() == before
    assert not (tmp_path / "h2rg_0001.fits").exists()
    simulate_survey(SMALL, tmp_path, seed=2, workers=1, overwrite=True)
    assert path.read_bytes() != before


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="indices 3 to 2"):
        simulate_survey(SMALL, tmp_path, start_index=3, end_index=2)
    with pytest.raises(InputError, match=r"_truth\.parquet is not there"):
        read_truth(tmp_path / "h2rg_0000.fits")
