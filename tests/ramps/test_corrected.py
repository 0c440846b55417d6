"""The corrected ramp holds what detection saw, and the flags say what it decided about every read."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from fmbdask.ramps import Detection, detect, simulate
from fmbdask.ramps.corrected import (
    DO_NOT_USE,
    JUMP,
    REFERENCE_PIXEL,
    SATURATED,
    TELEGRAPH,
    corrected,
    group_flags,
    pixel_flags,
)
from fmbdask.ramps.detector import as_ramp


@pytest.fixture(scope="module")
def searched() -> tuple[xr.DataArray, Detection]:
    """A ramp and what was found in it; the first and the last two frames are left out."""
    ramp, _ = simulate(shape=(30, 64, 96), seed=3)
    return ramp, detect(ramp, skip_first=1, skip_last=2)


def test_offsets_are_subtracted_from_the_frames_in_use(searched: tuple[xr.DataArray, Detection]) -> None:
    ramp, found = searched
    (p,) = found.prepared
    result = corrected(ramp, found.prepared)
    assert result.dims == ("integration", "frame", "y", "x")
    assert result.dtype == np.float32
    counts = as_ramp(ramp).values[0].astype(np.float64)
    c = p.correction
    for k in (0, 7, p.used.size - 1):
        offset = c.column[k] + c.gradient[k] * c.height[:, None] + c.row[k][:, None]
        np.testing.assert_allclose(result.values[0, p.used[k]], counts[p.used[k]] - offset, atol=0.01)
    assert np.isnan(result.values[0, [0, 28, 29]]).all()


def test_frames_left_out_may_keep_their_counts(searched: tuple[xr.DataArray, Detection]) -> None:
    ramp, found = searched
    kept = corrected(ramp, found.prepared, fill=None).values
    np.testing.assert_array_equal(kept[0, 0], as_ramp(ramp).values[0, 0].astype(np.float32))
    assert np.isfinite(kept).all()


def test_correction_removes_what_pixels_share(searched: tuple[xr.DataArray, Detection]) -> None:
    ramp, found = searched
    used = found.prepared[0].used
    inside = np.s_[..., 8:-8, 8:-8]
    before = np.diff(as_ramp(ramp).values[0, used].astype(float), axis=0)[inside]
    after = np.diff(corrected(ramp, found.prepared).values[0, used], axis=0)[inside]
    shared = [float(np.median(d, axis=(1, 2)).std()) for d in (before, after)]
    assert shared[1] < 0.5 * shared[0]


def test_chunks_do_not_matter(searched: tuple[xr.DataArray, Detection]) -> None:
    ramp, found = searched
    whole = corrected(ramp, found.prepared).values
    np.testing.assert_array_equal(whole, corrected(as_ramp(ramp).chunk(y=24, x=40), found.prepared).values)


def test_every_step_is_a_jump_and_nothing_else_is(searched: tuple[xr.DataArray, Detection]) -> None:
    ramp, found = searched
    flags = group_flags(ramp, found.prepared, found.steps).values
    expected = np.zeros(flags.shape, bool)
    place = [found.steps[name] for name in ("integration", "frame", "y", "x")]
    expected[tuple(place)] = True
    assert expected.any()
    np.testing.assert_array_equal((flags & JUMP) > 0, expected)
    unused = (flags & DO_NOT_USE).astype(bool).all(axis=(2, 3))[0]
    np.testing.assert_array_equal(np.flatnonzero(unused), [0, 28, 29])


def test_saturation_lasts_and_earlier_flags_stay() -> None:
    ramp, _ = simulate(shape=(20, 48, 48), seed=4)
    values = np.array(as_ramp(ramp).values)
    values[0, 9:, 20, 20] = 65535
    values[0, 11, 20, 20] = 30000
    flags = np.zeros(values.shape, np.uint8)
    flags[0, 3, 30, 31] = DO_NOT_USE
    flags[0, 15:, 30, 32] = SATURATED
    made = as_ramp(ramp).copy(data=values).assign_coords(flags=(("integration", "frame", "y", "x"), flags))
    found = detect(made, skip_first=0, skip_last=0)
    result = group_flags(made, found.prepared, found.steps).values[0]
    assert (result[9:, 20, 20] & SATURATED).all()
    assert not (result[:9, 20, 20] & SATURATED).any()
    assert result[3, 30, 31] & DO_NOT_USE
    assert not (result[4:, 30, 31] & DO_NOT_USE).any()
    assert (result[15:, 30, 32] & SATURATED).all()


def test_pixels_are_flagged_by_what_they_are(searched: tuple[xr.DataArray, Detection]) -> None:
    ramp, found = searched
    bad = np.zeros(as_ramp(ramp).shape[2:], bool)
    bad[40, 41] = True
    flags = pixel_flags(ramp.assign_coords(bad_pixel=(("y", "x"), bad)), found.prepared, found.events)
    assert flags.dtype == np.uint32
    assert (flags[:4] == REFERENCE_PIXEL).all()
    assert flags[40, 41] & DO_NOT_USE
    telegraph = found.events[found.events["type"] == "telegraph_noise"]
    assert len(telegraph)
    expected = set(zip(telegraph["peak_y"], telegraph["peak_x"], strict=True))
    assert set(zip(*np.nonzero(flags & TELEGRAPH), strict=True)) == expected


def test_steps_belong_to_events(searched: tuple[xr.DataArray, Detection]) -> None:
    _, found = searched
    hits = found.events[found.events["type"] != "telegraph_noise"].set_index("event_id")
    assert set(found.steps["event_id"]) == set(hits.index)
    for number, steps in found.steps.groupby("event_id"):
        event = hits.loc[number]
        at_peak = steps[(steps["y"] == event["peak_y"]) & (steps["x"] == event["peak_x"])]
        assert len(at_peak) >= 1
        assert at_peak["amplitude"].max() == pytest.approx(event["amplitude"], rel=1e-5)
        if event["type"] == "cosmic_ray":
            assert len(steps[["y", "x"]].drop_duplicates()) == event["spatial_extent"]
