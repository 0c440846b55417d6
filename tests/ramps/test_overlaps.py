"""Snowballs that overlap are told apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmbdask.ramps.events import STEP, STRONG, find_events

#: Centres, 30 to 50 pixels apart.
CENTRES = [(50.0, 60.0), (84.0, 88.0), (42.0, 100.0)]


def snowballs(frames: list[int], saturated: bool, seed: int, scale: float = 9.0) -> NDArray[Any]:
    """Steps of overlapping snowballs on pixels with 10 DN of noise; faint steps scatter by a few frames."""
    rng = np.random.default_rng(seed)
    y, x = np.indices((140, 160))
    full = np.zeros(y.shape, bool)
    tables = []
    for i in np.argsort(frames, kind="stable"):
        r = np.hypot(y - CENTRES[i][0], x - CENTRES[i][1])
        core = (r <= 5) & saturated
        height = np.where(core, 6e4, 900 * np.exp(-np.maximum(r - 5, 0) / scale)) + rng.normal(0, 3, r.shape)
        z = np.minimum(height / 5, 99)
        at = np.nonzero((z > 3.5) & ~full)
        full |= core
        rows = np.zeros(at[0].size, STEP)
        rows["y"], rows["x"], rows["frame"], rows["sigma"], rows["threshold"] = *at, frames[i], 10, 5
        rows["amplitude"], rows["significance"], rows["saturating"] = height[at], z[at], core[at]
        faint = rows["significance"] < STRONG
        rows["frame"][faint] += rng.integers(-3, 4, faint.sum())
        tables.append(rows)
    return np.concatenate(tables)


@pytest.mark.parametrize("saturated", [True, False])
@pytest.mark.parametrize("frames", [[20, 20], [20, 21], [20, 20, 20], [21, 20, 22]])
def test_overlapping_snowballs_are_told_apart(frames: list[int], saturated: bool) -> None:
    steps = snowballs(frames, saturated, seed=len(frames))
    events = find_events(steps)
    found = events.table[events.table["type"] == "snowball"]
    away = [np.hypot(found["y"] - y, found["x"] - x) for y, x in CENTRES[: len(frames)]]
    assert len(found) == len(frames)
    assert np.min(away, axis=1).max() < 6
    assert found["first_frame"].to_numpy()[np.argmin(away, axis=1)].tolist() == frames
    others = events.table[events.table["type"] == "cosmic_ray"]
    assert others["spatial_extent"].max() < 20 or others.empty
    assert (events.event_id >= 0).mean() > 0.98


def test_any_order_of_the_steps() -> None:
    steps = snowballs([20, 21, 20], saturated=True, seed=5)
    order = np.random.default_rng(1).permutation(steps.size)
    assert find_events(steps).table.equals(find_events(steps[order]).table)


def test_a_thick_group_that_is_not_round_is_no_cosmic_ray() -> None:
    """A snowball with a long track through it, neither of them saturated."""
    y, x = np.indices((60, 200))
    ball = np.hypot(y - 30, x - 60) <= 9
    at = np.nonzero(ball | (np.abs(y - 30) <= 1))
    rows = np.zeros(at[0].size, STEP)
    rows["y"], rows["x"], rows["frame"], rows["sigma"], rows["threshold"] = *at, 7, 10, 5
    rows["amplitude"], rows["significance"] = 400, 40
    assert find_events(rows).table["type"].tolist() == ["snowball"]
    track = rows[~ball[at]]
    assert set(find_events(track).table["type"]) == {"cosmic_ray"}
