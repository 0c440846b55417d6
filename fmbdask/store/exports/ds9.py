"""Events as a region file for DS9 (and other viewers that read its format, version 4.1)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ...atomic import atomic

#: Smallest radius of a circle [pixel]: a single pixel stays visible inside it.
LEAST_RADIUS = 2.0


def write_ds9(
    path: str | os.PathLike[str],
    events: pd.DataFrame,
    *,
    colours: Mapping[str, str],
    overwrite: bool = False,
) -> Path:
    """Write every event as a circle in image coordinates, which count from 1.

    The text is the event's ``event_id``; the tags are its kind, its integration and its first frame (both
    from 0), so that a viewer can select or hide them as groups.

    Parameters
    ----------
    path : path
        The ``.reg`` file.
    events : DataFrame
        Columns ``event_id``, ``type``, ``integration``, ``y``, ``x`` [pixel, 0-based], ``first_frame``,
        ``spatial_extent`` [pixel] and ``radius`` [pixel].
    colours : mapping
        Colour of each kind, ``#rrggbb``.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    OutputExistsError
        If the file exists and is not to be overwritten.
    """
    lines = [
        "# Region file format: DS9 version 4.1",
        'global color=green width=1 font="helvetica 10 normal roman" select=1 edit=1 move=0 delete=1',
        "image",
    ]
    area = np.sqrt(events["spatial_extent"].to_numpy(np.float64) / np.pi)
    radius = events["radius"].to_numpy(np.float64)
    size = np.maximum(np.where(np.isfinite(radius), radius, area) + 1, LEAST_RADIUS)
    for event, r in zip(events.to_dict("records"), size, strict=True):
        tags = (event["type"], f"integration {event['integration']}", f"frame {event['first_frame']}")
        lines.append(
            f"circle({event['x'] + 1:.2f},{event['y'] + 1:.2f},{r:.2f}) # color={colours[event['type']]} "
            f"text={{{event['event_id']}}} " + " ".join(f"tag={{{tag}}}" for tag in tags)
        )
    with atomic(Path(path), overwrite=overwrite) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(path)
