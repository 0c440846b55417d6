"""What the answers of a network make of proposals."""

from __future__ import annotations

import numpy as np
import pytest

from fmbdask.errors import InputError
from fmbdask.ramps.network.evidence import (
    EDGE,
    ENOUGH,
    READS,
    SLOPE,
    Confidence,
    average_precision,
    best_f1,
    evidence,
    known_odds,
    odds,
    padded,
)
from fmbdask.ramps.network.proposals import LEAST
from fmbdask.ramps.network.windows import PATCH


def test_evidence_is_that_of_the_pixels_and_reads_of_a_proposal() -> None:
    probability = np.zeros((20, 4, 5), np.float32)
    probability[6 : 6 + READS, 1, 2] = 0.8
    probability[6 : 6 + READS, 3, 3] = 0.6
    probability[:6] = 1.0  # what was before counts nothing
    group = np.zeros((4, 5), bool)
    group[1, 2] = group[3, 3] = True
    odds = np.sqrt(0.8 / 0.2 * 0.6 / 0.4)  # their mean, as logarithms
    assert evidence(probability, group, 6) == pytest.approx(odds / (1 + odds))
    assert evidence(probability, group, 18) == pytest.approx(EDGE)
    assert evidence(probability, np.zeros((4, 5), bool), 6) == 0.0
    probability[6 : 6 + READS, 1, 2] = 1.0  # one pixel is as sure as can be, and so is the other
    probability[6 : 6 + READS, 3, 3] = 0.0
    assert evidence(probability, group, 6) == pytest.approx(0.5)


def test_faint_pixels_that_agree_say_more_than_two_that_are_sure() -> None:
    group = np.ones((2, 4), bool)
    agree = np.full((READS, 2, 4), 0.25, np.float32)
    two = np.full((READS, 2, 4), 0.02, np.float32)
    two[:, 0, :2] = 0.99
    assert two.mean() > agree.mean()
    assert evidence(agree, group, 0) > evidence(two, group, 0)


def test_average_precision() -> None:
    real = np.array([True, False, True, False])
    assert average_precision(np.array([0.9, 0.8, 0.3, 0.1]), real) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.array([0.9, 0.8, 0.99, 0.1]), real) == 1.0
    assert average_precision(np.full(4, 0.5), real) == 0.5  # equal ones are accepted together
    assert average_precision(np.array([0.9, 0.8, 0.8, 0.1]), real) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.ones(4), np.zeros(4, bool)) == 0.0


def test_short_patches_are_filled_with_what_is_not_valid() -> None:
    values = np.ones((3, 39, 16, 12), np.float32)
    whole = padded(values)
    assert whole.shape == (3, *PATCH)
    assert (whole[:, :39, :, :12] == 1).all()
    assert whole.sum() == values.sum()
    assert padded(whole) is whole


def test_equal_evidence_is_accepted_together() -> None:
    found = np.array([0.9, 0.5, 0.5, 0.1])
    assert best_f1(found, np.array([True, True, False, False])) == (0.8, 0.5)
    assert best_f1(found, np.zeros(4, bool)) == (0.0, float("inf"))


def test_confidence_is_the_share_that_is_real() -> None:
    random = np.random.default_rng(1)
    found, score = random.uniform(0.02, 0.98, 8000), LEAST + random.exponential(1.0, 8000)
    above = np.minimum(score, ENOUGH) - LEAST
    true = -1.0 + 0.9 * np.log(found / (1 - found)) + 0.5 * above
    real = random.random(8000) < 1 / (1 + np.exp(-true))
    fitted = Confidence.fit(found, score, real)
    assert (fitted.intercept, fitted.evidence, fitted.score) == pytest.approx((-1.0, 0.9, 0.5), abs=0.2)
    said = fitted(found, score)
    for low in (0.1, 0.4, 0.7):
        here = (said >= low) & (said < low + 0.2)
        assert real[here].mean() == pytest.approx(said[here].mean(), abs=0.04)
    assert Confidence.from_dict(fitted.as_dict()) == Confidence(
        fitted.intercept, fitted.evidence, fitted.score
    )


def test_lines_count_up_to_where_chance_makes_none() -> None:
    score = np.array([LEAST, LEAST + 0.5, ENOUGH, ENOUGH + 5])
    assert known_odds(score).tolist() == pytest.approx([0, 0.5 * SLOPE, *[SLOPE * (ENOUGH - LEAST)] * 2])
    found = np.array([0.2, 0.2, 0.5, 0.0])
    wanted = [np.log(0.25), np.log(0.25) + 0.5 * SLOPE, SLOPE * (ENOUGH - LEAST)]
    assert odds(found, score)[:3].tolist() == pytest.approx(wanted)
    assert odds(found, score)[3] < 0


def test_what_separates_perfectly_stays_finite() -> None:
    found = np.array([0.0, 0.01, 0.99, 1.0])
    fitted = Confidence.fit(found, np.full(4, 5.0), found > 0.5)
    said = fitted(found, np.full(4, 5.0))
    assert (said[:2] < 0.3).all()
    assert (said[2:] > 0.7).all()
    assert abs(fitted.evidence) < 10


def test_calibrations_that_cannot_be_used() -> None:
    with pytest.raises(InputError, match="0 of 3 proposals are real"):
        Confidence.fit(np.full(3, 0.5), np.full(3, 5.0), np.zeros(3, bool))
    good = Confidence(0.0, 1.0, 0.1).as_dict()
    for change in ({"reads": 3}, {"pooled": "mean"}, {"evidence": float("nan")}, {"score": None}):
        with pytest.raises(InputError, match="train it again"):
            Confidence.from_dict(good | change)
    with pytest.raises(InputError, match="train it again"):
        Confidence.from_dict({})
