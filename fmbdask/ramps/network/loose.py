"""Steps that are too weak to count by themselves: what proposals are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from fmbdask_kernels import temporal
from numpy.typing import NDArray

from ...regions import Region
from ..prepare import Prepared
from .proposals import LOOSE, LOOSE_STEP


def loose_steps(planes: NDArray[np.float32], p: Prepared, region: Region) -> NDArray[Any]:
    """List the strongest step of each pixel of a region, where it is at least :data:`LOOSE`.

    Parameters
    ----------
    planes : (planes, ny, nx) float32 array
        Of the region, from :func:`fmbdask.ramps.region.region_features`.
    p : Prepared
        Of the integration.
    region : Region

    Returns
    -------
    array of dtype :data:`LOOSE_STEP`
        By row, then column; pixels that see no light have none.
    """
    rows, columns = p.detector.active
    bins = np.nan_to_num(planes[temporal.RHO_BIN])
    amplifier = p.detector.amplifier[region.x]
    scale = np.where(bins == 0, p.noise.scale[amplifier, 0], p.noise.scale[amplifier, 1])
    z = np.nan_to_num(planes[temporal.STEP_SIGNIFICANCE]) / scale
    z[: max(rows.start - region.y0, 0)] = 0
    z[max(rows.stop - region.y0, 0) :] = 0
    z[:, : max(columns.start - region.x0, 0)] = 0
    z[:, max(columns.stop - region.x0, 0) :] = 0
    y, x = np.nonzero(z >= LOOSE)
    out = np.zeros(y.size, LOOSE_STEP)
    out["integration"], out["y"], out["x"] = region.integration, y + region.y0, x + region.x0
    out["frame"] = planes[temporal.STEP_FRAME][y, x]
    out["significance"], out["amplitude"] = z[y, x], planes[temporal.STEP_AMPLITUDE][y, x]
    return out
