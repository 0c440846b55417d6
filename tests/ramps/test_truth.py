"""What is found in simulated exposures, against what was put in."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fmbdask.ramps import detect, simulate
from fmbdask.ramps.simulation import Score, match

#: Size of the exposures (frame, y, x), and their seeds.
SIZES = {"long": ((100, 128, 128), range(4)), "wide": ((60, 256, 256), range(3))}


@pytest.fixture(scope="module", params=SIZES)
def scores(request: pytest.FixtureRequest) -> list[Score]:
    shape, seeds = SIZES[request.param]
    found = []
    for seed in seeds:
        ramp, truth = simulate(shape=shape, seed=seed)
        found.append(match(detect(ramp).events, truth))
    return found


def total(scores: list[Score], kind: str, name: str) -> int:
    return sum(getattr(s.kinds[kind], name) for s in scores)


@pytest.mark.parametrize(
    ("kind", "completeness", "purity"), [("cosmic_ray", 0.92, 0.94), ("telegraph_noise", 0.88, 0.95)]
)
def test_events_are_found_and_few_are_invented(
    scores: list[Score], kind: str, completeness: float, purity: float
) -> None:
    true, found, false = (total(scores, kind, name) for name in ("true", "found", "false"))
    assert true >= 40
    assert found / true >= completeness
    assert found / (found + false) >= purity


def test_the_first_frame_is_the_true_one(scores: list[Score]) -> None:
    late = np.concatenate([s.kinds["cosmic_ray"].frame_errors for s in scores])
    assert np.mean(late == 0) > 0.96


def test_snowballs_are_found_once_and_whole() -> None:
    config = {
        "image_shape": (192, 192), "num_frames": 40, "exp_time": 4000.0, "snowballs_per_exp_range": (3, 3),
        "snowball_radius_range": (4.0, 9.0), "cosmic_ray_per_exp_range": (30, 30),
        "rtn_per_exp_range": (10, 10),
    }  # fmt: skip
    true = found = false = 0
    for seed in range(3):
        ramp, truth = simulate(config, seed=seed)
        events = detect(ramp).events
        score = match(events, truth).kinds["snowball"]
        true, found, false = true + score.true, found + score.found, false + score.false
        balls = truth.events[truth.events["type"] == "snowball"]
        for _, ball in balls.iterrows():
            inside = np.hypot(events.y - ball.y, events.x - ball.x) < ball.core_radius
            at_once = (events.first_frame - ball.first_frame).abs() <= 1
            assert (events.type[inside & at_once] != "cosmic_ray").all(), "a snowball in pieces"
            own = events[inside & (events.type == "snowball")]
            if len(own) == 1 and ball.y - ball.core_radius > 4 and ball.x - ball.core_radius > 4:
                assert own.core_radius.iloc[0] == pytest.approx(ball.core_radius, abs=1.0)
                assert own.circularity.iloc[0] > 0.7
    assert found >= true - 1 >= 5
    assert false <= 1


def test_amplitudes_and_rates_are_right() -> None:
    """Gain 1.062: amplitudes in DN, rates in electrons per second."""
    ramp, truth = simulate(shape=(60, 256, 256), seed=1)
    found = detect(ramp)
    pixels = truth.pixels[(truth.pixels.type == "cosmic_ray") & ~truth.pixels.saturated]
    bright = pixels[pixels.snr > 15]
    merged = bright.merge(
        found.events, left_on=["y", "x", "first_frame"], right_on=["peak_y", "peak_x", "first_frame"]
    )
    assert len(merged) > 15
    ratio = merged.amplitude_y * ramp.attrs["gain"] / merged.amplitude_x
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    assert ratio.between(0.8, 1.2).mean() > 0.9
    # a pixel with a hit has the rate of its neighbours once the hit is fitted
    rate, error = found.maps["rate"].values[0], found.maps["rate_error"].values[0]
    hit = rate[merged.peak_y, merged.peak_x]
    usual = float(np.median(rate[4:-4, 4:-4]))
    spread = float(np.median(np.abs(rate[4:-4, 4:-4] - usual)) * 1.4826)
    assert abs(np.median(hit) - usual) < spread
    assert np.median(error) == pytest.approx(spread, rel=0.6)


def test_confidence_tells_real_events_from_chance() -> None:
    """At a loose rate of false alarms many events are chance, and their confidence says so."""
    right: list[pd.Series] = []
    wrong: list[pd.Series] = []
    for seed in range(3):
        ramp, truth = simulate(shape=(40, 128, 128), seed=seed)
        events = detect(ramp, false_alarm_rate=1e-3).events
        hits = events[events.type == "cosmic_ray"]
        false = match(hits, truth).false
        chance = hits.index.isin(false.index)
        wrong.append(hits.confidence[chance])
        right.append(hits.confidence[~chance & (hits.significance > 7)])
    assert pd.concat(wrong).size >= 20
    assert pd.concat(right).quantile(0.1) > 0.8
    assert pd.concat(wrong).quantile(0.9) < 0.5
