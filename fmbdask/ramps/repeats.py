"""What repeats at the same place is no cosmic ray: odds from how often, and from chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .calibration import repeat_odds
from .prepare import Prepared
from .prior import OWN_SHARE

#: Frames by which what repeats may come earlier or later.
FRAMES = 3
#: The same for what repeats to the pixel.
EXACT = 1
#: Largest share of events that are taken for effects of their place, and rounds in which it is estimated.
MOST, ROUNDS = 0.9, 20


def weigh_repeats(
    events: pd.DataFrame, steps: NDArray[Any], owner: NDArray[np.int64], prepared: Sequence[Prepared]
) -> pd.DataFrame:
    """Lower the confidence of hits whose place shows the same in other integrations, or is known for it.

    A hit strikes a place once. Of n other integrations, k have a hit at the same place: with the same
    brightest pixel, one next to it, or any pixel in common; within a few frames, or at any. The odds that the
    event belongs to its place are those of any event of the exposure times the mean likelihood ratio of these
    ways, see :func:`~fmbdask.ramps.calibration.repeat_odds`, with the probability of a coincidence from the
    density of hits in the exposure. A history of the detector adds what it knows of the pixels.

    Parameters
    ----------
    events : DataFrame
        Columns ``old_id, type, integration, peak_y, peak_x, first_frame, confidence``.
    steps : (n,) array of dtype ``events.STEP``
    owner : (n,) array
        ``old_id`` of the event of each step, -1 for none.
    prepared : sequence of Prepared
        One an integration.

    Returns
    -------
    DataFrame
    """
    hits = events[events["type"] == "cosmic_ray"]
    mine = np.isin(owner, hits["old_id"].to_numpy())
    names = ("integration", "y", "x", "frame", "amplitude")
    own = pd.DataFrame({"event_id": owner[mine], **{n: steps[n][mine] for n in names}})
    odds = pd.Series(0.0, hits["old_id"].to_numpy())
    if len(prepared) > 1 and len(own):
        odds = odds.add(_in_other_integrations(hits, own, prepared), fill_value=0.0)
    odds = odds.add(_in_history(own, prepared), fill_value=0.0)
    # odds of (hit) : (chance) : (place) are p : 1 - p : p * odds
    place = hits["old_id"].map(odds).fillna(0.0).to_numpy(np.float64)
    confidence = events["confidence"].to_numpy(np.float64).copy()
    at = (events["type"] == "cosmic_ray").to_numpy()
    confidence[at] /= 1 + confidence[at] * place
    return events.assign(confidence=confidence)


def _in_other_integrations(hits: pd.DataFrame, own: pd.DataFrame, prepared: Sequence[Prepared]) -> pd.Series:
    """Odds of each event from the other integrations of its exposure."""
    detector = prepared[0].detector
    rows, columns = detector.active
    density = len(hits) / len(prepared) / ((rows.stop - rows.start) * (columns.stop - columns.start))
    frames = min(p.used.size for p in prepared)
    peaks = hits[["old_id", "integration", "peak_y", "peak_x", "first_frame"]]
    peaks = peaks.set_axis(["event_id", "integration", "y", "x", "frame"], axis=1)
    around = [peaks.assign(y=peaks["y"] + i, x=peaks["x"] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    count = own.drop_duplicates(["event_id", "y", "x"]).groupby("event_id").size()
    size = np.sqrt(count.reindex(hits["old_id"]).to_numpy(np.float64))
    reached = (size + float(size.mean())) ** 2
    exact, near, touching = _pairs(peaks, peaks), _pairs(peaks, pd.concat(around)), _pairs(own, own)
    ways: list[tuple[pd.DataFrame, Any, int]] = [
        (exact, 1.0, EXACT),
        (near, 9.0, FRAMES),
        (near, 9.0, frames),
        (touching, reached, FRAMES),
        (touching, reached, frames),
    ]
    ratio, repeats = np.zeros(len(hits)), np.zeros(len(hits), np.bool_)
    for pairs, area, late in ways:
        close = pairs[(pairs["frame"] - pairs["frame_other"]).abs() <= late] if late < frames else pairs
        times = close.drop_duplicates(["event_id", "integration_other"]).groupby("event_id").size()
        k = times.reindex(hits["old_id"], fill_value=0).to_numpy()
        chance = -np.expm1(-density * min((2 * late + 1) / frames, 1.0) * area)
        ratio += np.exp(repeat_odds(k, len(prepared) - 1, chance)) / len(ways)
        repeats |= k > 0
    share = _share(ratio)
    return pd.Series(np.where(repeats, share / (1 - share) * ratio, 0.0), hits["old_id"].to_numpy())


def _share(ratio: NDArray[np.float64]) -> float:
    """Share of events that are effects of their place, by the exposure itself, and no less than usual.

    Expectation maximisation from the likelihood ratios of the events.
    """
    # in an order of their own, so that the sum does not depend on that of the events
    ratio = np.sort(ratio)
    share = OWN_SHARE
    for _ in range(ROUNDS):
        share = float(np.clip(np.mean(share * ratio / (share * ratio + 1 - share)), OWN_SHARE, MOST))
    return share


def _pairs(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Rows at equal places in different integrations; those of the second have names that end in _other."""
    names = ["integration", "y", "x", "frame"]
    both = one[["event_id", *names]].merge(other[names], on=["y", "x"], suffixes=("", "_other"))
    return both[both["integration"] != both["integration_other"]]


def _in_history(own: pd.DataFrame, prepared: Sequence[Prepared]) -> pd.Series:
    """Odds of each event from the history of the detector: the median of its pixels."""
    prior = prepared[0].prior
    if prior is None or not len(own):
        return pd.Series(dtype=np.float64)
    y, x, frame = (own[n].to_numpy(np.int64) for n in ("y", "x", "frame"))
    times = prepared[0].detector.times
    # integrations follow one another
    elapsed = times[frame] - times[0] + own["integration"].to_numpy() * prior.seconds / len(prepared)
    odds = prior.own_making(y, x, own["amplitude"].to_numpy(np.float64), elapsed)
    return pd.Series(odds, own["event_id"].to_numpy()).groupby(level=0).median()
