"""Lazy ramps written strip by strip: memory holds a few chunks, whatever the size of the exposure."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import is_dask_collection


def write_strips(ramp: xr.DataArray, target: Any) -> None:
    """Store a ramp in an array, one row of chunks after the other.

    Rows of chunks are stored in order, so that the pages of a memory map are filled while they are at hand.

    Parameters
    ----------
    ramp : DataArray
        Dimensions (integration, frame, y, x), lazy or not.
    target : array
        Of the same shape; a memory map of any number format.
    """
    if not is_dask_collection(ramp.data):
        target[...] = np.asarray(ramp.data)
        return
    lazy: Any = ramp.data
    edges = np.cumsum((0, *lazy.chunks[2]))
    for i in range(lazy.shape[0]):
        for y0, y1 in pairwise(map(int, edges)):
            strip = slice(i, i + 1), slice(None), slice(y0, y1), slice(None)
            da.store(lazy[strip], cast(Any, target), regions=strip, lock=False)
