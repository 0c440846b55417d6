"""Steps put into a real exposure, and what repeats in all its integrations (skipped where it is absent)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import fmbdask
from fmbdask.errors import InputError
from fmbdask.ramps.detect import detect
from fmbdask.survey.bench.peers.environment import READY, cache_folder
from fmbdask.survey.bench.peers.real import STEPS, put_steps, real_steps, scatter

MIRI = "ramps/MIRI_5582_89_S_20180308-010230_SCE1_pipe.fits"
#: What stcal 1.20's two-point difference at 4 sigma found of the same steps (`benchmarks/real.py`, 4 passes),
#: by amplitude, and the share of ramps away from steps that it flagged.
TWO_POINT = {3: 0.02, 4: 0.08, 5: 0.31, 6: 0.59}
TWO_POINT_FLAGGED = 0.006
#: By how much more of them are found.
GAIN = {3: 0.07, 4: 0.3, 5: 0.35, 6: 0.2}


@pytest.fixture(scope="module")
def miri(real_data: Path) -> xr.DataArray:
    return fmbdask.open_ramp(real_data / MIRI).load()


def test_steps_in_a_real_ramp_are_found_with_fewer_false_alarms_than_two_points_give(
    miri: xr.DataArray,
) -> None:
    ready = (cache_folder() / READY).exists()
    table = real_steps(miri, passes=2, python=cache_folder() / "bin" / "python" if ready else None)
    ours = table.set_index("method").loc["fmbdask"]
    print(table.T.to_string(header=False))
    for amplitude, share in TWO_POINT.items():
        assert ours[f"found_{amplitude:g}"] > share + GAIN[amplitude], table
    assert min(ours["found_8"], ours["found_12"], ours["found_20"]) > 0.94, table
    # what the reset leaves in the corner of the frame is in there, for both
    assert ours["ramps_flagged"] < 1.5 * TWO_POINT_FLAGGED, table
    if ready:
        other = table.set_index("method").loc["stcal two-point 4.0"]
        assert ours["ramps_flagged"] < 1.5 * other["ramps_flagged"], table
        for amplitude, more in GAIN.items():
            assert ours[f"found_{amplitude:g}"] > other[f"found_{amplitude:g}"] + more, table


def test_transients_that_repeat_in_every_integration_are_not_believed(miri: xr.DataArray) -> None:
    """Groups of up to 15 pixels in columns 62 to 64 and row 0, soon after each reset."""
    events = detect(miri).events
    rays = events[events["type"] == "cosmic_ray"]
    place = rays["peak_x"].between(62, 64) | ((rays["peak_y"] == 0) & (rays["peak_x"].between(14, 16)))
    again = rays[place & (rays["first_frame"] <= 11)]
    assert len(again) >= 4
    assert (again["confidence"] < 0.1).all(), again
    # without the other integrations they look like hits
    alone = detect(miri[1:2]).events
    assert alone.loc[alone["peak_x"].between(62, 64), "confidence"].max() > 0.9


def test_steps_are_put_where_and_as_high_as_they_should() -> None:
    rng = np.random.default_rng(1)
    data = (5000 + 10 * rng.standard_normal((2, 30, 40, 40))).astype(np.uint16)
    ramp = xr.DataArray(data, dims=("integration", "frame", "y", "x"))
    sigma = scatter(ramp)
    assert np.median(sigma) == pytest.approx(10, rel=0.05)
    stepped, put = put_steps(ramp, sigma, 3)
    change = stepped.values.astype(int) - data
    moved = np.argwhere(change.any(axis=1))
    assert len(moved) == put.y.size >= 2 * 16
    assert {tuple(m) for m in moved.tolist()} == set(
        zip(put.integration.tolist(), put.y.tolist(), put.x.tolist(), strict=True)
    )
    own = change[put.integration, :, put.y, put.x]
    assert (own[np.arange(put.y.size), put.frame - 1] == 0).all()
    height = own[np.arange(put.y.size), put.frame] / sigma[put.integration, put.y, put.x]
    np.testing.assert_allclose(height, put.amplitude, atol=0.1)
    assert set(put.amplitude) <= set(STEPS)


def test_an_exposure_of_rates_is_refused() -> None:
    ramp = xr.DataArray(np.ones((1, 30, 8, 8), np.float32), dims=("integration", "frame", "y", "x"))
    with pytest.raises(InputError, match="integer counts"):
        real_steps(ramp)
