"""Which pixels stand for the whole exposure: blocks at fixed places, whatever the chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
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
    """All frames of a region, (T, ny, nx), C-contiguous.

    Chunk by chunk: a slice of a chunk keeps all of it in memory, and a strip touches many.
    """
    whole = ramp.data[region.integration]
    if not is_dask_collection(whole):
        return np.ascontiguousarray(whole[:, region.y, region.x])
    out = np.empty((whole.shape[0], *region.shape), whole.dtype)
    for y0, y1 in _cuts(whole.chunks[1], region.y0, region.y1):
        for x0, x1 in _cuts(whole.chunks[2], region.x0, region.x1):
            part = whole[:, y0:y1, x0:x1].compute(scheduler="synchronous")
            out[:, y0 - region.y0 : y1 - region.y0, x0 - region.x0 : x1 - region.x0] = part
    return out


def _cuts(chunks: Sequence[int], start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Spans of [start, stop) that lie in one chunk each."""
    edges = np.concatenate([[0], np.cumsum(chunks)])
    inner = [int(e) for e in edges if start < e < stop]
    return pairwise([start, *inner, stop])
