"""The whole ramp after detection: without the offsets that pixels share, and with a flag on every read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ..regions import Region
from .blocks import over_blocks
from .detector import as_ramp
from .linearity import linearise
from .offsets import Correction
from .prepare import Prepared
from .region import Limits

DIMS = ("integration", "frame", "y", "x")
#: Bits of the flags of a read, those of JWST's GROUPDQ.
DO_NOT_USE, SATURATED, JUMP = 1, 2, 4
#: Bits of the flags of a pixel, those of JWST's PIXELDQ (data quality flags of the JWST pipeline).
TELEGRAPH, REFERENCE_PIXEL = 2**15, 2**31


def corrected(
    ramp: xr.DataArray, prepared: Sequence[Prepared], *, fill: float | None = np.nan
) -> xr.DataArray:
    """Make counts linear and subtract the offsets of reference pixels, common mode and rows, lazily.

    Parameters
    ----------
    ramp : DataArray
        The ramp as it was given to :func:`fmbdask.ramps.detect`.
    prepared : sequence of Prepared
        One an integration: ``Detection.prepared``.
    fill : float, optional
        Value of the frames that are not in use: their offsets are not known. None leaves their counts as
        they are.

    Returns
    -------
    DataArray
        float32 [DN], dimensions (integration, frame, y, x), one chunk per block of pixels.
    """
    ramp = _linear(ramp, prepared)
    function = partial(_correct_block, fill=fill)
    frames = ramp.sizes["frame"]
    lazy = over_blocks(ramp, function, list(prepared), frames, np.float32, whole=True)
    coords = {name: ramp.coords[name] for name in ("read_times", "reads_per_frame") if name in ramp.coords}
    return xr.DataArray(lazy, coords, DIMS, "ramp", dict(ramp.attrs))


def correct(
    data: NDArray[Any],
    correction: Correction,
    used: NDArray[np.int64],
    region: Region,
    *,
    fill: float | None = np.nan,
) -> NDArray[np.float32]:
    """Subtract the offsets of one region.

    Parameters
    ----------
    data : (T, ny, nx) array
        Counts of all frames [DN].
    correction : Correction
        Offsets of the frames in use.
    used : (N,) int array
        Frames in use.
    region : Region
    fill : float, optional
        Value of the other frames; None leaves their counts.

    Returns
    -------
    (T, ny, nx) float32 array
        [DN].
    """
    column, gradient, height, row = correction.parts
    out = np.empty(data.shape, np.float32)
    if fill is None:
        out[:] = data
    else:
        out[:] = fill
    for k, frame in enumerate(used):
        offset = column[k, region.x] + gradient[k, region.x] * height[region.y, None]
        np.subtract(data[frame], offset + row[k, region.y, None], out=out[frame], casting="same_kind")
    return out


def group_flags(ramp: xr.DataArray, prepared: Sequence[Prepared], steps: pd.DataFrame) -> xr.DataArray:
    """Flag every read as JWST's GROUPDQ does, lazily.

    Parameters
    ----------
    ramp : DataArray
        The ramp as it was given to :func:`fmbdask.ramps.detect`.
    prepared, steps
        ``Detection.prepared`` and ``Detection.steps``.

    Returns
    -------
    DataArray
        uint8, dimensions (integration, frame, y, x): 1 for frames not in use and reads flagged so before,
        2 from the first saturated read on, 4 on the first frame of the new level of every pixel of a cosmic
        ray or snowball.
    """
    ramp = _linear(ramp, prepared)
    place = steps[["integration", "frame", "y", "x"]].to_numpy(np.int64)
    function = partial(_flag_block, place=place)
    frames = ramp.sizes["frame"]
    lazy = over_blocks(ramp, function, list(prepared), frames, np.uint8, whole=True)
    if "flags" in ramp.coords:
        known = ramp.coords["flags"].data & np.uint8(DO_NOT_USE | SATURATED)
        lazy = lazy | (known.rechunk(lazy.chunks) if hasattr(known, "rechunk") else known)
    return xr.DataArray(lazy, dims=DIMS, name="group_flags", attrs={"units": "1"})


def pixel_flags(ramp: xr.DataArray, prepared: Sequence[Prepared], events: pd.DataFrame) -> NDArray[np.uint32]:
    """Flag every pixel as JWST's PIXELDQ does: bad 1, telegraph noise 2^15, reference 2^31; (y, x) uint32."""
    detector = prepared[0].detector
    flags = np.full(detector.shape[2:], REFERENCE_PIXEL, np.uint32)
    flags[detector.active] = 0
    if "bad_pixel" in ramp.coords:
        flags[np.asarray(ramp.coords["bad_pixel"].values, bool)] |= np.uint32(DO_NOT_USE)
    telegraph = events[events["type"] == "telegraph_noise"]
    place = telegraph["peak_y"].to_numpy(np.int64), telegraph["peak_x"].to_numpy(np.int64)
    flags[place] |= np.uint32(TELEGRAPH)
    return flags


def _linear(ramp: xr.DataArray, prepared: Sequence[Prepared]) -> xr.DataArray:
    return linearise(as_ramp(ramp), prepared[0].detector)


def _correct_block(
    data: NDArray[Any], p: Prepared, region: Region, limits: Limits, *, fill: float | None
) -> NDArray[np.float32]:
    return correct(data, p.correction, p.used, region, fill=fill)[None]


def _flag_block(
    data: NDArray[Any], p: Prepared, region: Region, limits: Limits, *, place: NDArray[np.int64]
) -> NDArray[np.uint8]:
    flags = np.full(data.shape, DO_NOT_USE, np.uint8)
    flags[p.used] = 0
    full = np.zeros(region.shape, np.bool_)
    for frame in range(int(p.used[0]), data.shape[0]):
        full |= data[frame] >= limits.saturation
        flags[frame, full] |= SATURATED
    integration, frames, y, x = place.T
    mine = (integration == region.integration) & (y >= region.y0) & (y < region.y1)
    mine &= (x >= region.x0) & (x < region.x1)
    flags[frames[mine], y[mine] - region.y0, x[mine] - region.x0] |= JUMP
    return flags[None]
