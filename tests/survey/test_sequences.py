"""Ramps of pixels as a store of sequences: what steps are, which are valid, and which pixels are there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import fmbdask
from fmbdask.cli.app import app
from fmbdask.errors import InputError, OutputExistsError
from fmbdask.ramps import detect, simulate
from fmbdask.ramps.corrected import corrected
from fmbdask.store.embeddings import open_embeddings, sequences_of
from fmbdask.survey.exposures.sequences import ramp_sequences

SHAPE = (24, 64, 72)
BAD, FULL, FROM = (20, 21), (30, 31), 15
#: A pixel that is hit, the first frame of the new level, and by how much [DN].
HIT, HIT_AT, AMPLITUDE = (40, 41), 12, 2000


@pytest.fixture(scope="module")
def exposure(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Two integrations, with a pixel that is bad, one that fills and one that is hit; options to open it."""
    folder = tmp_path_factory.mktemp("exposure")
    made = [simulate(shape=SHAPE, seed=seed) for seed in (3, 4)]
    values = np.concatenate([np.asarray(ramp.values).reshape(1, *SHAPE) for ramp, _ in made])
    values[0, FROM:, *FULL] = 65535
    values[1, HIT_AT:, *HIT] += AMPLITUDE
    np.save(folder / "x.npy", values)
    bad = np.zeros(SHAPE[1:], np.uint8)
    bad[BAD] = 1
    np.save(folder / "bad.npy", bad)
    attrs = made[0][0].attrs
    known = {n: attrs[n] for n in ("gain", "read_noise", "reference_border", "amplifiers") if n in attrs}
    return folder / "x.npy", {**known, "bad_pixels": folder / "bad.npy"}


@pytest.fixture(scope="module")
def searched(exposure: tuple[Path, dict[str, Any]]) -> tuple[xr.DataArray, Any]:
    """The exposure as it was opened, and what is found in it."""
    ramp = fmbdask.open_ramp(exposure[0], **exposure[1])
    return ramp, detect(ramp)


@pytest.fixture(scope="module")
def whole(exposure: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """All pixels, in DN."""
    out = tmp_path_factory.mktemp("all") / "a.zarr"
    said: list[str] = []
    ramp_sequences(exposure[0], out, pixels="all", units="DN", overrides=exposure[1], say=said.append)
    assert said[0].startswith(f"{2 * SHAPE[1] * SHAPE[2]} sequences of {SHAPE[0] - 1} steps: ")
    return open_embeddings(out)


def by_pixel(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Values and valid steps, (integration, step, y, x)."""
    found = sequences_of(ds)
    order = np.argsort(ds["object_id"].values)
    steps = found.sizes["time"]
    return tuple(
        np.moveaxis(np.asarray(a)[order].reshape(2, *SHAPE[1:], steps), 3, 1)
        for a in (found[..., 0], found["valid_time"])
    )  # type: ignore[return-value]


def test_steps_are_differences_of_the_corrected_ramp(whole: xr.Dataset, searched: Any) -> None:
    ramp, found = searched
    wanted = np.diff(corrected(ramp, found.prepared).values, axis=1)
    values, valid = by_pixel(whole)
    np.testing.assert_array_equal(values[valid], wanted[valid])
    assert np.isnan(values[~valid]).all()
    used = np.zeros((2, SHAPE[0]), bool)
    for i, p in enumerate(found.prepared):
        used[i, p.used] = True
    steps = used[:, 1:] & used[:, :-1]
    expected = np.broadcast_to(steps[:, :, None, None], valid.shape).copy()
    rows, columns = found.prepared[0].detector.active
    border = np.ones(SHAPE[1:], bool)
    border[rows, columns] = False
    assert border.any()
    expected[:, :, border] = False
    expected[:, :, *BAD] = False
    level = found.prepared[0].detector.saturation
    full = np.logical_or.accumulate(ramp.values >= level, axis=1)
    assert full[0, FROM:, *FULL].all()
    expected &= ~full[:, 1:]
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(whole["pixel"], whole["y"] * SHAPE[2] + whole["x"])
    ids = (whole["integration"] * SHAPE[1] + whole["y"]) * SHAPE[2] + whole["x"]
    np.testing.assert_array_equal(whole["object_id"], ids)
    assert whole["sequence"].attrs["units"] == "DN"


def test_a_hit_is_a_step_in_its_pixel(whole: xr.Dataset, searched: Any) -> None:
    values, valid = by_pixel(whole)
    ramp = values[1, :, *HIT]
    assert valid[1, HIT_AT - 1, *HIT]
    assert int(np.nanargmax(ramp)) == HIT_AT - 1
    others = np.delete(ramp, HIT_AT - 1)
    noise = float(np.sqrt(2 * searched[1].prepared[1].noise.variance.max()))
    assert ramp[HIT_AT - 1] - np.nanmedian(others) == pytest.approx(AMPLITUDE, abs=6 * noise)
    assert np.nanmax(np.abs(others - np.nanmedian(others))) < 6 * noise


def test_a_sample_is_the_same_for_one_seed(
    whole: xr.Dataset, exposure: tuple[Path, dict[str, Any]], searched: Any, tmp_path: Path
) -> None:
    path, overrides = exposure
    options: dict[str, Any] = {"count": 300, "overrides": overrides, "overwrite": True}
    stores = []
    for name, seed, threads in (("a", 0, 1), ("b", 0, 3), ("c", 1, 2)):
        ramp_sequences(path, tmp_path / f"{name}.zarr", seed=seed, threads=threads, **options)
        stores.append(open_embeddings(tmp_path / f"{name}.zarr").load())
    xr.testing.assert_identical(stores[0], stores[1])
    ids = [set(s["object_id"].values.tolist()) for s in stores]
    assert len(ids[0]) == 300
    assert len(ids[0] & ids[2]) < 150
    # units of the noise: the same steps, divided by it
    one = stores[0]
    assert one["sequence"].attrs["units"] == "sigma"
    place = {int(v): i for i, v in enumerate(whole["object_id"].values)}
    same = sequences_of(whole)[[place[int(v)] for v in one["object_id"].values]]
    prepared = searched[1].prepared
    variance = np.array(
        [
            prepared[i].noise.variance[a]
            for i, a in zip(one["integration"].values, one["amplifier"].values, strict=True)
        ]
    )
    np.testing.assert_allclose(
        sequences_of(one)[..., 0], same[..., 0] / np.sqrt(2 * variance)[:, None], rtol=1e-5
    )
    spread = np.nanmedian(np.abs(sequences_of(one).values)) / 0.6745
    assert 0.9 < spread < 1.3  # read noise, and a little of photons


def test_candidates_are_where_something_was_found(
    exposure: tuple[Path, dict[str, Any]], searched: Any, tmp_path: Path
) -> None:
    path, overrides = exposure
    ramp_sequences(path, tmp_path / "c.zarr", pixels="candidates", overrides=overrides)
    ds = open_embeddings(tmp_path / "c.zarr")
    mask = searched[1].maps["mask"].values
    np.testing.assert_array_equal(np.sort(ds["object_id"]), np.flatnonzero(mask))
    np.testing.assert_array_equal(ds["event"], mask[ds["integration"], ds["y"], ds["x"]])


def test_counts_begin_at_zero(exposure: tuple[Path, dict[str, Any]], searched: Any, tmp_path: Path) -> None:
    path, overrides = exposure
    ramp_sequences(
        path, tmp_path / "c.zarr", kind="counts", units="DN", count=50, seed=5, overrides=overrides
    )
    ds = open_embeddings(tmp_path / "c.zarr")
    ramp = corrected(*[searched[0], searched[1].prepared]).values
    found = sequences_of(ds)
    assert found.sizes["time"] == SHAPE[0]
    for row, i, y, x in zip(range(50), ds["integration"].values, ds["y"].values, ds["x"].values, strict=True):
        valid = found["valid_time"].values[row]
        wanted = ramp[i, valid, y, x]
        np.testing.assert_allclose(found.values[row, valid, 0], wanted - wanted[0], rtol=1e-5, atol=1e-2)


def test_a_short_disk_and_other_wrongs_are_told(
    exposure: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, overrides = exposure
    with pytest.raises(InputError, match="at least 1"):
        ramp_sequences(path, tmp_path / "a.zarr", count=0, overrides=overrides)
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(OutputExistsError):
        ramp_sequences(path, tmp_path / "b.zarr", overrides=overrides)
    free = shutil.disk_usage(tmp_path)._replace(free=2_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(InputError, match=r"needs \S+ MB and .* has 2 MB free"):
        ramp_sequences(path, tmp_path / "a.zarr", pixels="all", overrides=overrides)
    assert not (tmp_path / "a.zarr").exists()


def test_the_command(exposure: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = tmp_path / "p.zarr"
    words = ["ramps", "sequences", str(exposure[0]), "-o", str(out), "--count", "40", "--units", "DN"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "40 sequences of 23 steps" in result.stderr
    assert open_embeddings(out).sizes["object"] == 40
