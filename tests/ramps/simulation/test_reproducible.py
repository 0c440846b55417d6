"""The random numbers depend on the seed, the exposure and the row, and on nothing else."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from fmbdask.ramps.simulation import Exposure, SimulationConfig, plan_exposure, simulate, simulate_rows

CONFIG = SimulationConfig.read({"snowball_radius_range": [3, 5]}).resized(20, 37, 52)
PLAN = plan_exposure(CONFIG, Exposure(3, 1), "whole")
WHOLE = simulate_rows(PLAN.strip(0, 37))


@settings(max_examples=15)
@given(st.sets(st.integers(1, 36)), st.randoms())
def test_any_cut_into_strips_in_any_order_gives_the_same_bits(cuts: set[int], order: random.Random) -> None:
    edges = [0, *sorted(cuts), 37]
    strips = list(pairwise(edges))
    order.shuffle(strips)
    out = np.zeros_like(WHOLE)
    for y0, y1 in strips:
        out[:, y0:y1] = simulate_rows(PLAN.strip(y0, y1))
    np.testing.assert_array_equal(out, WHOLE)


def test_a_strip_of_a_strip_is_the_strip() -> None:
    np.testing.assert_array_equal(simulate_rows(PLAN.strip(5, 30).cut(11, 20)), WHOLE[:, 11:20])


def test_equal_seeds_give_equal_exposures_and_others_differ() -> None:
    ramp, truth = simulate(CONFIG, seed=3, index=1)
    again, same = simulate(CONFIG, seed=3, index=1)
    other, _ = simulate(CONFIG, seed=4, index=1)
    next_one, _ = simulate(CONFIG, seed=3, index=2)
    np.testing.assert_array_equal(ramp, again)
    np.testing.assert_array_equal(ramp[0], WHOLE)
    pd.testing.assert_frame_equal(truth.events, same.events)
    pd.testing.assert_frame_equal(truth.pixels, same.pixels)
    assert (ramp.values != other.values).mean() > 0.9
    assert (ramp.values != next_one.values).mean() > 0.9


def test_a_detector_keeps_its_zero_level_and_hot_pixels() -> None:
    one = PLAN.maps(0, 37)
    two = plan_exposure(CONFIG, Exposure(3, 9), "other").maps(0, 37)
    third = plan_exposure(CONFIG, Exposure(4, 1), "other").maps(0, 37)
    reset = CONFIG.effects.bias.reset_noise / PLAN.gain  # type: ignore[union-attr]
    assert np.std(one.bias - two.bias) < 2 * reset < np.std(one.bias - third.bias)
    np.testing.assert_array_equal(one.gathers, two.gathers)
    np.testing.assert_array_equal(one.full_well, two.full_well)


def test_switching_an_effect_off_leaves_the_events_alone() -> None:
    bare = CONFIG.model_copy(update={"effects": CONFIG.effects.model_copy(update={"sky": None, "ipc": None})})
    kept = plan_exposure(bare, Exposure(3, 1), "bare")
    np.testing.assert_array_equal(kept.cosmic_rays.charge, PLAN.cosmic_rays.charge)
    np.testing.assert_array_equal(kept.telegraph.high, PLAN.telegraph.high)
