"""A made-up result of detection, as labelled arrays and a table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

UNITS = {"amplitude": "electron", "y": "pixel", "x": "pixel", "significance": "sigma"}


def result(
    edge: int = 96, frames: int = 40, number: int = 12
) -> tuple[xr.DataArray, xr.DataArray, pd.DataFrame]:
    """Ramp, rate image and events of an exposure with all kinds of events."""
    rng = np.random.default_rng(4)
    ramp = rng.normal(1000, 10, (1, frames, edge, edge)) + 2.0 * np.arange(frames)[:, None, None]
    rate = rng.normal(2.0, 0.1, (edge, edge))
    rows = []
    for index in range(2 * number):
        y, x = rng.integers(2, edge - 2, 2)
        first = int(rng.integers(2, frames - 2))
        amplitude = float(10 ** rng.uniform(1.7, 3.5))
        telegraph = index % 2
        if telegraph:
            ramp[0, first : first + 8, y, x] += amplitude
            ramp[0, first + 12 :, y, x] += amplitude
        else:
            ramp[0, first:, y, x] += amplitude
            rate[y, x] += amplitude / frames
        rows.append(
            {
                "type": "telegraph_noise" if telegraph else "cosmic_ray",
                "y": float(y),
                "x": float(x),
                "peak_y": y,
                "peak_x": x,
                "first_frame": first,
                "amplitude": amplitude,
                "significance": amplitude / 10,
                "radius": np.nan,
                "spatial_extent": 1,
            }
        )
    yy, xx = np.mgrid[:edge, :edge]
    distance = np.hypot(yy - 40.0, xx - 60.0)
    ball = 5000.0 * np.where(distance < 6, 1.0, 0.1 * np.exp(-(distance - 6) / 5.0))
    ramp[0, 20:] += ball
    rate += ball / frames
    snowball = {"type": "snowball", "y": 40.0, "x": 60.0, "peak_y": 40, "peak_x": 60, "first_frame": 20}
    rows.append(snowball | {"amplitude": 5000.0, "significance": 400.0, "radius": 6.0, "spatial_extent": 130})
    events = pd.DataFrame(rows)
    events["integration"] = 0
    events.attrs["units"] = UNITS
    dims = ("integration", "frame", "y", "x")
    return (
        xr.DataArray(ramp.astype(np.uint16), dims=dims, name="ramp", attrs={"units": "DN"}),
        xr.DataArray(rate.astype(np.float32), dims=("y", "x"), name="rate", attrs={"units": "electron/s"}),
        events,
    )
