"""A made-up result of detection, as labelled arrays and a table."""

from __future__ import annotations

from typing import Any

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


def example(kind: str, *, pixels: int = 2, frames: int = 40, **more: Any) -> xr.Dataset:
    """An event as `fmbdask.ramps.examples` gives it: steps of 500 and 100 DN at frame 20 in two pixels."""
    rng = np.random.default_rng(7)
    first = 20
    frame = np.arange(frames)
    size = np.array([500.0, 100.0, 50.0])[:pixels, None]
    model = 1000.0 + 2.0 * frame + size * (frame >= first)
    counts = model + rng.normal(0, 3, model.shape)
    used = np.ones(model.shape, bool)
    used[:, -1] = False
    model[:, -1] = np.nan
    begins = np.zeros(model.shape, bool)
    begins[:, first] = True
    picture = rng.normal(0, 1, (9, 17))
    picture[4, 8 : 8 + pixels] = size[:, 0]
    event = {"event_id": 3, "type": kind, "integration": 0, "first_frame": first, "amplitude": 500.0}
    return xr.Dataset(
        {
            "picture": (("y", "x"), picture, {"units": "DN", "long_name": "step"}),
            "counts": (("pixel", "frame"), counts, {"units": "DN"}),
            "used": (("pixel", "frame"), used),
            "model": (("pixel", "frame"), model, {"units": "DN"}),
            "begins": (("pixel", "frame"), begins),
        },
        coords={
            "y": np.arange(30, 39),
            "x": np.arange(50, 67),
            "frame": frame,
            "pixel_y": ("pixel", np.full(pixels, 34)),
            "pixel_x": ("pixel", 58 + np.arange(pixels)),
        },
        attrs=event | {"significance": 33.0, "n_saturated": 0, "integrations": 1} | more,
    )
