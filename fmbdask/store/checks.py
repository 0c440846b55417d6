"""Exposures that open but hold nothing to work on: told before the work, from small samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..errors import InputError

#: Windows along each axis and their edge [pixels]: enough to tell a usable exposure from an empty one.
WINDOWS, WINDOW_EDGE = 3, 16


def check_exposure(ramp: xr.DataArray) -> None:
    """Refuse an exposure in which no step could be found, whatever the detector.

    A few small windows of every integration decide; only where all of them look bad is the rest read, up to
    the first value that shows otherwise.

    Parameters
    ----------
    ramp : DataArray
        As :func:`fmbdask.open_ramp` gives it, dimensions (integration, frame, y, x).

    Raises
    ------
    InputError
        If its frames do not accumulate, no value is finite, all values of an integration are equal, or every
        pixel inside the reference border is saturated in the first frame.
    """
    source = ramp.attrs.get("source", "the exposure")
    if ramp.attrs.get("accumulating") is False:
        raise InputError(
            f"{source} holds fluxes that do not accumulate, which are no ramp: give accumulate=True "
            "(--accumulate) to integrate them over time"
        )
    bottom, top, left, right = ramp.attrs.get("reference_border", (0, 0, 0, 0))
    rows, columns = ramp.sizes["y"], ramp.sizes["x"]
    inner = {"y": slice(bottom, rows - top), "x": slice(left, columns - right)}
    level = _saturation(ramp)
    for i in range(ramp.sizes["integration"]):
        name = f"{source} (integration {i})" if ramp.sizes["integration"] > 1 else str(source)
        one = ramp[i]
        if one.dtype.kind == "f" and _everywhere(one, _nothing_finite):
            raise InputError(f"{name} holds no finite value, only NaN or infinity: give the exposure itself")
        if _everywhere(one, _constant(one[0, 0, 0].values)):
            raise InputError(
                f"{name} is {one[0, 0, 0].values} in every frame and pixel: give an exposure that holds data"
            )
        if level is not None:
            excess = one[:1].isel(inner) >= (level.isel(inner) if level.ndim else level)
            if _everywhere(excess, _all):
                raise InputError(
                    f"{name} is saturated in every pixel from the first frame: "
                    "check the saturation level or give another exposure"
                )


def _saturation(ramp: xr.DataArray) -> xr.DataArray | None:
    """Find the level at which a pixel is full: the map, the attribute, or the end of the 16-bit scale."""
    if "saturation_map" in ramp.coords:
        level_map: xr.DataArray = ramp.coords["saturation_map"].reset_coords(drop=True)
        return level_map
    level = ramp.attrs.get("saturation", np.iinfo(np.uint16).max if ramp.dtype == np.uint16 else None)
    return None if level is None else xr.DataArray(level)


def _everywhere(one: xr.DataArray, holds: Callable[[NDArray[Any]], bool]) -> bool:
    """Whether something holds in every window (frame, y, x), few small ones first."""
    return all(holds(block.values) for block in _windows(one)) and all(
        holds(block.values) for block in _blocks(one)
    )


def _windows(one: xr.DataArray) -> Iterator[xr.DataArray]:
    """Small windows spread over the frame."""
    starts = [
        sorted({int(s) for s in np.linspace(0, max(one.sizes[d] - WINDOW_EDGE, 0), WINDOWS)}) for d in "yx"
    ]
    for y in starts[0]:
        for x in starts[1]:
            yield one.isel(y=slice(y, y + WINDOW_EDGE), x=slice(x, x + WINDOW_EDGE))


def _blocks(one: xr.DataArray) -> Iterator[xr.DataArray]:
    """All of it, chunk by chunk."""
    edges = [(one.chunksizes or {}).get(d, (one.sizes[d],)) for d in "yx"]
    bounds = [np.cumsum((0, *e)) for e in edges]
    for y0, y1 in zip(bounds[0], bounds[0][1:], strict=False):
        for x0, x1 in zip(bounds[1], bounds[1][1:], strict=False):
            yield one.isel(y=slice(int(y0), int(y1)), x=slice(int(x0), int(x1)))


def _nothing_finite(block: NDArray[Any]) -> bool:
    return not np.isfinite(block).any()


def _constant(value: NDArray[Any]) -> Callable[[NDArray[Any]], bool]:
    return lambda block: bool((block == value).all())


def _all(block: NDArray[Any]) -> bool:
    return bool(block.all())
