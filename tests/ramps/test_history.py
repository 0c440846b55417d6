"""What a detector remembers: records that merge to the same bits in any order, and what they tell."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fmbdask.errors import InputError
from fmbdask.ramps.detect import detect
from fmbdask.ramps.detector import describe
from fmbdask.ramps.history import FIXED, History, Observation, fingerprint, merge, rates, record, table
from fmbdask.ramps.prior import BITS, MOST, expect

from .made_up import SIGMA, counts, labelled

SIZE, FRAMES = 48, 20
SHAPE = (SIZE, SIZE)


def seen(number: int, **changes: object) -> Observation:
    known = Observation(
        fingerprint=f"{number:064d}", name=f"e{number}", detector="made-up",
        started=f"2026-01-0{number + 1}T00:00:00+00:00", shape=SHAPE, border=(4, 4, 4, 4), integrations=1,
        frames=FRAMES, seconds=190.0, time_unit="s", gain=2.0, saturation=60000.0,
    )  # fmt: skip
    return replace(known, **changes)


def exposure(number: int, telegraph: list[tuple[int, int]], hits: list[tuple[int, int]] = []) -> History:  # noqa: B006
    """Record of an exposure with a hot, a dead and a noisy pixel, and whatever is asked for."""
    rng = np.random.default_rng(number)
    maps = {
        "rate": 5 + 0.1 * rng.standard_normal((1, *SHAPE)),
        "rate_error": np.full((1, *SHAPE), 0.1),
        "reads": np.full((1, *SHAPE), float(FRAMES)),
        "noise": 10 + 0.5 * rng.standard_normal((1, *SHAPE)),
    }
    maps["rate"][0, 20, 20], maps["rate"][0, 30, 10], maps["noise"][0, 12, 13] = 60.0, 0.0, 30.0
    maps["reads"][0, 40, 40] = 0
    kinds = ["telegraph_noise"] * len(telegraph) + ["cosmic_ray"] * len(hits)
    places = np.array([*telegraph, *hits], np.int64).reshape(-1, 2)
    events = pd.DataFrame(
        {
            "event_id": np.arange(len(kinds)), "type": kinds, "peak_y": places[:, 0], "peak_x": places[:, 1],
            "amplitude": 100.0 + number, "dwell_high": 5.0, "dwell_low": 7.0, "confidence": 0.99,
        }
    )  # fmt: skip
    number_of = np.arange(len(telegraph), len(kinds))
    own = {"y": places[number_of, 0], "x": places[number_of, 1]}
    steps = pd.DataFrame({"event_id": number_of, "integration": 0, **own, "amplitude": 50.0})
    return record(seen(number), events, steps, maps)


@pytest.fixture(scope="module")
def records() -> list[History]:
    return [
        exposure(0, [(8, 8), (9, 30)], [(15, 15)]),
        exposure(1, [(8, 8)], [(15, 15), (33, 21)]),
        exposure(2, [(8, 8), (25, 25)], [(15, 15)]),
        exposure(3, [(8, 8)], [(6, 41)]),
    ]


def assert_equal(one: History, other: History) -> None:
    pd.testing.assert_frame_equal(one.pixels, other.pixels)
    pd.testing.assert_frame_equal(one.bright, other.bright)
    assert replace(one, pixels=0, bright=0) == replace(other, pixels=0, bright=0)  # type: ignore[arg-type]


def test_any_order_and_any_grouping_gives_the_same_bits(records: list[History]) -> None:
    whole = merge(records)
    for order in permutations(records):
        assert_equal(merge(order), whole)
    assert_equal(merge([merge(records[:2]), merge(records[2:])]), whole)
    assert_equal(merge([records[3], merge([records[1], records[0]]), records[2]]), whole)


def test_an_exposure_counts_once(records: list[History]) -> None:
    assert_equal(merge([*records, records[1], merge(records)]), merge(records))


def test_histories_that_share_some_exposures_are_refused(records: list[History]) -> None:
    with pytest.raises(InputError, match="would count twice"):
        merge([merge(records[:3]), merge(records[2:])])


def test_pixels_are_what_they_are(records: list[History]) -> None:
    pixels = table(merge(records)).set_index(["kind", "y", "x"])
    assert tuple(pixels.loc[("telegraph", 8, 8), ["seen", "flagged"]]) == (4, 4)
    assert tuple(pixels.loc[("telegraph", 9, 30), ["seen", "flagged"]]) == (4, 1)
    assert pixels.loc[("telegraph", 8, 8), "amplitude"] == pytest.approx(101.5, abs=1 / FIXED)
    assert pixels.loc[("telegraph", 8, 8), "dwell_low"] == 7
    assert pixels.loc[("hot", 20, 20), "flagged"] == 4
    assert pixels.loc[("hot", 20, 20), "rate"] == pytest.approx(60, abs=0.01)
    assert pixels.loc[("dead", 30, 10), "flagged"] == 4
    assert pixels.loc[("noisy", 12, 13), "noise"] == pytest.approx(30, abs=0.01)
    assert pixels.loc[("hit", 15, 15), "flagged"] == 3
    assert pixels.loc[("unusable", 40, 40), "flagged"] == 4
    counted = pixels.groupby("kind").size()
    assert dict(counted[["hot", "dead", "noisy", "unusable"]]) == dict.fromkeys(
        ["hot", "dead", "noisy", "unusable"], 1
    )


def test_rates_have_poisson_intervals(records: list[History]) -> None:
    whole = merge(records)
    hits = rates(whole)["hits"]
    pixel_seconds = ((SIZE - 8) ** 2 - 1) * 190.0 * 4
    assert hits["count"] == 5
    assert hits["rate"] == pytest.approx(5 / pixel_seconds)
    assert stats.poisson.sf(4, hits["low"] * pixel_seconds) == pytest.approx(0.025)
    assert stats.poisson.cdf(5, hits["high"] * pixel_seconds) == pytest.approx(0.025)
    assert rates(whole)["snowballs"]["low"] == 0


def test_a_prior_knows_what_repeats_and_nothing_else(records: list[History]) -> None:
    prior = expect(merge(records), SHAPE, seconds=190.0)
    assert prior.place.tolist() == [8 * SIZE + 8]
    assert 0 < prior.gain[0] <= MOST
    assert prior.known[8, 8] == BITS["telegraph"]
    assert prior.known[9, 30] == prior.known[25, 25] == 0
    assert prior.known[15, 15] == BITS["hit"]
    assert prior.known[12, 13] == BITS["noisy"]
    assert prior.known[20, 20] & BITS["hot"]
    assert np.count_nonzero(prior.known) == 5
    y = np.array([8, 8, 15, 15])
    x = np.array([8, 8, 15, 16])
    flips = prior.flips(y, x, np.array([100, 900, 100, 100], np.float32), np.full(4, 10, np.float32))
    assert flips.tolist() == [True, False, False, False]
    odds = prior.own_making(y, x, np.full(4, 100.0), np.full(4, 50.0))
    assert odds[2] > 1
    assert odds[[0, 1, 3]].max() == 0


def test_pixels_that_were_bright_before_may_release_charge_and_less_so_later(records: list[History]) -> None:
    last = records[3]
    bright = pd.DataFrame({"y": [5], "x": [6], "level": np.float32([50000]), "saturated": [True]})
    history = replace(last, bright=bright)
    place = np.array([5]), np.array([6])
    ended = "2026-01-04T00:03:10+00:00"
    soon = expect(history, SHAPE, seconds=190.0, started=ended)
    late = expect(history, SHAPE, seconds=190.0, started="2026-01-05T00:00:00+00:00")
    before = expect(history, SHAPE, seconds=190.0, started="2026-01-01T00:00:00+00:00")
    assert soon.own_making(*place, np.array([30.0]), np.array([10.0]))[0] > 1
    # no step is larger than what is still to be released, and hardly anything is at the end
    assert soon.own_making(*place, np.array([600.0]), np.array([10.0]))[0] == 0
    assert soon.own_making(*place, np.array([30.0]), np.array([189.0]))[0] == 0
    assert late.own_making(*place, np.array([30.0]), np.array([10.0]))[0] == 0
    assert before.bright.size == 0


def test_a_history_of_another_shape_is_refused(records: list[History]) -> None:
    with pytest.raises(InputError, match=r"40 x 48 pixels, the history of made-up 48 x 48"):
        expect(merge(records), (40, 48), seconds=1.0, name="other.fits")
    other = record(
        seen(7, shape=(20, 20), border=(0, 0, 0, 0)), *empty(), {n: np.ones((1, 20, 20)) * 9 for n in MAPS}
    )
    with pytest.raises(InputError, match="--detector"):
        merge([records[0], other])


MAPS = ("rate", "rate_error", "reads", "noise")


def empty() -> tuple[pd.DataFrame, pd.DataFrame]:
    found = detect(labelled(counts(8, 40, 40), gain=1.0))
    return found.events.iloc[:0], found.steps.iloc[:0]


def test_an_exposure_without_events_leaves_a_record() -> None:
    events, steps = empty()
    maps = {n: np.ones((1, *SHAPE)) * 9 for n in MAPS}
    assert merge([record(seen(0), events, steps, maps)]).counts["hits"] == 0


def test_a_fingerprint_tells_exposures_apart_and_not_their_chunks() -> None:
    one, other = (labelled(counts(8, 150, 40, seed=s)) for s in (1, 2))
    digest = fingerprint(one, describe(one))
    assert digest != fingerprint(other, describe(other))
    assert digest == fingerprint(one.chunk({"y": 32, "x": 16}), describe(one))


def test_a_prior_that_knows_nothing_changes_no_bit() -> None:
    data = counts(FRAMES, SIZE, SIZE)
    data[9:, 20, 20] += np.uint16(12 * SIGMA)
    ramp = labelled(data, gain=1.0)
    nothing = replace(exposure(0, []), detector="other")
    prior = expect(nothing, SHAPE, seconds=19.0)
    plain, known = detect(ramp), detect(ramp, prior=prior)
    pd.testing.assert_frame_equal(plain.events, known.events, check_exact=True)
    for name in plain.maps:
        assert plain.maps[name].values.tobytes() == known.maps[name].values.tobytes()


def test_chunks_change_nothing_of_a_search_with_a_prior(records: list[History]) -> None:
    data = counts(FRAMES, SIZE, SIZE)
    data[5:15, 8, 8] += np.uint16(8 * SIGMA)
    data[9:, 15, 15] += np.uint16(12 * SIGMA)
    ramp = labelled(data, gain=1.0)
    prior = expect(merge(records), SHAPE, seconds=19.0)
    one, other = detect(ramp, prior=prior), detect(ramp.chunk({"y": 16, "x": 48}), prior=prior)
    pd.testing.assert_frame_equal(one.events, other.events, check_exact=True)
    assert one.maps["mask"].values.tobytes() == other.maps["mask"].values.tobytes()
    assert one.events.query("type == 'telegraph_noise'")["peak_y"].tolist() == [8]
    # one excursion is not enough where nothing is known
    assert not (detect(ramp).events["type"] == "telegraph_noise").any()
    assert one.events.query("peak_y == 15")["confidence"].max() < 0.5


def test_a_wrong_history_harms_no_pixel_but_those_it_names() -> None:
    """A tenth of all pixels is said to be telegraph noise, of a detector that has none."""
    ramp = labelled(counts(40, 160, 160, seed=3), gain=1.0)
    rng = np.random.default_rng(1)
    place = np.unique(rng.integers(0, 160 * 160, 2700))
    base = expect(replace(exposure(0, []), shape=(160, 160)), (160, 160), seconds=39.0)
    size = place.size
    wrong = replace(
        base, place=place, gain=np.full(size, MOST), amplitude=np.full(size, 3 * SIGMA),
        active=np.full(size, 0.8),
    )  # fmt: skip
    plain = detect(ramp, false_alarm_rate=1e-3)
    told = detect(ramp, prior=wrong, false_alarm_rate=1e-3)
    named = np.zeros((160, 160), bool)
    named.ravel()[place] = True
    same = plain.maps["mask"].values[0] == told.maps["mask"].values[0]
    assert same[~named].all()
    called = (told.maps["mask"].values[0] == 2) & named
    assert called.sum() / size < 5e-3
