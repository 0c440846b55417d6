"""Around a snowball: rates without a ring, and hits at other times that stay events."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fmbdask.ramps import detect, halos
from fmbdask.ramps.events import STEP, Events
from fmbdask.regions import Region

from .made_up import SIGMA, counts, labelled

FRAMES, SIZE, WHEN = 60, 128, 25
HITS = {(64, 86): 40, (40, 64): 10, (90, 64): 50}


def test_hits_at_other_times_and_rates_in_a_halo() -> None:
    data = counts(FRAMES, SIZE, SIZE, dtype=np.float32)
    y, x = np.indices((SIZE, SIZE))
    step = np.minimum(60 * SIGMA * np.exp(-(np.hypot(y - 64, x - 64) - 8) / 9), 50 * SIGMA)
    data[WHEN:] += step.astype(np.float32)
    for (row, column), frame in HITS.items():
        data[frame:, row, column] += 15 * SIGMA
    found = detect(labelled(np.rint(data).astype(np.uint16)), skip_first=0, skip_last=0)
    rays = found.events[found.events.type == "cosmic_ray"]
    assert (found.events.type == "snowball").sum() == 1
    assert {(r.peak_y, r.peak_x): r.first_frame for r in rays.itertuples()} == HITS
    rate, error = (found.maps[name].values[0] for name in ("rate", "rate_error"))
    for low, high in ((0.05, 0.3), (0.3, 1.0), (1.0, 3.0), (3.0, 30.0)):
        here = (step >= low * SIGMA) & (step < high * SIGMA)
        pull = rate[here] / error[here]
        assert abs(np.median(pull)) < 0.25
        assert np.std(np.clip(pull, -5, 5)) < 1.2


def test_steps_around_a_snowball_are_those_of_a_look_at_all() -> None:
    """Most snowballs of an exposure are too far off to be looked at, and most steps in other rows."""
    rng = np.random.default_rng(4)
    balls, n, size = 40, 600, 300
    table = pd.DataFrame(
        {
            "event_id": np.arange(balls + 60),
            "old_id": np.arange(balls + 60),
            "type": ["snowball"] * balls + ["cosmic_ray"] * 60,
            "integration": rng.integers(0, 2, balls + 60),
            "y": rng.uniform(0, size, balls + 60),
            "x": rng.uniform(0, size, balls + 60),
            "first_frame": rng.integers(10, 14, balls + 60),
            "radius": rng.uniform(4, 30, balls + 60),
        }
    )
    steps = np.zeros(n, STEP)
    number = rng.integers(-1, balls + 60, n)
    for name, most in (("integration", 2), ("frame", 20), ("y", size), ("x", size)):
        steps[name] = rng.integers(0, most, n)
    index = halos._Index(Events(table, number), steps)
    snowballs = table[table["type"] == "snowball"]
    some = 0
    for row in range(balls):
        event, reach = snowballs.loc[row], 60
        (y0, y1), (x0, x1) = (
            (max(int(v) - reach, 0), min(int(v) + reach, size)) for v in (event["y"], event["x"])
        )
        window = Region(int(event["integration"]), y0, y1, x0, x1)
        inside = (steps["y"] >= window.y0) & (steps["y"] < window.y1) & (number >= 0)
        inside &= (steps["x"] >= window.x0) & (steps["x"] < window.x1)
        inside &= steps["integration"] == window.integration
        np.testing.assert_array_equal(index.inside(window), np.flatnonzero(inside))
        np.testing.assert_array_equal(index.of(row), np.flatnonzero(number == row))
        want = {(int(s["y"]), int(s["x"]), int(s["frame"])) for s in steps[inside & (number >= balls)]}
        here = np.ones(window.shape, np.bool_)
        for _, other in snowballs.iterrows():
            if other["integration"] != event["integration"] or other["event_id"] == row:
                continue
            rows, columns = np.mgrid[window.y, window.x]
            away = np.hypot(rows - other["y"], columns - other["x"])
            own = np.hypot(rows - event["y"], columns - event["x"]) - event["radius"]
            if abs(other["first_frame"] - event["first_frame"]) <= halos.TOGETHER:
                here &= own <= away - other["radius"]
            else:
                near = away <= halos.OTHER_FACTOR * other["radius"] + halos.OTHER_MARGIN
                places = zip(rows[near].tolist(), columns[near].tolist(), strict=True)
                want |= {(i, j, int(other["first_frame"])) for i, j in places}
        found, mine = halos._others(event, snowballs, index, window)
        assert {tuple(f) for f in found.tolist()} == want
        np.testing.assert_array_equal(mine, here)
        some += not here.all()
    assert some > balls / 4
