"""Lazy ramps written strip by strip: memory holds a few chunks, whatever the size of the exposure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import is_dask_collection


def write_strips(ramp: xr.DataArray, opened: Callable[[], Any]) -> None:
    """Store a ramp in an array, one row of chunks after the other.

    The array is opened anew for each of them: a memory map gives the pages it has filled back.

    Parameters
    ----------
    ramp : DataArray
        Dimensions (integration, frame, y, x), lazy or not.
    opened : callable
        Opens the array: of the same shape, usually a memory map, of any number format.
    """
    if not is_dask_collection(ramp.data):
        opened()[...] = np.asarray(ramp.data)
        return
    lazy: Any = ramp.data
    edges = np.cumsum((0, *lazy.chunks[2]))
    for i in range(lazy.shape[0]):
        for y0, y1 in pairwise(map(int, edges)):
            strip = slice(i, i + 1), slice(None), slice(y0, y1), slice(None)
            da.store(lazy[strip], cast(Any, opened()), regions=strip, lock=False)
