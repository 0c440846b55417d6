"""Models that people look at follow the ramps they were fitted to."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from fmbdask.ramps import Detection, detect, examples, simulate
from fmbdask.ramps.series import line_with_steps, two_levels

NOISE = {"variance": 25.0, "poisson": 1.0, "rho_floor": 0.005}


def test_a_line_with_steps_is_found_again() -> None:
    rng = np.random.default_rng(1)
    times = np.arange(60.0)
    truth = 300 + 4.0 * times + 120.0 * (times >= 20) + 50.0 * (times >= 41)
    used = np.ones(60, bool)
    used[[0, 5, 58, 59]] = False
    counts = truth + rng.normal(0, 5, 60)
    counts[~used] = 1e6
    model, begins = line_with_steps(counts, used, times, [20, 41, 59], **NOISE)
    np.testing.assert_array_equal(np.flatnonzero(begins), [20, 41])
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(model)), [0, 58, 59])
    # three standard errors of levels of about twenty reads
    assert np.nanmax(np.abs(model - truth)) < 3 * 5 / np.sqrt(20) * 2


def test_a_bent_ramp_is_followed_and_a_straight_one_stays_straight() -> None:
    rng = np.random.default_rng(2)
    times = np.arange(50.0)
    bent = 100 + 2 * times - 400 * np.exp(-times / 6)
    for truth, straight in ((bent, False), (100 + 2 * times, True)):
        counts = truth + rng.normal(0, 5, 50)
        model, _ = line_with_steps(counts, np.ones(50, bool), times, [], **NOISE)
        assert np.sqrt(np.mean((model - truth) ** 2)) < 3
        assert (np.ptp(np.diff(model)) < 1e-6) == straight


@pytest.mark.parametrize("starts_high", [False, True])
def test_two_levels_are_found_again(starts_high: bool) -> None:
    rng = np.random.default_rng(3)
    times = np.arange(80.0)
    high = (times % 23 < 9) == starts_high
    truth = 500 + 1.5 * times + 60.0 * high
    used = np.ones(80, bool)
    used[77:] = False
    model, begins = two_levels(
        truth + rng.normal(0, 5, 80), used, times, amplitude=50, dwell_high=10, dwell_low=12, variance=25.0
    )
    assert np.isnan(model[77:]).all()
    np.testing.assert_array_equal(np.flatnonzero(begins), np.flatnonzero(np.diff(high[:77])) + 1)
    assert np.sqrt(np.mean((model[:77] - truth[:77]) ** 2)) < 2.5


def test_too_few_reads_have_no_model() -> None:
    used = np.zeros(10, bool)
    used[:2] = True
    for model, begins in (
        line_with_steps(np.zeros(10), used, np.arange(10.0), [1], **NOISE),
        two_levels(np.zeros(10), used, np.arange(10.0), amplitude=9, dwell_high=2, dwell_low=2, variance=1.0),
    ):
        assert np.isnan(model).all()
        assert not begins.any()


@pytest.fixture(scope="module")
def searched() -> tuple[xr.DataArray, Detection]:
    """A ramp with all kinds of events and what was found in it."""
    numbers = {"cosmic_ray_per_exp_range": (12, 12), "rtn_per_exp_range": (8, 8)}
    sizes = {"image_shape": (128, 128), "num_frames": 40, "snowballs_per_exp_range": (1, 1)}
    ramp, _ = simulate(numbers | sizes, seed=11)
    return ramp, detect(ramp)


def test_the_strongest_events_come_first(searched: tuple[xr.DataArray, Detection]) -> None:
    ramp, found = searched
    shown = examples(ramp, found.events, found.steps, each=3)
    for kind in ("cosmic_ray", "telegraph_noise"):
        got = [each.attrs["significance"] for each in shown if each.attrs["type"] == kind]
        best = found.events.loc[found.events["type"] == kind, "significance"].nlargest(3).to_list()
        assert got == best


def test_models_follow_their_ramps(searched: tuple[xr.DataArray, Detection]) -> None:
    ramp, found = searched
    shown = examples(ramp, found.events, found.steps, each=4)
    assert {each.attrs["type"] for each in shown} == {"cosmic_ray", "telegraph_noise", "snowball"}
    sigma = found.info["read_noise_dn"][0]
    for each in shown:
        used = each["used"].values
        assert used[0].sum() > 5
        left = np.where(used, each["counts"].values - each["model"].values, np.nan)
        assert np.nanstd(left[0]) < 3 * sigma
        y, x = int(each["pixel_y"][0]), int(each["pixel_x"][0])
        assert (y, x) == (each.attrs["peak_y"], each.attrs["peak_x"])
        assert y in each["y"].values
        assert x in each["x"].values


def test_pictures_near_the_edge_are_as_large_as_others(searched: tuple[xr.DataArray, Detection]) -> None:
    ramp, found = searched
    moved = found.events[found.events["type"] == "cosmic_ray"].head(1).assign(peak_y=4, peak_x=123)
    (shown,) = examples(ramp, moved, found.steps.iloc[:0])
    assert shown["picture"].shape == (13, 25)
    assert (shown["y"].values[0], shown["x"].values[-1]) == (4, 123)
    assert not shown["begins"].any()
