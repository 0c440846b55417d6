"""Which pixels stand for the whole exposure: blocks at fixed places, whatever the chunks."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np
import xarray as xr
from dask.base import is_dask_collection
from numpy.typing import NDArray

from ..regions import Region

#: Edge of a block [pixels], and how many there are at least; smaller exposures are used whole.
EDGE = 128
BLOCKS = 16


def sample_blocks(rows: slice, columns: slice, integration: int = 0) -> list[Region]:
    """Choose blocks that cover every row and every column of the active area, and all of a small one.

    Parameters
    ----------
    rows, columns : slice
        Active area [pixels].
    integration : int
        Which integration they are of.

    Returns
    -------
    list of Region
        Blocks of at most 128 x 128 pixels on diagonals of the grid of such blocks.
    """
    # on the grid of the pixel coordinates, which chunks of the usual size share
    ys = range(rows.start // EDGE * EDGE, rows.stop, EDGE)
    xs = range(columns.start // EDGE * EDGE, columns.stop, EDGE)
    if len(ys) * len(xs) <= BLOCKS:
        places = [(i, j) for i in range(len(ys)) for j in range(len(xs))]
    else:
        longest = max(len(ys), len(xs))
        stride = next(s for s in range(max(1, int(0.38 * len(xs))), 2 * len(xs)) if gcd(s, len(xs)) == 1)
        diagonals = -(-BLOCKS // longest)
        places = sorted(
            {
                (k % len(ys), (stride * k + d * max(1, len(xs) // diagonals)) % len(xs))
                for d in range(diagonals)
                for k in range(longest)
            }
        )
    return [
        Region(
            integration,
            max(ys[i], rows.start),
            min(ys[i] + EDGE, rows.stop),
            max(xs[j], columns.start),
            min(xs[j] + EDGE, columns.stop),
        )
        for i, j in places
    ]


def read(ramp: xr.DataArray, region: Region) -> NDArray[Any]:
    """All frames of a region, (T, ny, nx), C-contiguous."""
    part = ramp.data[region.integration, :, region.y, region.x]
    if is_dask_collection(part):
        part = part.compute(scheduler="synchronous")
    return np.ascontiguousarray(part)
