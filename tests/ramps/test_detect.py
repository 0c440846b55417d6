"""Detection gives the same bits however the exposure is cut, computed or stored."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fmbdask.errors import ConfigError, InputError
from fmbdask.ramps import Detection, detect, features, simulate
from fmbdask.ramps.simulation import Truth

from .made_up import counts, labelled, with_map

#: A frame of odd size with tracks, telegraph noise and a snowball; seeds are chosen so that all are found.
FRAMES, ROWS, COLUMNS = 30, 75, 90
CROWDED = {
    "image_shape": (ROWS, COLUMNS),
    "num_frames": FRAMES,
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


@pytest.fixture(scope="module")
def crowded() -> tuple[xr.DataArray, Truth]:
    return simulate(CROWDED, seed=5)


@pytest.fixture(scope="module")
def marked(crowded: tuple[xr.DataArray, Truth]) -> xr.DataArray:
    """The same with flags, bad pixels and a map of saturation."""
    ramp = crowded[0]
    random = np.random.default_rng(2)
    flags = (random.random(ramp.shape) < 2e-3).astype(np.uint8)
    flags[0, :, 30] = 2 * (np.arange(FRAMES) > 20)[:, None]
    return with_map(
        ramp,
        flags=flags,
        bad_pixel=random.random((ROWS, COLUMNS)) < 0.01,
        saturation_map=random.uniform(50000, 60000, (ROWS, COLUMNS)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def whole(crowded: tuple[xr.DataArray, Truth]) -> Detection:
    return detect(crowded[0], features=True)


@pytest.fixture(scope="module")
def whole_marked(marked: xr.DataArray) -> Detection:
    return detect(marked, features=True)


def assert_same(one: Detection, other: Detection) -> None:
    """Compare bit by bit."""
    pd.testing.assert_frame_equal(one.events, other.events, check_exact=True)
    assert set(one.maps) == set(other.maps)
    for name in one.maps:
        a, b = one.maps[name].values, other.maps[name].values
        assert a.dtype == b.dtype
        assert a.tobytes() == b.tobytes(), name
    assert one.info == other.info


def cut(ramp: xr.DataArray, rows: Sequence[int], columns: Sequence[int]) -> xr.DataArray:
    """Chunk a ramp at the given rows and columns."""
    sizes = {
        d: tuple(b - a for a, b in pairwise(sorted({0, *places, ramp.sizes[d]})))
        for d, places in (("y", rows), ("x", columns))
    }
    return ramp.chunk({"integration": 1, "frame": -1, **sizes})


def test_the_exposure_holds_every_kind(whole: Detection) -> None:
    kinds = whole.events["type"].value_counts()
    assert kinds["cosmic_ray"] >= 8
    assert kinds["telegraph_noise"] >= 3
    assert kinds["snowball"] == 1
    assert whole.events["spatial_extent"].max() > 50


def test_borders_through_every_event(crowded: tuple[xr.DataArray, Truth], whole: Detection) -> None:
    places = whole.events[["peak_y", "peak_x"]].to_numpy()
    for shift in (0, 1):
        assert_same(whole, detect(cut(crowded[0], *(places + shift).T.tolist()), features=True))


@settings(max_examples=12, derandomize=True)
@given(st.sets(st.integers(1, ROWS - 1), max_size=6), st.sets(st.integers(1, COLUMNS - 1), max_size=6))
@example(set(), set())
@example(set(range(1, ROWS, 17)), set(range(1, COLUMNS, 31)))
def test_any_chunks(marked: xr.DataArray, whole_marked: Detection, rows: set[int], columns: set[int]) -> None:
    assert_same(whole_marked, detect(cut(marked, sorted(rows), sorted(columns)), features=True))


def test_chunks_of_one_pixel(crowded: tuple[xr.DataArray, Truth]) -> None:
    ramp = crowded[0][..., 10:21, 20:33]
    ramp.attrs = crowded[0].attrs | {"reference_border": [0, 0, 0, 0]}
    one = detect(ramp, features=True)
    assert_same(one, detect(ramp.chunk({"frame": -1, "y": 1, "x": 1}), features=True))


def test_chunks_along_frames(crowded: tuple[xr.DataArray, Truth], whole: Detection) -> None:
    ramp = crowded[0].chunk({"frame": 7, "y": 50, "x": 40})
    assert_same(whole, detect(ramp, features=True))


@pytest.mark.parametrize("threads", [0, 1, 2, 4])
def test_any_scheduler(crowded: tuple[xr.DataArray, Truth], whole: Detection, threads: int) -> None:
    ramp = cut(crowded[0], range(0, ROWS, 20), range(0, COLUMNS, 20))
    if not threads:
        with dask.config.set(scheduler="synchronous"):
            assert_same(whole, detect(ramp, features=True))
        return
    with ThreadPoolExecutor(threads) as pool, dask.config.set(scheduler="threads", pool=pool):
        assert_same(whole, detect(ramp, features=True))


@pytest.mark.parametrize(
    "attrs",
    [
        {"reference_border": [0, 0, 0, 0]},
        {"reference_border": [4, 0, 0, 0]},
        {"reference_border": [0, 3, 2, 0]},
        {"reference_border": [0, 0, 4, 4], "amplifiers": 3, "amplifier_layout": "interleaved"},
        {"amplifiers": 7},
        {"gain": None, "read_noise": None},
    ],
)
def test_any_geometry(crowded: tuple[xr.DataArray, Truth], attrs: dict[str, Any]) -> None:
    ramp = crowded[0].copy()
    known = crowded[0].attrs | attrs
    ramp.attrs = {key: value for key, value in known.items() if value is not None}
    one = detect(ramp)
    assert len(one.events) > 8
    assert_same(one, detect(cut(ramp, [3, 38], [31, 77])))


def test_integrations_are_searched_apart(crowded: tuple[xr.DataArray, Truth]) -> None:
    second = simulate(CROWDED, seed=9)[0]
    second.attrs = crowded[0].attrs
    both = xr.concat([crowded[0], second], "integration", combine_attrs="override")
    found = detect(cut(both, [37], [41]), features=True)
    for i, ramp in enumerate((crowded[0], second)):
        alone = detect(ramp, features=True)
        for name in alone.maps:
            np.testing.assert_array_equal(found.maps[name].values[i], alone.maps[name].values[0])
        here = found.events[found.events.integration == i].reset_index(drop=True)
        shared = ["event_id", "integration", "confidence"]
        pd.testing.assert_frame_equal(
            here.drop(columns=shared), alone.events.drop(columns=shared), check_exact=True, check_dtype=False
        )


def test_floating_point_counts_come_close(crowded: tuple[xr.DataArray, Truth], whole: Detection) -> None:
    other = detect(crowded[0].astype(np.float32).assign_attrs(crowded[0].attrs))
    same = ["type", "peak_y", "peak_x", "first_frame", "spatial_extent"]
    pd.testing.assert_frame_equal(whole.events[same], other.events[same])
    np.testing.assert_allclose(whole.events.significance, other.events.significance, rtol=1e-3)
    np.testing.assert_array_equal(whole.maps["mask"], other.maps["mask"])
    np.testing.assert_allclose(whole.maps["rate"], other.maps["rate"], atol=1e-3)


def test_dimensions_in_any_order(crowded: tuple[xr.DataArray, Truth], whole: Detection) -> None:
    turned = crowded[0][0].transpose("x", "frame", "y")
    found = detect(turned, features=True)
    pd.testing.assert_frame_equal(whole.events, found.events, check_exact=True)


def test_features_are_those_of_detection(crowded: tuple[xr.DataArray, Truth], whole: Detection) -> None:
    lazy = features(cut(crowded[0], [20, 47], [33]))
    assert all(isinstance(lazy[name].data, da.Array) for name in lazy)
    # rate and rate_error are refitted where something was found
    for name in set(lazy) & set(whole.maps) - {"rate", "rate_error"}:
        np.testing.assert_array_equal(lazy[name].values, whole.maps[name].values, err_msg=str(name))
        assert lazy[name].attrs["units"] == whole.maps[name].attrs["units"]


def test_progress_counts_every_region(crowded: tuple[xr.DataArray, Truth]) -> None:
    seen: list[tuple[int, int]] = []
    with dask.config.set(scheduler="synchronous"):
        detect(cut(crowded[0], [30], [30, 60]), progress=lambda done, total, _: seen.append((done, total)))
    assert seen == [(k, 6) for k in range(1, 7)]


def test_a_hit_in_every_place_is_found() -> None:
    data = counts(16, 33, 47)
    places = [(0, 0), (0, 46), (32, 0), (32, 46), (16, 20), (16, 46)]
    for k, (y, x) in enumerate(places):
        data[4 + 2 * k :, y, x] += 300
    found = detect(labelled(data)).events
    assert sorted(zip(found.peak_y, found.peak_x, found.first_frame, strict=True)) == sorted(
        (y, x, 4 + 2 * k) for k, (y, x) in enumerate(places)
    )
    np.testing.assert_allclose(found.amplitude, 300, atol=5 * 20 * 0.7)


def test_times_are_those_of_the_first_frame(crowded: tuple[xr.DataArray, Truth], whole: Detection) -> None:
    times = crowded[0].coords["read_times"].values
    np.testing.assert_array_equal(whole.events.time, times[whole.events.first_frame])


def test_higher_codes_win_in_the_mask(whole: Detection) -> None:
    mask = whole.maps["mask"]
    assert mask.attrs["flag_meanings"] == "background cosmic_ray telegraph_noise snowball"
    for code, kind in enumerate(mask.attrs["flag_meanings"].split()):
        own = whole.events[whole.events.type == kind]
        at = mask.values[0, own.peak_y.to_numpy(), own.peak_x.to_numpy()]
        assert (at >= code).all(), kind
    hot = whole.events[whole.events.type == "telegraph_noise"]
    assert (mask.values == 2).sum() <= len(hot)
    ball = whole.events[whole.events.type == "snowball"].iloc[0]
    assert (mask.values == 3).sum() == ball.spatial_extent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"false_alarm_rate": 0}, "option false_alarm_rate of the ramp detector: .*greater than 0"),
        ({"skip_first": -1}, "option skip_first"),
        ({"no_such": 1}, "option no_such of the ramp detector"),
        ({"limits": {"min_confidence": 2}}, "option limits.min_confidence of the ramp detector"),
        ({"max_steps": 0}, "option max_steps"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        detect(labelled(counts()), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": 0}, "gain is 0: it must be positive"),
        ({"reference_border": [40, 0, 0, 0]}, "leaves no pixel of 40 x 40: give the right border"),
        ({"amplifiers": 41}, "amplifiers is 41, but there are 40 columns"),
        ({"amplifier_layout": "spiral"}, "amplifier_layout 'spiral' is not known"),
    ],
)
def test_labels_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        detect(labelled(counts(), **({"source": "dark.fits"} | change)))
    assert str(caught.value).startswith("dark.fits")


@pytest.mark.parametrize("value", [0.0, np.nan, -1.0])
def test_gain_maps_without_a_gain(value: float) -> None:
    ramp = with_map(labelled(counts()), gain_map=np.full((40, 40), value, np.float32))
    with pytest.raises(InputError, match="the gain map has no positive median"):
        detect(ramp)


def test_arrays_that_are_no_ramp() -> None:
    ramp = labelled(counts())
    with pytest.raises(InputError, match="needs at least 4"):
        detect(ramp[:, :3])
    with pytest.raises(InputError, match="read_times do not increase"):
        detect(ramp.assign_coords(read_times=("frame", np.zeros(12))))
    with pytest.raises(InputError, match="rename its dimensions"):
        detect(ramp.rename(y="row"))
    with pytest.raises(InputError, match="convert it to uint16 or float32"):
        detect(ramp.astype(complex))
    with pytest.raises(InputError, match="3 frames are left of 12: skip fewer"):
        detect(ramp, skip_first=9)


def test_telegraph_pixels_alone_are_events() -> None:
    counts = np.random.default_rng(3).normal(1000, 8, (60, 32, 32))
    for start in range(5, 60, 12):
        counts[start : start + 6, 12, 20] += 120
    ramp = xr.DataArray(counts.astype(np.float32), dims=("frame", "y", "x"), attrs={"gain": 1.0})
    events = detect(ramp).events
    assert events["type"].tolist() == ["telegraph_noise"]
    assert events["confidence"].item() > 0.9
