"""The rules that make events of steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbdask.ramps.events import STEP, find_events
from fmbdask.ramps.fading import EVIDENCE

COLUMNS = [
    "event_id", "type", "integration", "y", "x", "first_frame", "peak_y", "peak_x", "amplitude",
    "mean_intensity", "max_intensity", "spatial_extent", "significance", "excess", "n_steps",
    "radius", "circularity",
    "n_saturated",
]  # fmt: skip


def step(frame: int, y: int, x: int, z: float, **more: Any) -> tuple[Any, ...]:
    """A step on a pixel with 10 DN of noise; the amplitude is what a mid-ramp significance suggests."""
    row = {
        "integration": 0,
        "amplitude": 10 * z / 2,
        "sigma": 10.0,
        "threshold": 5.0,
        "saturating": False,
        "doubt": 0.0,
        "gains": np.zeros(EVIDENCE),
    } | more
    return tuple({"frame": frame, "y": y, "x": x, "significance": z, **row}[k] for k in STEP.names or ())


def table(*rows: tuple[Any, ...]) -> NDArray[Any]:
    return np.array(list(rows), STEP)


def snowball(
    y0: float, x0: float, frame: int, radius: float, amplitude: float, scale: float, rng: np.random.Generator
) -> NDArray[Any]:
    """A saturated disk with a halo, the weak steps of which scatter by a few frames."""
    y, x = np.indices((int(2 * y0), int(2 * x0)))
    r = np.hypot(y - y0, x - x0)
    core = r <= radius
    halo = np.where(core, 60000.0, amplitude * np.exp(-(r - radius) / scale))
    z = np.minimum(halo / 10 * 2, 99)
    y, x = np.nonzero(z > 3.5)
    rows = np.zeros(y.size, STEP)
    rows["y"], rows["x"], rows["frame"] = y, x, frame
    rows["amplitude"], rows["significance"], rows["saturating"] = halo[y, x], z[y, x], core[y, x]
    rows["sigma"], rows["threshold"] = 10, 5
    weak = rows["significance"] < 6.5
    rows["frame"][weak] += rng.integers(-3, 4, weak.sum())
    return rows


def test_columns_and_an_empty_table() -> None:
    events = find_events(np.zeros(0, STEP))
    assert list(events.table.columns) == COLUMNS
    assert len(events.table) == 0
    assert events.event_id.size == 0


def test_a_track_is_one_event() -> None:
    rows = [step(7, 3 + i, 10 + 2 * i, 30.0 + i) for i in range(5)]
    rows += [step(7, 3 + i, 11 + 2 * i, 20.0) for i in range(5)]
    events = find_events(table(*rows))
    (event,) = events.table.itertuples()
    assert event.type == "cosmic_ray"
    assert (event.first_frame, event.spatial_extent, event.n_steps) == (7, 10, 10)
    assert (event.peak_y, event.peak_x, event.amplitude) == (7, 18, 170.0)
    assert event.max_intensity == 170.0
    assert event.mean_intensity == pytest.approx(np.mean([5 * (30 + i) for i in range(5)] + [100] * 5))
    assert events.table["radius"].isna().all()
    assert np.all(events.event_id == 0)


def test_two_hits_on_one_pixel_are_two_events() -> None:
    events = find_events(table(step(10, 4, 4, 20.0), step(60, 4, 4, 9.0)))
    assert events.table["first_frame"].tolist() == [10, 60]
    assert events.event_id.tolist() == [0, 1]


def test_the_same_place_in_two_integrations_is_two_events() -> None:
    events = find_events(table(step(10, 4, 4, 20.0), step(10, 4, 4, 20.0, integration=1)))
    assert events.table["integration"].tolist() == [0, 1]


def test_thresholds_of_one_pixel_and_of_two_together() -> None:
    alone = step(10, 4, 4, 4.9)
    pair = [step(30, 20, 20, 4.5), step(31, 20, 21, 4.5)]  # 9 / sqrt 2 = 6.36 > 5.85
    weak_pair = [step(50, 40, 40, 4.0), step(50, 40, 41, 4.0)]
    twice = [step(70, 60, 60, 4.9), step(71, 60, 60, 4.9)]  # one pixel twice is not two pixels
    events = find_events(table(alone, *pair, *weak_pair, *twice))
    assert events.event_id.tolist() == [-1, 0, 0, -1, -1, -1, -1]


def test_shared_charge_belongs_to_its_hit() -> None:
    """One per cent of a hit of 500 sigma in its neighbours, which come out a few frames off."""
    rows = [step(100, 9, 9, 900.0)]
    rows += [step(100 + dt, 9 + dy, 9 + dx, 4.2, amplitude=35.0)
             for dt, dy, dx in ((-4, 0, 1), (2, 0, -1), (0, 1, 0), (5, -1, 0))]  # fmt: skip
    events = find_events(table(*rows))
    assert len(events.table) == 1
    assert events.table["spatial_extent"][0] == 5
    assert events.table["first_frame"][0] == 100


def test_fragments_join_by_amplitude() -> None:
    """What is strong has an exact frame, so two strong hits four frames apart are two; a weak one joins."""
    strong = find_events(table(step(50, 9, 9, 50.0), step(54, 9, 11, 50.0)))
    weak = find_events(table(step(50, 9, 9, 50.0), step(54, 9, 11, 5.5, amplitude=35.0)))
    assert len(strong.table) == 2
    assert len(weak.table) == 1


def test_steps_of_a_fragment_settle_its_frame_together() -> None:
    """One faint step may be three frames off its event; three at one frame are an event of their own."""
    hit = [step(50, 9, 9, 50.0)]
    faint = [step(53, 9, 12 + i, 7.0, amplitude=45.0) for i in range(3)]
    one = find_events(table(*hit, faint[0]))
    three = find_events(table(*hit, *faint))
    assert one.table["first_frame"].tolist() == [50]
    assert three.table["first_frame"].tolist() == [50, 53]


def test_the_ends_of_a_track_meet_over_what_lies_between() -> None:
    """The two strongest pixels are too far apart to be one event, until a weaker one has joined the first."""
    ends = [step(20, 5, 5, 60.0), step(20, 5, 11, 50.0)]
    apart = find_events(table(*ends))
    joined = find_events(table(*ends, step(20, 5, 7, 20.0), step(20, 5, 9, 8.0)))
    assert len(apart.table) == 2
    assert joined.table["spatial_extent"].tolist() == [4]


def test_a_doubted_step_is_an_event_with_others_only() -> None:
    doubted = step(30, 6, 6, 6.0, doubt=3.0)
    assert len(find_events(table(doubted)).table) == 0
    assert len(find_events(table(step(30, 6, 6, 6.0, doubt=1.0))).table) == 1
    company = find_events(table(doubted, step(31, 6, 7, 5.0), step(29, 7, 7, 5.0)))
    assert company.table["spatial_extent"].tolist() == [3]
    (event,) = company.table.itertuples()
    assert event.excess == pytest.approx(6.0 - 5.0 - 3.0)


def test_three_faint_neighbours_need_less_than_two() -> None:
    pair = table(step(30, 6, 6, 4.1), step(31, 6, 7, 4.1))
    three = table(step(30, 6, 6, 3.7), step(31, 6, 7, 3.7), step(32, 7, 7, 3.7))
    assert len(find_events(pair).table) == 0
    assert len(find_events(three).table) == 1


def test_a_snowball_is_one_event_and_takes_in_its_halo() -> None:
    rng = np.random.default_rng(1)
    ball = snowball(60, 70, 33, 5, 400, 8, rng)
    hit = table(step(200, 62, 71, 40.0))
    far = table(step(33, 10, 10, 40.0))
    events = find_events(np.concatenate([ball, hit, far]))
    assert sorted(events.table["type"]) == ["cosmic_ray", "cosmic_ray", "snowball"]
    found = events.table[events.table["type"] == "snowball"].iloc[0]
    assert found["first_frame"] == 33
    assert np.hypot(found["y"] - 60, found["x"] - 70) < 0.5
    assert found["circularity"] > 0.9
    assert found["n_saturated"] == ball["saturating"].sum()
    assert (events.event_id[: ball.size] == found["event_id"]).mean() > 0.97


def test_a_long_track_is_no_snowball() -> None:
    rows = [step(7, 3 + i // 2, 10 + i, 30.0) for i in range(60)]
    events = find_events(table(*rows))
    assert events.table["type"].tolist() == ["cosmic_ray"]


def test_a_small_saturated_core_makes_a_snowball() -> None:
    y, x = np.indices((11, 11))
    r = np.hypot(y - 5, x - 5)
    rows = [
        step(5, int(a), int(b), 99.0 if r[a, b] <= 2 else 20.0, saturating=bool(r[a, b] <= 2))
        for a, b in zip(*np.nonzero(r <= 2.9), strict=True)
    ]
    assert len(rows) < 30
    assert find_events(table(*rows)).table["type"].tolist() == ["snowball"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_steps_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 300
    rows = np.zeros(n, STEP)
    rows["integration"], rows["frame"] = rng.integers(0, 2, n), rng.integers(1, 30, n)
    rows["y"], rows["x"] = rng.integers(0, 25, n), rng.integers(0, 25, n)
    rows["significance"] = rng.choice([4.0, 5.5, 7.0, 30.0], n)
    rows["amplitude"], rows["sigma"], rows["threshold"] = rows["significance"] * 8, 10, 5
    rows["saturating"] = rng.random(n) < 0.05
    rows["gains"][:40] = rng.integers(0, 30, (40, EVIDENCE))
    rows = np.concatenate([rows, snowball(12, 12, 12, 3, 200, 2, rng)])
    order = rng.permutation(rows.size)
    one, two = find_events(rows), find_events(rows[order])
    assert one.table.equals(two.table)

    # equal steps are interchangeable, so what each row says must agree, not which of the equal rows says it
    def say(table: NDArray[Any], ids: NDArray[Any]) -> list[Any]:
        return sorted((row.tobytes(), int(i)) for row, i in zip(table, ids, strict=True))

    assert say(rows, one.event_id) == say(rows[order], two.event_id)
    inside = one.event_id[one.event_id >= 0]
    np.testing.assert_array_equal(np.bincount(inside, minlength=len(one.table)), one.table["n_steps"])


def test_a_snowball_cut_by_the_edge_is_a_snowball() -> None:
    y, x = np.mgrid[:40, :40]
    inside = np.hypot(y - 20, x - 39) <= 5
    steps = np.zeros(int(inside.sum()), STEP)
    steps["y"], steps["x"], steps["frame"] = y[inside], x[inside], 5
    steps["amplitude"], steps["significance"], steps["sigma"], steps["threshold"] = 500, 30, 10, 5
    steps["saturating"] = np.hypot(steps["y"] - 20, steps["x"] - 39) <= 3
    assert find_events(steps, bounds=(0, 39, 0, 39)).table["type"].tolist() == ["snowball"]
    assert find_events(steps).table["type"].tolist() == ["cosmic_ray"]


def test_a_track_along_the_edge_is_a_cosmic_ray() -> None:
    steps = np.zeros(36, STEP)
    steps["y"], steps["x"], steps["frame"] = np.arange(36), 39, 5
    steps["amplitude"], steps["significance"], steps["sigma"], steps["threshold"] = 500, 30, 10, 5
    assert find_events(steps, bounds=(0, 39, 0, 39)).table["type"].tolist() == ["cosmic_ray"]


def test_many_faint_pixels_are_an_event_together() -> None:
    """Four touching pixels of 3.6 sigma are as unlikely as one of 7; a lone one is nothing."""
    steps = np.zeros(5, STEP)
    steps["y"], steps["x"], steps["frame"] = [3, 4, 5, 6, 30], [3, 4, 5, 6, 30], 5
    steps["amplitude"], steps["significance"], steps["sigma"], steps["threshold"] = 30, 3.6, 10, 5
    table = find_events(steps).table
    assert table["spatial_extent"].tolist() == [4]
