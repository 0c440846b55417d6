"""What other tools found, as a catalogue that can be scored: flagged reads become events by one rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

#: A group of flagged reads is a snowball with so many pixels and at least this axis ratio, else a cosmic ray.
SNOWBALL_PIXELS, SNOWBALL_RATIO = 30, 0.7
#: Other groups within so many radii and frames of a snowball belong to it.
REACH, FRAMES = 3.0, 6
COLUMNS = ("type", "y", "x", "peak_y", "peak_x", "first_frame", "significance")


def events_of_flags(flags: NDArray[np.bool_], cube: NDArray[np.floating[Any]]) -> pd.DataFrame:
    """Group flagged reads that touch in frame, row or column, diagonals included (26 neighbours).

    Parameters
    ----------
    flags : (T, ny, nx) bool array
        Reads flagged as the first of a new level.
    cube : (T, ny, nx) array
        Counts [DN]: the largest difference of a group is its peak and its frame.

    Returns
    -------
    DataFrame
        Columns ``type, y, x, peak_y, peak_x, first_frame, significance`` (the largest difference).
    """
    labels, count = ndimage.label(flags, np.ones((3, 3, 3), np.int8))
    if not count:
        return pd.DataFrame(columns=list(COLUMNS))
    frame, y, x = np.nonzero(flags)
    owner = labels[frame, y, x] - 1
    jump = (cube[frame, y, x] - cube[np.maximum(frame - 1, 0), y, x]).astype(np.float64)
    reads = pd.DataFrame({"owner": owner, "frame": frame, "y": y, "x": x, "jump": jump})
    peaks = reads.loc[reads.groupby("owner")["jump"].idxmax()].set_index("owner")
    places = reads.drop_duplicates(["owner", "y", "x"])
    size = places.groupby("owner").size()
    middle = places.groupby("owner")[["y", "x"]].mean()
    kinds = np.full(count, "cosmic_ray", object)
    for k in size.index[size >= SNOWBALL_PIXELS]:
        if axis_ratio(places.loc[places["owner"] == k, ["y", "x"]].to_numpy(np.float64)) >= SNOWBALL_RATIO:
            kinds[k] = "snowball"
    events = pd.DataFrame(
        {
            "type": kinds,
            "y": middle["y"],
            "x": middle["x"],
            "peak_y": peaks["y"],
            "peak_x": peaks["x"],
            "first_frame": peaks["frame"],
            "significance": peaks["jump"],
        }
    ).reset_index(drop=True)
    own = np.zeros(count, np.bool_)
    for k in np.flatnonzero(kinds == "snowball"):
        away = np.hypot(events["y"] - events["y"][k], events["x"] - events["x"][k])
        late = (events["first_frame"] - events["first_frame"][k]).abs()
        own |= ((away <= REACH * np.sqrt(size.to_numpy()[k] / np.pi)) & (late <= FRAMES)).to_numpy()
    kept: pd.DataFrame = events[(kinds == "snowball") | ~own]
    return kept.reset_index(drop=True)


def axis_ratio(places: NDArray[np.float64]) -> float:
    """Minor over major axis of a set of pixels, (n, 2), from its second moments."""
    low, high = np.sqrt(np.maximum(np.linalg.eigvalsh(np.cov(places.T)), 0))
    return float(low / high) if high > 0 else 1.0


def events_of_ohana(path: Path, shape: tuple[int, int]) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Read the events that `run_ohana.py` left, and the pixels they cover."""
    listed = json.loads(path.read_text(encoding="utf-8"))
    mask = np.zeros(shape, np.bool_)
    for event in listed:
        y, x = np.array(event.pop("pixels")).T
        mask[y, x] = True
    return pd.DataFrame(listed, columns=["type", "y", "x", "first_frame", "significance"]), mask
