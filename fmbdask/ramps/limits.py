"""Hard limits on events, for those who want fixed numbers on top of the false-alarm rate."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .config import Limits

#: (field of Limits, kind, column, side): the smallest or the largest value that stays.
ONE_SIDED = (
    ("min_anomaly_pixels", None, "spatial_extent", "least"),
    ("min_confidence", None, "confidence", "least"),
    ("cosmic_ray_min_intensity", "cosmic_ray", "max_intensity", "least"),
    ("cosmic_ray_max_spatial_extent", "cosmic_ray", "spatial_extent", "most"),
    ("cosmic_ray_min_step", "cosmic_ray", "mean_intensity", "least"),
    ("rtn_min_transitions", "telegraph_noise", "transitions", "least"),
    ("rtn_max_transitions", "telegraph_noise", "transitions", "most"),
    ("rtn_fit_quality_threshold", "telegraph_noise", "fit_quality", "least"),
    ("rtn_min_confidence", "telegraph_noise", "confidence", "least"),
    ("snowball_min_confidence", "snowball", "confidence", "least"),
    ("snowball_min_intensity", "snowball", "max_intensity", "least"),
    ("snowball_max_intensity", "snowball", "max_intensity", "most"),
    ("snowball_min_radius", "snowball", "radius", "least"),
    ("snowball_max_radius", "snowball", "radius", "most"),
    ("snowball_circularity_threshold", "snowball", "circularity", "least"),
    ("snowball_expansion_rate", "snowball", "expansion", "most"),
    ("snowball_min_area", "snowball", "spatial_extent", "least"),
    ("snowball_max_area", "snowball", "spatial_extent", "most"),
)


def apply_limits(events: pd.DataFrame, limits: Limits) -> pd.DataFrame:
    """Leave out events beyond the limits.

    Parameters
    ----------
    events : DataFrame
        Columns as in the catalogue.
    limits : Limits
        None is no limit.

    Returns
    -------
    DataFrame
        The events that stay, renumbered from 0.
    """
    keep = np.ones(len(events), bool)
    for name, kind, column, side in ONE_SIDED:
        limit = getattr(limits, name)
        if limit is None:
            continue
        value = events[column].to_numpy(np.float64)
        good = value >= limit if side == "least" else value <= limit
        # what is not known breaks no limit: the growth of a snowball in the last reads
        good |= np.isnan(value)
        keep &= good | (kind is not None and (events["type"] != kind).to_numpy())
    telegraph = (events["type"] == "telegraph_noise").to_numpy()
    if limits.rtn_amplitude_range is not None:
        keep &= ~telegraph | events["amplitude"].between(*limits.rtn_amplitude_range).to_numpy()
    if limits.rtn_frequency_range is not None:
        period = events["dwell_high"] + events["dwell_low"]
        keep &= ~telegraph | (1 / period).between(*limits.rtn_frequency_range).to_numpy()
    return events[keep].reset_index(drop=True)
