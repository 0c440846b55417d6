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
#: Share of the pixels of an event that must be hit again for it to count as repeated.
AGAIN = 0.5


def weigh_repeats(
    events: pd.DataFrame, steps: NDArray[Any], owner: NDArray[np.int64], prepared: Sequence[Prepared]
) -> pd.DataFrame:
    """Lower the confidence of hits whose place shows the same in other integrations, or is known for it.

    A hit strikes a place once. Of n other integrations, k show a hit on at least half the same pixels, at the
    same frames or at any: the odds that the event belongs to its place are ``OWN_SHARE`` times the likelihood
    ratio of :func:`~fmbdask.ramps.calibration.repeat_odds`, with the probability of a coincidence from the
    density of hits in the exposure. A history of the detector adds what it knows of the pixels.

    Parameters
    ----------
    events : DataFrame
        Columns ``old_id``, ``type``, ``confidence``.
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
    pixels = (rows.stop - rows.start) * (columns.stop - columns.start)
    frames = prepared[0].used.size
    others = len(prepared) - 1
    table = own.drop_duplicates(["event_id", "integration", "y", "x", "frame"])
    pairs = table.merge(table, on=["y", "x"], suffixes=("", "_other"))
    pairs = pairs[pairs["integration"] != pairs["integration_other"]]
    number = own.drop_duplicates(["event_id", "y", "x"]).groupby("event_id").size()
    size = np.sqrt(number.to_numpy(np.float64))
    reached = ((size[:, None] + float(size.mean())) ** 2).ravel()
    total = np.zeros(number.size)
    for near in (True, False):
        close = pairs[(pairs["frame"] - pairs["frame_other"]).abs() <= FRAMES] if near else pairs
        shared = close.drop_duplicates(["event_id", "integration_other", "y", "x"])
        count = shared.groupby(["event_id", "integration_other"]).size()
        enough = count[count >= AGAIN * number.reindex(count.index.get_level_values(0)).to_numpy()]
        times = enough.groupby("event_id").size().reindex(number.index, fill_value=0).to_numpy()
        window = min((2 * FRAMES + 1) / frames, 1.0) if near else 1.0
        chance = -np.expm1(-len(hits) / len(prepared) / pixels * window * reached)
        total += np.where(times > 0, OWN_SHARE * np.exp(repeat_odds(times, others, chance)), 0.0)
    return pd.Series(total, number.index)


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
