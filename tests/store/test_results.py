"""Maps, catalogues and the names of results: written whole, read back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr

from fmbdask.errors import InputError, OutputExistsError
from fmbdask.store.catalog import read_table, result_names, write_events, write_table
from fmbdask.store.products import open_products, write_products

from .made_up import litter

ATTRS = {
    "units": "DN",
    "exposure": "made",
    "gain": 1.5,
    "read_noise": 12.0,
    "saturation": 60000.0,
    "reference_border": [4, 4, 2, 2],
    "amplifiers": 4,
    "amplifier_layout": "interleaved",
    "instrument": "TEST",
}


def test_products_come_back(tmp_path: Path) -> None:
    rate = da.from_array(
        np.random.default_rng(0).normal(size=(2, 70, 41)).astype(np.float32), chunks=(2, 33, 17)
    )
    maps = xr.Dataset(
        {
            "mask": (("y", "x"), np.arange(70 * 41, dtype=np.uint8).reshape(70, 41) % 4, {"units": "1"}),
            "rate": (("integration", "y", "x"), rate, {"units": "DN/s", "levels": np.arange(2)}),
        },
        {"read_times": ("frame", np.arange(5.0))},
        {"threshold": np.float64(4.5), "skipped": np.array([0, 1]), "nothing": np.nan},
    )
    write_products(tmp_path / "products.zarr", maps, edge=32)
    found = open_products(tmp_path / "products.zarr")
    xr.testing.assert_equal(found.compute(), maps.compute())
    assert set(found.coords) == {"read_times"}
    assert found.mask.dtype == np.uint8
    assert found.attrs == {"threshold": 4.5, "skipped": [0, 1], "nothing": None}
    assert found.rate.attrs == {"units": "DN/s", "levels": [0, 1]}
    stored = zarr.open_group(tmp_path / "products.zarr", mode="r")
    assert stored["rate"].chunks == (1, 32, 32)
    assert stored["rate"].metadata.zarr_format == 3
    with pytest.raises(OutputExistsError, match=r"products\.zarr is already there"):
        write_products(tmp_path / "products.zarr", maps)


EVENTS = pd.DataFrame(
    {
        "event_id": [0, 1],
        "type": np.array([1, 3], np.uint8),
        "integration": [0, 1],
        "y": [1.5, 20.0],
        "x": [3.0, 4.25],
        "first_frame": [5, 6],
        "time": [1.0, np.nan],
        "amplitude": np.array([30.5, 400.0], np.float32),
        "spatial_extent": [1, 40],
        "significance": [8.5, np.inf],
        "radius": [np.nan, 3.5],
        "n_saturated": [np.nan, 4.0],
    }
)


def test_events_in_parquet_and_json(tmp_path: Path) -> None:
    config = {"false_alarm_rate": np.float64(1e-5), "border": (4, 4, 4, 4)}
    parquet, text = write_events(
        tmp_path / "out", EVENTS, exposure="made", configuration=config, level_unit="electron"
    )
    content = json.loads(text.read_text())
    assert content["exposure"] == "made"
    assert content["configuration"] == {"false_alarm_rate": 1e-5, "border": [4, 4, 4, 4]}
    assert {"fmbdask", "numpy", "python"} <= content["versions"].keys()
    ray, ball = content["detections"]
    assert ray == {
        "type": "cosmic_ray",
        "centroid": [1.5, 3.0],
        "event_id": 0,
        "integration": 0,
        "first_frame": 5,
        "time": 1.0,
        "amplitude": 30.5,
        "spatial_extent": 1,
        "significance": 8.5,
    }
    assert ball["type"] == "snowball"
    assert ball["n_saturated"] == 4
    assert not {"time", "significance"} & ball.keys()
    table = read_table(parquet)
    pd.testing.assert_frame_equal(table, EVENTS)
    assert table.attrs["units"]["amplitude"] == "electron"
    assert table.attrs["units"]["time"] == "s"
    assert table.attrs["configuration"] == content["configuration"]
    for field in pq.read_schema(parquet):
        assert field.metadata[b"unit"]


def test_no_events_are_a_table_too(tmp_path: Path) -> None:
    parquet, text = write_events(tmp_path, EVENTS[:0], exposure="quiet", configuration={})
    assert json.loads(text.read_text())["detections"] == []
    assert list(read_table(parquet).columns) == list(EVENTS.columns)


def test_events_are_not_overwritten_unasked(tmp_path: Path) -> None:
    write_events(tmp_path, EVENTS, exposure="a", configuration={})
    with pytest.raises(OutputExistsError, match=r"detections\.json is already there"):
        write_events(tmp_path, EVENTS[:0], exposure="b", configuration={})
    assert len(read_table(tmp_path / "detections.parquet")) == 2
    write_events(tmp_path, EVENTS[:0], exposure="b", configuration={}, overwrite=True)
    assert len(read_table(tmp_path / "detections.parquet")) == 0
    assert litter(tmp_path) == []


def test_every_column_needs_a_unit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"columns without a unit \(weight\): name the unit of each"):
        write_table(tmp_path / "x.parquet", pd.DataFrame({"weight": [1]}), units={"y": "pixel"})
    assert list(tmp_path.iterdir()) == []


def test_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(InputError, match=r"x\.parquet cannot be read as Parquet"):
        read_table(tmp_path / "x.parquet")


def test_equal_stems_are_told_apart() -> None:
    paths = [
        "a/x.fits",
        "b/x.fits",
        "b/y.fits",
        "c/b/x.fits",
        "d/z.fits",
        "d/z.npy",
        "a-b/c.fits",
        "a/b-c.fits",
    ]
    names = result_names(paths)
    assert names[2] == "y"
    assert names[0] == "a-x"
    assert names[4:6] == ["z-fits", "z-npy"]
    assert len(set(names)) == len(paths)
    assert result_names(paths[::-1]) == names[::-1]
    assert not any("/" in name for name in names)


def test_names_that_join_to_the_same_text_are_told_apart() -> None:
    names = result_names(["/a/b-x.fits", "/a-b/x.fits", "/a/x.fits", "/c/b-x.fits"])
    assert len(set(names)) == 4


def test_an_exposure_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"x\.fits is given 2 times"):
        result_names(["a/x.fits", "a/../a/x.fits"])
