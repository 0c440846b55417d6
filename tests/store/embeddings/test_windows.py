"""Windows of time series in tables and target pixel files: steps, blocks, labels, gaps, and where they go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fmbdask.anomaly.objects import Objects
from fmbdask.errors import InputError
from fmbdask.sequences import default_blocks
from fmbdask.store.embeddings import (
    describe_store,
    export_embeddings,
    find_store,
    import_embeddings,
    import_windows,
    join_embeddings,
    open_embeddings,
    select_objects,
    sequences_of,
    write_embeddings,
)
from fmbdask.store.embeddings.describing import as_text

from ..made_up import write_target_pixels
from .made_up import vectors


def telemetry(path: Path, values: NDArray[np.float32], order: NDArray[np.int64] | None = None) -> Path:
    """A table with a time, two readings, and a label that is 1 at steps 60 to 64; gaps at step 30."""
    lines = []
    for i in range(len(values)) if order is None else order.tolist():
        cells = ["" if i == 30 else str(values[i, 0]), str(values[i, 1]), str(int(60 <= i < 65))]
        lines.append(f"2026-01-01T{i // 60:02d}:{i % 60:02d},{','.join(cells)}")
    path.write_text("Time,Flow [l/s],temp,anomaly\n" + "\n".join(lines) + "\n")
    return path


def test_windows_of_a_table(tmp_path: Path) -> None:
    values = vectors(200, 2)
    path = telemetry(tmp_path / "pump.csv", values)
    done = import_windows(path, tmp_path / "w.zarr", window=10, stride=3, blocks=2)
    ds = open_embeddings(tmp_path / "w.zarr")
    values[30, 0] = np.nan
    start = np.array([s for s in range(0, 191, 3) if s // 100 == (s + 9) // 100])
    assert ds["start"].values.tolist() == start.tolist()
    assert ds["object_id"].values[1] == "pump:3"
    np.testing.assert_array_equal(ds["block"], start // 100)
    assert ds["start_time"].values[2] == "2026-01-01T00:06"
    np.testing.assert_array_equal(ds["label"], (start < 65) & (start + 9 >= 60))
    np.testing.assert_array_equal(ds["features"], values[start + 9])
    assert ds["features"].attrs["feature_names"] == ["Flow [l/s]", "temp"]
    found = sequences_of(ds)
    wanted = sliding_window_view(values, 10, axis=0)[start].transpose(0, 2, 1)
    usable = np.isfinite(wanted).all(axis=2)
    np.testing.assert_array_equal(found["valid_time"], usable)
    np.testing.assert_array_equal(found, np.where(usable[..., None], wanted, np.nan))
    assert found["feature"].values.tolist() == ["Flow [l/s]", "temp"]
    assert done.modalities["sequence"].valid == len(start)
    assert any("windows lie across blocks" in note for note in done.notes)
    # what detectors make of either is the same
    both = [Objects.of(data, group="block") for data in (ds[["sequence"]], found)]
    np.testing.assert_array_equal(*[b.arrays["sequence"].compute() for b in both])
    assert both[0].provenance["sequence"]["sequence"] == both[1].provenance["sequence"]["sequence"] == "10x2"


def test_rows_are_put_in_order(tmp_path: Path) -> None:
    values = vectors(150, 2)
    telemetry(tmp_path / "a.csv", values)
    import_windows(tmp_path / "a.csv", tmp_path / "a.zarr", window=20, stride=7)
    (tmp_path / "other").mkdir()
    shuffled = telemetry(tmp_path / "other" / "a.csv", values, np.random.default_rng(1).permutation(150))
    import_windows(shuffled, tmp_path / "b.zarr", window=20, stride=7)
    xr.testing.assert_identical(*[open_embeddings(tmp_path / f"{n}.zarr").load() for n in "ab"])


@pytest.mark.parametrize("named", [True, False])
def test_light_curves_in_rows(tmp_path: Path, named: bool) -> None:
    # three objects in turns, one of them too short; float64 times that float32 could not tell apart
    ids = np.array([7, 8, 9, 7, 8] * 12 + [7, 8] * 10)
    mjd = 60000 + np.arange(len(ids)) * 1e-5
    flux = np.arange(len(ids), dtype=float)
    table = pa.table({"object_id": ids, "mjd": mjd, "flux": flux, "band": ["r"] * len(ids)})
    pq.write_table(table, tmp_path / "lc.parquet")
    done = import_windows(
        tmp_path / "lc.parquet",
        tmp_path / "w.zarr",
        window=30,
        stride=2,
        series="object_id" if named else None,
    )
    ds = open_embeddings(tmp_path / "w.zarr")
    assert any("1 series are shorter than a window" in note for note in done.notes)
    assert np.unique(ds["series"]).tolist() == [7, 8]
    np.testing.assert_array_equal(sequences_of(ds)[0, :, 0], flux[ids == 7][:30])
    assert ds["object_id"].values[-1] == f"8:{int(ds['start'].values[-1])}"
    np.testing.assert_array_equal(ds["features"][:, 0], [flux[ids == s][b + 29] for s, b in pairs(ds)])


def pairs(ds: xr.Dataset) -> list[tuple[int, int]]:
    """Series and first step of each window."""
    return list(zip(ds["series"].values.tolist(), ds["start"].values.tolist(), strict=True))


def test_more_series_are_appended(tmp_path: Path) -> None:
    for name in "ab":
        telemetry(tmp_path / f"{name}.csv", vectors(100, 2))
    first = import_windows(tmp_path / "a.csv", tmp_path / "w.zarr", window=10, blocks=2)
    both = import_windows(tmp_path / "b.csv", tmp_path / "w.zarr", window=10, blocks=2, append=True)
    ds = open_embeddings(tmp_path / "w.zarr")
    assert both.objects == 2 * first.objects
    assert np.unique(ds["block"]).tolist() == [0, 1, 2, 3]
    with pytest.raises(InputError, match="other windows"):
        import_windows(tmp_path / "b.csv", tmp_path / "w.zarr", window=11, append=True)


def test_sequences_go_where_vectors_go(tmp_path: Path) -> None:
    path = telemetry(tmp_path / "a.csv", vectors(100, 2))
    store = tmp_path / "a.zarr"
    import_windows(path, store, window=10, stride=5, blocks=1)
    ds = open_embeddings(store)
    wanted, found = ds["sequence"].attrs, sequences_of(ds)
    text = as_text(describe_store(store))
    assert "sequence: sequences of 10 steps of 2 features" in text
    assert "Flow [l/s], temp" in text
    chosen = select_objects(ds, ["a:20", "a:5"])
    written = open_embeddings(write_embeddings(chosen, tmp_path / "s.zarr"))
    assert chosen["sequence"].attrs == written["sequence"].attrs == wanted
    np.testing.assert_array_equal(sequences_of(written), found[[1, 4]])
    assert join_embeddings(ds, written)["a_sequence"].attrs == wanted
    export_embeddings(ds, tmp_path / "x.parquet")
    import_embeddings(tmp_path / "x.parquet", tmp_path / "x.zarr")
    again = open_embeddings(tmp_path / "x.zarr")
    assert again["sequence"].attrs == wanted
    np.testing.assert_array_equal(sequences_of(again), found)
    # a store of windows stands for its table, until that changes
    assert find_store(path) == store
    telemetry(path, vectors(90, 2))
    with pytest.raises(InputError, match="made of its windows"):
        find_store(path)


@pytest.mark.filterwarnings("error")
def test_target_pixels(tmp_path: Path, real_data: Path) -> None:
    path = real_data / "ramps" / "test-tpf-star.fits"
    from astropy.io import fits

    with fits.open(path) as hdus:
        table = hdus[1].data
        timed = np.isfinite(table["TIME"])
        flux = np.array(table["FLUX"][timed], np.float32)
    done = import_windows(path, tmp_path / "k.zarr", window=100, stride=50, blocks=1)
    ds = open_embeddings(tmp_path / "k.zarr")
    found = sequences_of(ds)
    assert found["feature"].values.tolist() == ["FLUX"]
    assert ds["sequence"].attrs["units"] == "electron/s"
    at = int(np.flatnonzero((ds["y"] == 1) & (ds["x"] == 2) & (ds["start"] == 150))[0])
    valid = found["valid_time"].values[at]
    assert 0 < valid.sum() < 100
    np.testing.assert_array_equal(found.values[at, valid, 0], flux[150:250, 1, 2][valid])
    assert any("not to be used, says QUALITY" in note for note in done.notes)


def test_flags_of_made_up_target_pixels(tmp_path: Path) -> None:
    raw = np.arange(10 * 6).reshape(10, 3, 2)
    raw[4, 2, 1] = -1
    days, quality = 2668 + 0.02 * np.arange(10), np.zeros(10, np.int32)
    quality[[2, 5]] = 8192, 2  # a hit that the mission found stays, a safe mode does not
    path = write_target_pixels(tmp_path / "tpf.fits", raw.astype(np.float32), raw, days, quality)
    import_windows(path, tmp_path / "k.zarr", window=10, columns="RAW_CNTS")
    ds = open_embeddings(tmp_path / "k.zarr")
    assert ds["object_id"].values.tolist() == [f"tpf:{y},{x}:0" for y in range(3) for x in range(2)]
    found = sequences_of(ds)
    valid = found["valid_time"].values
    assert np.flatnonzero(~valid[0]).tolist() == [5]
    assert np.flatnonzero(~valid[5]).tolist() == [4, 5]
    np.testing.assert_array_equal(found[3, valid[3], 0], raw[valid[3], 1, 1])
    assert ds["sequence"].attrs["units"] == "DN"
    with pytest.raises(InputError, match="has its own times"):
        import_windows(path, tmp_path / "q.zarr", window=5, time="TIME")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"window": 101}, "no window of 101 steps fits"),
        ({"window": 0}, "give 1 or more"),
        ({"window": 10, "stride": 0}, "give 1 or more"),
        ({"window": 10, "time": "when"}, "no column when to order"),
        ({"window": 10, "series": "pump"}, "no column pump to tell series"),
        ({"window": 10, "columns": "flow"}, "no vectors flow"),
        ({"window": 90, "columns": ["temp"] * 2}, "twice"),
    ],
)
def test_wrong_windows_are_told(tmp_path: Path, options: dict[str, int], sentence: str) -> None:
    path = telemetry(tmp_path / "a.csv", vectors(100, 2))
    with pytest.raises(InputError, match=sentence):
        import_windows(path, tmp_path / "w.zarr", **options)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]


def test_other_bad_series(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,a\n1,2\n,3\n")
    with pytest.raises(InputError, match="time of row 2 is empty"):
        import_windows(tmp_path / "a.csv", tmp_path / "w.zarr", window=1)
    np.savez(tmp_path / "wide.npz", X=vectors(20, 8000))
    with pytest.raises(InputError, match="80010 numbers and at most 65536"):
        import_windows(tmp_path / "wide.npz", tmp_path / "w.zarr", window=10)


def test_blocks_are_neither_few_nor_short() -> None:
    assert default_blocks([10_000], 100) == 20
    assert default_blocks([300], 100) == 1
    assert default_blocks([1000] * 10, 10) == 5
