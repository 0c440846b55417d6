"""What a network is to answer: the class of every read of every pixel of a simulated exposure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...regions import Region
from ..prepare import Prepared
from ..reduce import CODES
from ..simulation.truth import Truth

#: A pixel belongs to a hit where its step is at least this [sigma]: what is fainter looks like background.
FAINTEST = 0.5


def classes(truth: Truth, p: Prepared, region: Region) -> NDArray[np.uint8]:
    """Classes of the reads of a block.

    Parameters
    ----------
    truth : Truth
        Of the simulated exposure.
    p : Prepared
    region : Region

    Returns
    -------
    (N - 1, ny, nx) uint8 array
        :data:`fmbdask.ramps.reduce.CODES` after each read in use but the first: of each pixel from the first
        frame of its event on. Where kinds overlap, the higher code stays.
    """
    out = np.zeros((p.used.size - 1, *region.shape), np.uint8)
    pixels = truth.pixels
    here = (pixels["integration"] == region.integration) & pixels["y"].between(region.y0, region.y1 - 1)
    here &= pixels["x"].between(region.x0, region.x1 - 1)
    here &= (pixels["type"] != "cosmic_ray") | (pixels["amplitude"] >= FAINTEST * pixels["sigma"])
    own = pixels[here]
    codes = own["type"].map(CODES).to_numpy(np.uint8)
    first = np.maximum(np.searchsorted(p.used, own["first_frame"].to_numpy(np.int64)) - 1, 0)
    rows, columns = own["y"].to_numpy(np.int64) - region.y0, own["x"].to_numpy(np.int64) - region.x0
    for code, start, y, x in zip(codes, first, rows, columns, strict=True):
        ramp = out[start:, y, x]
        np.maximum(ramp, code, out=ramp)
    return out
