"""Ramps of single pixels as sequences: what detectors of time series take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..regions import Region
from .blocks import limits_of
from .corrected import correct
from .prepare import Prepared
from .region import Limits
from .sample import read

Kind = Literal["differences", "counts"]
Units = Literal["sigma", "DN"]


@dataclass(frozen=True)
class Steps:
    """Sequences of some pixels.

    Attributes
    ----------
    values : (n, steps) float32 array
        0 where a step is not valid.
    valid : (n, steps) bool array
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]


def steps_of(frames: int, kind: Kind) -> int:
    """Steps of a sequence: frames, or one fewer where they are differences."""
    return frames - (kind == "differences")


def region_sequences(
    ramp: xr.DataArray,
    maps: Mapping[str, NDArray[Any]],
    prepared: Prepared,
    region: Region,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    kind: Kind = "differences",
    units: Units = "sigma",
) -> Steps:
    """Sequences of some pixels of a region.

    Parameters
    ----------
    ramp : DataArray
        Linear counts, dimensions (integration, frame, y, x) [DN].
    maps : mapping of (y, x) arrays
        :func:`fmbdask.ramps.blocks.limiting_maps` of the exposure.
    prepared : Prepared
        What is known of the integration: frames in use, offsets, noise.
    region : Region
    rows, columns : (n,) int64 array
        Pixels, counted from the corner of the region.
    kind : {"differences", "counts"}
        Differences of consecutive frames, or counts above those of the first frame that is valid; without
        the offsets of reference pixels, common mode and rows.
    units : {"sigma", "DN"}
        Units of the read noise of the pixel: of a difference of two frames, or of one read.

    Returns
    -------
    Steps
        A frame is not valid if it is not in use, flagged, not finite, or saturated or after such a one, nor
        is any of a reference or bad pixel; a difference wants two that are.
    """
    flags = read(ramp.coords["flags"], region) if "flags" in ramp.coords else None
    data = read(ramp, region)
    good = _valid(data, prepared, region, limits_of(maps, prepared, region, flags), rows, columns)
    counts = correct(data, prepared.correction, prepared.used, region)[:, rows, columns]
    variance = prepared.noise.pixels(prepared.detector.amplifier, region)[rows, columns].astype(np.float64)
    if kind == "differences":
        share = 1 / prepared.detector.reads
        share = (share[1:] + share[:-1])[:, None]
        values, good = np.diff(counts, axis=0), good[1:] & good[:-1]
    else:
        share = np.ones((1, 1))
        values = counts - np.take_along_axis(counts, good.argmax(axis=0)[None], axis=0)
    scale = np.sqrt(share * variance) if units == "sigma" else share**0
    return Steps(np.where(good, values / scale, 0).T.astype(np.float32), good.T)


def _valid(
    data: NDArray[Any],
    prepared: Prepared,
    region: Region,
    limits: Limits,
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Frames of some pixels that may be used, (T, n)."""
    own = data[:, rows, columns]
    used = np.zeros(len(own), np.bool_)
    used[prepared.used] = True
    # a saturated frame that is not in use counts as well, but not those before the first one in use
    full = own >= limits.saturation[rows, columns]
    full[: int(prepared.used[0])] = False
    good = used[:, None] & ~np.logical_or.accumulate(full, axis=0)
    if own.dtype.kind == "f":
        good &= np.isfinite(own)
    if limits.usable is not None:
        good &= limits.usable[:, rows, columns]
    down, across = prepared.detector.active
    y, x = rows + region.y0, columns + region.x0
    active = (y >= down.start) & (y < down.stop) & (x >= across.start) & (x < across.stop)
    kept: NDArray[np.bool_] = good & active
    return kept
