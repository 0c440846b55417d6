"""How probable it is that an event is real, given what chance alone would have found in the same exposure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from .prepare import Prepared
from .region import RegionResult

#: Width in significance over which the density of events is counted [sigma].
WIDTH = 0.5
#: Two-level models compete with single steps: e-folding of the odds with their margin over the next best.
TELEGRAPH_ODDS = 1.0


def add_confidence(
    events: pd.DataFrame, prepared: Sequence[Prepared], results: Sequence[RegionResult]
) -> pd.DataFrame:
    """Add the column ``confidence``: one minus the local false-discovery rate.

    For cosmic rays the density of false alarms falls off as the stated false-alarm rate does, normalised by
    the number of pixels searched; the density of events is counted in the exposure itself. For telegraph
    pixels the odds follow from the likelihood margin. Snowballs have many pixels that fired together.

    Parameters
    ----------
    events : DataFrame
        Columns ``type``, ``significance``, ``n_steps``, ``spatial_extent``, and ``margin`` for telegraph pixels.
    prepared, results : sequences
        What was searched, and how.

    Returns
    -------
    DataFrame
    """
    confidence = np.ones(len(events))
    kind = events["type"].to_numpy()
    z = events["significance"].to_numpy(np.float64)
    hits = kind == "cosmic_ray"
    tested = sum(r.tested for r in results)
    threshold = float(np.median([np.median(p.isolated[0]) for p in prepared]))
    alpha = prepared[0].config.false_alarm_rate
    confidence[hits] = 1 - _local_false_rate(z[hits], threshold, alpha * tested)
    telegraph = kind == "telegraph_noise"
    if telegraph.any():
        confidence[telegraph] = special.expit(
            TELEGRAPH_ODDS * events.loc[telegraph, "margin"].to_numpy(np.float64)
        )
    return events.assign(confidence=np.clip(confidence, 0.0, 1.0))


def _local_false_rate(z: NDArray[np.float64], threshold: float, expected: float) -> NDArray[np.float64]:
    """Density of false alarms over that of all, at each significance."""
    if not z.size:
        return z
    order = np.sort(z)
    # the tail of the largest of many correlated statistics falls off as exp(-z^2 / 2) beyond the threshold
    false = expected * threshold * np.exp(-(z * z - threshold * threshold) / 2)
    low, high = np.searchsorted(order, z - WIDTH), np.searchsorted(order, z + WIDTH, side="right")
    density = (high - low) / (2 * WIDTH)
    return np.minimum(false / np.maximum(density, 1e-9), 1.0)
