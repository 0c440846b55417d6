"""Snowballs in their surroundings: windows that are read again, and the halos fitted in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from fmbdask_kernels.gather import gather_ramps
from fmbdask_kernels.steps import step_amplitude
from numpy.typing import NDArray

from ..regions import Region
from .detector import Detector
from .events import Events
from .prepare import Prepared
from .sample import EDGE
from .snowballs import fit_halo

#: Neighbourhood of a snowball that its halo is fitted in: so many radii and pixels around its centre.
WINDOW_FACTOR, WINDOW_MARGIN = 1.5, 16

ReadBlock = Callable[[Region], NDArray[Any]]


@dataclass(frozen=True)
class Covered:
    """The k pixels of a snowball: place, step at its first frame [DN, error], and whether it filled them."""

    integration: int
    frame: int
    y: NDArray[np.intp]
    x: NDArray[np.intp]
    amplitude: NDArray[np.float32]
    error: NDArray[np.float32]
    saturating: NDArray[np.bool_]


def with_halos(
    events: Events,
    steps: NDArray[Any],
    prepared: Sequence[Prepared],
    detector: Detector,
    read: ReadBlock,
) -> tuple[pd.DataFrame, dict[int, Covered]]:
    """Fit the halo of every snowball; returns the events and the pixels that each snowball covers."""
    table = events.table.rename(columns={"event_id": "old_id"}).assign(
        core_radius=np.nan, halo_amplitude=np.nan, halo_scale=np.nan
    )
    covered = {}
    rows, columns = detector.active
    width = detector.shape[3]
    for row in table.index[table["type"] == "snowball"]:
        event = table.loc[row]
        p = prepared[int(event["integration"])]
        reach = int(np.ceil(WINDOW_FACTOR * float(event["radius"]) + WINDOW_MARGIN))
        y, x = round(float(event["y"])), round(float(event["x"]))
        window = Region(
            int(event["integration"]), max(rows.start, y - reach), min(rows.stop, y + reach + 1),
            max(columns.start, x - reach), min(columns.stop, x + reach + 1),
        )  # fmt: skip
        frame = int(event["first_frame"])
        step, error, core, sigma = window_steps(read, p, window, frame)
        halo = fit_halo(
            step,
            np.isfinite(step),
            core,
            (float(event["y"]) - window.y0, float(event["x"]) - window.x0),
            sigma,
        )
        at = np.nonzero(halo.covered)
        covered[int(event["old_id"])] = Covered(
            window.integration, frame, at[0] + window.y0, at[1] + window.x0, step[at], error[at], core[at]
        )
        found = {
            "radius": halo.radius,
            "core_radius": halo.core_radius,
            "halo_amplitude": halo.amplitude,
            "halo_scale": halo.scale,
        }
        for name, value in found.items():
            table.loc[row, name] = value
        own = steps[events.event_id == event["old_id"]]
        outside = ~np.isin(own["y"] * width + own["x"], (at[0] + window.y0) * width + at[1] + window.x0)
        beyond = np.unique(own[["y", "x"]][outside]).size
        table.loc[row, "spatial_extent"] = int(halo.covered.sum()) + beyond
    return table, covered


def window_steps(
    read: ReadBlock, p: Prepared, window: Region, frame: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Step at ``frame`` of every pixel of a window, its error, the saturated core, and the noise of a read.

    Parameters
    ----------
    read : callable
        Reads a region, (T, ny, nx).
    p : Prepared
        Of the integration of the window.
    window : Region
    frame : int
        First frame that holds the new level.

    Returns
    -------
    (ny, nx) arrays
        Amplitude and its error [DN], NaN where no read in use lies on one side of the step; whether the pixel
        saturated at that frame; noise of one read [DN].
    """
    step, error = np.empty(window.shape, np.float32), np.empty(window.shape, np.float32)
    core = np.empty(window.shape, np.bool_)
    variance = p.noise.pixels(p.detector.amplifier, window)
    at = int(np.searchsorted(p.used, frame))
    for part in _blocks(window):
        ny, nx = part.shape
        y, x = np.divmod(np.arange(ny * nx), nx)
        data = read(part)
        if p.levels is None:
            level = np.full(part.shape, p.detector.saturation, np.float32)
        else:
            level = np.ascontiguousarray(p.levels[part.y, part.x])
        ramps, used = gather_ramps(data, p.used, y, x, (part.y0, part.x0), p.correction.parts, level)
        here = np.s_[part.y0 - window.y0 : part.y1 - window.y0, part.x0 - window.x0 : part.x1 - window.x0]
        own = variance[here].ravel()
        amplitude, spread = step_amplitude(ramps, used, own, p.rho_floor, p.pattern, at)
        step[here], error[here] = amplitude.reshape(ny, nx), spread.reshape(ny, nx)
        before, after = (data[p.used[k]] >= level for k in (max(at - 1, 0), at))
        core[here] = after & ~before
    return step, error, core, np.sqrt(variance)


def _blocks(window: Region) -> list[Region]:
    """Cut a window along the grid of the chunks, so that each is read once and one at a time is held."""
    ys, xs = (
        [a, *range(a // EDGE * EDGE + EDGE, b, EDGE), b]
        for a, b in ((window.y0, window.y1), (window.x0, window.x1))
    )
    return [Region(window.integration, y0, y1, x0, x1) for y0, y1 in pairwise(ys) for x0, x1 in pairwise(xs)]
