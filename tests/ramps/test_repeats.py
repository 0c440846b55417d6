"""Hits that repeat at one place in several integrations, or are known to, are not called so lightly."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from fmbdask.ramps.calibration import repeat_odds
from fmbdask.ramps.detect import detect
from fmbdask.ramps.events import STEP
from fmbdask.ramps.prepare import Prepared
from fmbdask.ramps.repeats import weigh_repeats

from .made_up import SIGMA, counts, labelled

INTEGRATIONS, FRAMES, SIZE = 5, 30, 64


def several(seed: int = 4) -> xr.DataArray:
    """Integrations of white noise with a transient of a corner in each, and hits of their own."""
    rng = np.random.default_rng(seed)
    data = np.stack([counts(FRAMES, SIZE, SIZE, seed=seed + i) for i in range(INTEGRATIONS)])
    # hits that do not touch each other
    places = rng.permutation([(y, x) for y in range(18, SIZE, 6) for x in range(3, SIZE, 6)])[
        : 8 * INTEGRATIONS
    ]
    for i in range(INTEGRATIONS):
        data[i, 6 + i % 2 :, 10:12, 40:43] += np.uint16(9 * SIGMA)
        for y, x in places[8 * i : 8 * i + 8]:
            data[i, int(rng.integers(5, FRAMES - 5)) :, y, x] += np.uint16(20 * SIGMA)
    return labelled(data, gain=1.0, read_noise=SIGMA)


def test_chance_explains_what_happens_as_often_as_chance_says() -> None:
    assert repeat_odds(0, 4, 1e-3) < 0
    assert repeat_odds(4, 4, 1e-3) == pytest.approx(np.log(1e12 / 5))
    assert np.all(np.diff(repeat_odds(np.arange(5), 4, 1e-3)) > 0)
    # with a coin both outcomes are as likely as can be
    assert abs(repeat_odds(2, 4, 0.5)) < 1


def test_a_transient_in_every_integration_is_no_cosmic_ray_and_single_hits_are() -> None:
    events = detect(several()).events
    events = events[events["type"] == "cosmic_ray"]
    corner = events["peak_y"].between(10, 11) & events["peak_x"].between(40, 42)
    assert corner.sum() == INTEGRATIONS
    assert (events.loc[corner, "confidence"] < 0.05).all()
    strong = events[~corner & (events["significance"] > 10)]
    assert len(strong) == 8 * INTEGRATIONS
    assert (strong["confidence"] > 0.9).all()


def test_one_integration_alone_says_nothing_about_repeats() -> None:
    ramp = several()[:1]
    events = detect(ramp).events
    corner = events["peak_y"].between(10, 11) & events["peak_x"].between(40, 42)
    assert (events.loc[corner, "confidence"] > 0.9).all()


def test_two_hits_that_meet_by_chance_in_a_crowd_keep_most_of_their_confidence() -> None:
    """Dense hits make coincidences likely: half of all places struck once must not look like effects."""
    rng = np.random.default_rng(2)
    found = detect(several())
    number = 1200
    steps = np.zeros(number, STEP)
    steps["integration"] = rng.integers(0, INTEGRATIONS, number)
    steps["y"], steps["x"] = rng.integers(0, SIZE, (2, number))
    steps["frame"] = rng.integers(2, FRAMES, number)
    steps["amplitude"] = 200.0
    events = pd.DataFrame(
        {
            "old_id": np.arange(number),
            "type": "cosmic_ray",
            "integration": steps["integration"],
            "first_frame": steps["frame"],
            "peak_y": steps["y"],
            "peak_x": steps["x"],
            "confidence": 0.99,
        }
    )
    prepared: tuple[Prepared, ...] = found.prepared
    weighed = weigh_repeats(events, steps, np.arange(number), prepared)
    assert (weighed["confidence"] > 0.9).mean() > 0.99
    shuffled = rng.permutation(number)
    again = weigh_repeats(events.iloc[shuffled], steps[shuffled], np.arange(number)[shuffled], prepared)
    np.testing.assert_array_equal(again.sort_index()["confidence"], weighed["confidence"])
