"""Ramps of our own making, whose noise and events are known to the count."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

LEVEL, SIGMA = 5000.0, 20.0


def counts(
    frames: int = 12,
    rows: int = 40,
    columns: int = 40,
    *,
    sigma: float = SIGMA,
    seed: int = 1,
    dtype: Any = np.uint16,
) -> NDArray[Any]:
    """White noise about one level, (frame, y, x) [DN]."""
    noise = np.random.default_rng(seed).standard_normal((frames, rows, columns))
    values = LEVEL + sigma * noise
    return (np.rint(values) if np.dtype(dtype).kind in "ui" else values).astype(dtype)


def labelled(data: NDArray[Any], **attrs: Any) -> xr.DataArray:
    """Counts (frame, y, x) or (integration, frame, y, x) as a ramp."""
    if data.ndim == 3:
        data = data[None]
    return xr.DataArray(data, dims=("integration", "frame", "y", "x"), attrs=attrs, name="ramp")


def with_map(ramp: xr.DataArray, **maps: NDArray[Any]) -> xr.DataArray:
    """Add coordinates (y, x), or (integration, frame, y, x) for flags."""
    return ramp.assign_coords({k: (ramp.dims if v.ndim == 4 else ("y", "x"), v) for k, v in maps.items()})
