"""The score of hand-made catalogues."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fmbdask.ramps.simulation import EVENT_UNITS, PIXEL_UNITS, Limits, Truth, match, simulate


def truth_of(*events: dict[str, Any]) -> Truth:
    """Truth with one pixel an event, or the pixels given as (y, x)."""
    rows, pixels = [], []
    for number, event in enumerate(events):
        places = event.pop("pixels", [(event["y"], event["x"])])
        rows.append({"event_id": number, "snr": 50.0, "peak_sigma": 20.0} | event)
        pixels += [{"event_id": number, "y": y, "x": x} | _kept(rows[-1]) for y, x in places]
    return Truth(
        pd.DataFrame(rows).reindex(columns=list(EVENT_UNITS)),
        pd.DataFrame(pixels).reindex(columns=list(PIXEL_UNITS)),
        {},
    )


def _kept(event: dict[str, Any]) -> dict[str, Any]:
    return {name: event.get(name, np.nan) for name in ("type", "first_frame", "transitions")}


def ray(y: float, x: float, frame: int, **more: Any) -> dict[str, Any]:
    return {"type": "cosmic_ray", "y": y, "x": x, "first_frame": frame} | more


def rtn(y: int, x: int, **more: Any) -> dict[str, Any]:
    known = {"transitions": 6.0, "dwell_mean": 5.0, "first_frame": 3}
    return {"type": "telegraph_noise", "y": y, "x": x} | known | more


def ball(y: float, x: float, frame: int, **more: Any) -> dict[str, Any]:
    return {"type": "snowball", "y": y, "x": x, "first_frame": frame, "core_radius": 8.0} | more


def found(*rows: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["type", "y", "x", "first_frame", "significance"]).fillna(
        {"significance": 9.0}
    )


def summary(detections: pd.DataFrame, truth: Truth, kind: str) -> tuple[int, int, int, int]:
    score = match(detections, truth).kinds[kind]
    return score.true, score.found, score.false, score.ignored


def test_nothing_and_perfection() -> None:
    truth = truth_of(ray(5, 5, 10), rtn(9, 9), ball(30, 30, 4))
    none = match(found(), truth)
    assert [score.completeness for score in none.kinds.values()] == [0, 0, 0]
    assert len(none.missed) == 3
    assert all(np.isnan(score.purity) for score in none.kinds.values())
    every = match(found(ray(5, 5, 11), rtn(9, 9), ball(33, 30, 4)), truth)
    assert [(score.completeness, score.purity) for score in every.kinds.values()] == [(1, 1)] * 3
    assert every.kinds["cosmic_ray"].frame_errors.tolist() == [1]
    assert every.missed.empty
    assert every.false.empty


def test_a_second_detection_of_one_hit_is_false() -> None:
    truth = truth_of(ray(5, 5, 10))
    both = found(ray(5, 5, 10), ray(5, 6, 10))
    assert summary(both, truth, "cosmic_ray") == (1, 1, 1, 0)


def test_the_most_significant_detection_chooses_first() -> None:
    truth = truth_of(ray(5, 5, 10))
    both = found(ray(5, 5, 11, significance=5.0), ray(5, 6, 10, significance=8.0))
    assert match(both, truth).kinds["cosmic_ray"].frame_errors.tolist() == [0]


def test_two_hits_of_one_pixel_take_a_detection_each() -> None:
    truth = truth_of(ray(5, 5, 10), ray(5, 5, 11))
    assert summary(found(ray(5, 5, 10), ray(5, 5, 11)), truth, "cosmic_ray") == (2, 2, 0, 0)


def test_a_track_matches_anywhere_along_it() -> None:
    truth = truth_of(ray(5, 10, 10, pixels=[(5, x) for x in range(5, 16)]))
    for x, hit in ((3.2, 1), (16.9, 1), (18.0, 0)):
        assert summary(found(ray(5, x, 10)), truth, "cosmic_ray") == (1, hit, 1 - hit, 0)


@pytest.mark.parametrize(("peak", "late", "hit"), [(20, 1, 1), (20, 2, 0), (5.9, 6, 1), (5.9, 7, 0)])
def test_the_tolerance_in_frames_depends_on_the_step(peak: float, late: int, hit: int) -> None:
    truth = truth_of(ray(5, 5, 10, peak_sigma=peak))
    assert summary(found(ray(5, 5, 10 + late)), truth, "cosmic_ray") == (1, hit, 1 - hit, 0)


def test_detections_of_faint_events_are_ignored() -> None:
    truth = truth_of(
        ray(5, 5, 10, snr=7.9, peak_sigma=5.9), rtn(9, 9, peak_sigma=2.9), rtn(12, 12, transitions=2.0)
    )
    detections = found(ray(5, 5, 10), ray(5, 6, 10), rtn(9, 9), rtn(12, 12), rtn(20, 20))
    assert summary(detections, truth, "cosmic_ray") == (0, 0, 0, 2)
    assert summary(detections, truth, "telegraph_noise") == (0, 0, 1, 2)


def test_a_bright_pixel_counts_even_when_the_frame_makes_it_hard() -> None:
    assert summary(found(), truth_of(ray(5, 5, 1, snr=4.0, peak_sigma=6.0)), "cosmic_ray")[0] == 1
    # nothing can be seen in a pixel that was full before
    assert summary(found(), truth_of(ray(5, 5, 1, snr=0.0, peak_sigma=6.0)), "cosmic_ray")[0] == 0


def test_telegraph_noise_wants_the_pixel_itself() -> None:
    truth = truth_of(rtn(9, 9))
    assert summary(found(rtn(9, 10)), truth, "telegraph_noise") == (1, 0, 1, 0)


def test_a_cosmic_ray_on_a_telegraph_pixel_is_false_unless_it_hardly_switches() -> None:
    truth = truth_of(rtn(9, 9), rtn(20, 20, transitions=1.0))
    detections = found(ray(9, 9, 3), ray(20, 20, 3), ray(20, 21, 3))
    assert summary(detections, truth, "cosmic_ray") == (0, 0, 2, 1)


def test_a_snowball_matches_within_its_core() -> None:
    truth = truth_of(ball(30, 30, 4))
    assert summary(found(ball(30, 37.9, 4)), truth, "snowball") == (1, 1, 0, 0)
    assert summary(found(ball(30, 38.1, 4)), truth, "snowball") == (1, 0, 1, 0)
    assert summary(found(ball(30, 30, 4), ball(31, 30, 4)), truth, "snowball") == (1, 1, 1, 0)


def test_the_truth_itself_scores_perfectly() -> None:
    _, truth = simulate(shape=(40, 160, 160), seed=6)
    score = match(truth.events, truth, Limits(snr=0, peak_sigma=0))
    for kind in ("cosmic_ray", "telegraph_noise", "snowball"):
        assert (score.kinds[kind].completeness, score.kinds[kind].false) == (1.0, 0), str(score)
