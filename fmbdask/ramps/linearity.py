"""Counts made linear by a polynomial for each pixel."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..errors import InputError
from .detector import Detector

PREFIX = "linearity_"


def linearise(ramp: xr.DataArray, detector: Detector) -> xr.DataArray:
    """Apply the coefficients that the ramp carries, lowest power first; without any the ramp is returned.

    uint16 counts stay uint16: rounding adds a twelfth of a squared count to the variance, and the fast path
    stays open.

    Raises
    ------
    InputError
        If a power is missing.
    """
    coefficients = coefficients_of(ramp, detector)
    if coefficients is None:
        return ramp
    lazy = da.asarray(ramp.data)
    stacked = da.from_array(coefficients, chunks=(len(coefficients), *lazy.chunks[2:]))
    powers = [stacked[k][None, None] for k in range(len(coefficients))]
    linear = da.map_blocks(_polynomial, lazy, *powers, dtype=ramp.dtype, meta=np.empty((0,) * 4, ramp.dtype))
    return ramp.copy(data=linear)


def coefficients_of(ramp: xr.DataArray, detector: Detector) -> NDArray[np.float32] | None:
    """The coefficients (K, y, x) that a ramp carries, lowest power first; None where it has none.

    Raises
    ------
    InputError
        If a power is missing.
    """
    names = sorted(
        (str(c) for c in ramp.coords if str(c).startswith(PREFIX)), key=lambda n: int(n[len(PREFIX) :])
    )
    if not names:
        return None
    if names != [f"{PREFIX}{k}" for k in range(len(names))]:
        raise InputError(
            f"{detector.source}: linearity has coefficients {names}: give one for every power from 0"
        )
    return np.stack([np.asarray(ramp.coords[n].values, np.float32) for n in names])


def linear_block(counts: NDArray[Any], coefficients: NDArray[np.float32]) -> NDArray[Any]:
    """Make the counts (T, ny, nx) of a region linear with its coefficients (K, ny, nx)."""
    linear: NDArray[Any] = _polynomial(counts[None], *coefficients[:, None, None])[0]
    return linear


def _polynomial(counts: NDArray[Any], *coefficients: NDArray[np.float32]) -> NDArray[Any]:
    """Evaluate by Horner's rule, frame by frame to keep the copy small.

    Whole counts of full pixels stay full, and those of pixels without coefficients (NaN) become full: neither
    is used.
    """
    out = np.empty_like(counts)
    for t in range(counts.shape[1]):
        value = counts[:, t].astype(np.float32)
        result = np.zeros_like(value)
        with np.errstate(over="ignore", invalid="ignore"):
            for c in reversed(coefficients):
                result = result * value + c[:, 0]
        if counts.dtype.kind in "ui":
            bottom, top = np.iinfo(counts.dtype).min, np.iinfo(counts.dtype).max
            unknown = (counts[:, t] == top) | ~np.isfinite(result)
            result = np.where(unknown, top, np.clip(np.rint(result), bottom, top))
        out[:, t] = result
    return out
