"""One simulated exposure, searched and held against its truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fmbdask.ramps.detect import Detection
from fmbdask.ramps.simulation import Limits, Truth, match
from fmbdask.ramps.simulation.columns import KINDS
from fmbdask.ramps.simulation.scoring import counted

#: Every event that left a trace counts: for completeness against amplitude, and for what is real at all.
EVERY = Limits(snr=0.0, peak_sigma=0.0, telegraph_sigma=0.0, dwell=0.0)
#: Frames a detection of a strong hit may be off to be held against its first frame.
WIDE = Limits(frames_strong=6)
#: Peaks of hits that are scored by themselves [sigma].
FAINT = (4.0, 6.0)
#: First frames are judged from this peak on [sigma].
FRAME_SIGMA = 6.0
#: Distance up to which flagged pixels belong to a snowball, beyond its listed pixels [pixel].
REACH = 12.0


@dataclass(frozen=True)
class Judged:
    """What one exposure says about the detector.

    Attributes
    ----------
    scores : DataFrame
        One row a kind: ``kind, true, found, false, completeness, purity, within_1`` (share of first frames
        right within one frame), and for snowballs ``coverage`` and ``area``.
    events : DataFrame
        True events: ``kind, peak_sigma, snr, rate, scored, found``.
    detections : DataFrame
        ``kind, confidence, real``.
    missed, false : DataFrame
        Scored events that were not found, and detections of nothing; ``on`` is the kind of the true event
        that the latter's brightest pixel belongs to all the same, at another time or found already.
    """

    scores: pd.DataFrame
    events: pd.DataFrame
    detections: pd.DataFrame
    missed: pd.DataFrame
    false: pd.DataFrame


def judge(found: Detection, truth: Truth) -> Judged:
    """Score what was found in one exposure.

    Parameters
    ----------
    found : Detection
    truth : Truth
        Of the same exposure.

    Returns
    -------
    Judged
    """
    score, wide, every = (match(found.events, truth, limits) for limits in (Limits(), WIDE, EVERY))
    events = _events(truth, every.missed)
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        s = score.kinds[kind]
        row = {
            "kind": kind,
            "true": s.true,
            "found": s.found,
            "false": s.false,
            "completeness": s.completeness,
            "purity": s.purity,
        }
        if kind == "cosmic_ray":
            row["within_1"] = _frames_right(wide, truth, kind)
        if kind == "snowball":
            row |= snowball_cover(found.maps["mask"], truth)
        rows.append(row)
    faint = events[(events["kind"] == "cosmic_ray") & events["peak_sigma"].between(*FAINT, inclusive="left")]
    rows.append(
        {
            "kind": "cosmic_ray, peak 4-6 sigma",
            "true": len(faint),
            "found": int(faint["found"].sum()),
            "completeness": float(faint["found"].mean()) if len(faint) else np.nan,
        }
    )
    detections = pd.DataFrame(
        {
            "kind": found.events["type"],
            "confidence": found.events["confidence"],
            "real": ~found.events.index.isin(every.false.index),
        }
    )
    false = score.false.assign(on=owners(score.false, truth))
    return Judged(pd.DataFrame(rows), events, detections, score.missed, false)


def owners(false: pd.DataFrame, truth: Truth) -> list[str]:
    """Kind of the true event that owns the peak of each detection; empty where there is none."""
    places = zip(truth.pixels["y"].tolist(), truth.pixels["x"].tolist(), strict=True)
    owner = dict(zip(places, truth.pixels["type"], strict=True))
    names = ("peak_y", "peak_x") if "peak_y" in false else ("y", "x")
    peaks = (false[name].round().astype(int).tolist() for name in names)
    return [owner.get(at, "") for at in zip(*peaks, strict=True)]


def _events(truth: Truth, missed: pd.DataFrame) -> pd.DataFrame:
    """True events that left a trace, each with the light on its brightest pixel, and whether it was found."""
    true = truth.events
    brightest = truth.pixels.sort_values("amplitude").groupby("event_id").tail(1).set_index("event_id")
    table = pd.DataFrame(
        {
            "kind": true["type"],
            "peak_sigma": true["peak_sigma"],
            "snr": true["snr"],
            "rate": true["event_id"].map(brightest["rate"]),
            "transitions": true["transitions"],
            "scored": counted(true, Limits()),
            "found": ~true.index.isin(missed.index),
        }
    )
    seen = counted(true, EVERY) & (true["snr"] > 0)
    return table[seen].reset_index(drop=True)


def _frames_right(wide: Any, truth: Truth, kind: str) -> float:
    """Share of the strong events found whose first frame is right within one frame."""
    true = truth.events[truth.events["type"] == kind]
    counts = true[counted(true, WIDE)]
    taken = counts[~counts.index.isin(wide.missed.index)]
    errors = wide.kinds[kind].frame_errors[(taken["peak_sigma"] >= FRAME_SIGMA).to_numpy()]
    return float((np.abs(errors) <= 1).mean()) if errors.size else np.nan


def snowball_cover(mask: xr.DataArray, truth: Truth) -> dict[str, float]:
    """Share of the pixels of snowballs that are flagged, and area flagged around them relative to theirs.

    The pixels of a snowball are those that saturate and those with a step of at least one sigma.

    Parameters
    ----------
    mask : DataArray
        Codes, (integration, y, x).
    truth : Truth

    Returns
    -------
    dict
        ``coverage`` and ``area``; NaN without snowballs.
    """
    own = truth.pixels[truth.pixels["type"] == "snowball"]
    if own.empty:
        return {"coverage": np.nan, "area": np.nan}
    codes: NDArray[np.uint8] = mask.values[0]
    place = np.unique(own[["y", "x"]].to_numpy(np.int64), axis=0)
    covered = codes[place[:, 0], place[:, 1]] == KINDS["snowball"]
    flagged = np.argwhere(codes == KINDS["snowball"])
    near = np.asarray(cKDTree(place).query(flagged)[0]) if flagged.size else np.zeros(0)
    return {"coverage": float(covered.mean()), "area": float(np.count_nonzero(near <= REACH) / len(place))}
