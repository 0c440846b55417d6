"""The strongest events of an exposure with their surroundings, their ramps and models, ready to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from fmbdask_kernels.gather import gather_ramps
from numpy.typing import NDArray

from ..regions import Region
from .config import DetectionConfig
from .corrected import correct
from .detect import configure
from .detector import Detector, as_ramp, describe, saturation_levels
from .linearity import linearise
from .measured import Measured
from .prepare import Prepared, prepare
from .sample import read
from .series import line_with_steps, two_levels
from .surroundings import look_around

KINDS = ("cosmic_ray", "telegraph_noise", "snowball")
#: Smallest half-width of a picture, and its half-width in radii of a snowball [pixel].
HALF_WIDTH, RADII = 6, 1.1
#: The second and third pixel of a snowball have steps of these shares of its largest unsaturated one.
SHARES = (1.0, 0.25)


def examples(
    ramp: xr.DataArray,
    events: pd.DataFrame,
    steps: pd.DataFrame,
    config: DetectionConfig | Mapping[str, Any] | None = None,
    *,
    each: int = 4,
    measured: Sequence[Measured] | None = None,
) -> list[xr.Dataset]:
    """Look at the strongest events of each kind: the corrected ramps of their pixels, and the fitted models.

    Parameters
    ----------
    ramp : DataArray
        The ramp that was searched; only the surroundings of the events and what corrects them are read.
    events, steps : DataFrame
        ``Detection.events`` and ``Detection.steps``.
    config : DetectionConfig or mapping, optional
        As it was searched.
    each : int
        Events of a kind.
    measured : sequence of Measured, optional
        As in :func:`fmbdask.ramps.detect`.

    Returns
    -------
    list of Dataset
        One an event, kind by kind, the most significant first: ``picture`` (y, x), its step at the first
        frame or, for telegraph noise, the scatter of the differences between reads [DN]; for up to three of
        its pixels ``counts`` (pixel, frame) [DN], ``used`` (pixel, frame), false where a read is left out or
        saturated, ``model`` (pixel, frame) [DN], NaN where there is none, and ``begins`` (pixel, frame), true
        where a new level begins; the pixels' places ``pixel_y`` and ``pixel_x``. The attributes are the
        columns of the event, and ``integrations``, how many the exposure has.

    Examples
    --------
    >>> import fmbdask as fm
    >>> ramp, truth = fm.ramps.simulate(shape=(30, 64, 64), seed=1)
    >>> found = fm.ramps.detect(ramp)
    >>> shown = fm.ramps.examples(ramp, found.events, found.steps, each=1)
    >>> shown[0].attrs["type"], shown[0].model.dims
    ('cosmic_ray', ('pixel', 'frame'))
    """
    settings = configure(config, {})
    ramp = as_ramp(ramp)
    detector = describe(ramp)
    ramp = linearise(ramp, detector)
    chosen = pd.concat([strongest(events[events["type"] == kind], each) for kind in KINDS])
    known = measured if measured is not None and settings.reference_pixels else [None] * detector.shape[0]
    prepared = {
        i: prepare(ramp, detector, settings, i, known[i]) for i in map(int, chosen["integration"].unique())
    }
    levels = saturation_levels(ramp, detector)
    return [
        _example(ramp, detector, prepared[int(event["integration"])], levels, event, steps)
        for _, event in chosen.iterrows()
    ]


def strongest(events: pd.DataFrame, each: int) -> pd.DataFrame:
    """The most significant events, each at another pixel; a larger step comes first among equals."""
    ordered = events.sort_values(["significance", "amplitude"], ascending=False, kind="stable")
    return ordered.drop_duplicates(["peak_y", "peak_x"]).head(each)


def _example(
    ramp: xr.DataArray,
    detector: Detector,
    p: Prepared,
    levels: NDArray[np.float32] | None,
    event: pd.Series,
    steps: pd.DataFrame,
) -> xr.Dataset:
    window = _window(detector, event)
    telegraph = event["type"] == "telegraph_noise"
    data = read(ramp, window)
    if telegraph:
        ours = correct(data, p.correction, p.used, window)[p.used]
        picture, shows = np.diff(ours, axis=0).std(axis=0), "scatter of differences"
    else:
        seen = look_around(
            lambda region: read(ramp, region), p, window, int(event["first_frame"]),
            (float(event["y"]), float(event["x"])), float(event["amplitude"]),
        )  # fmt: skip
        picture = seen.amplitude
        shows = "step"
    # tracks may leave the picture
    near = steps["y"].between(window.y0, window.y1 - 1) & steps["x"].between(window.x0, window.x1 - 1)
    y, x = _pixels(event, steps[near & (steps["event_id"] == event["event_id"])])
    level = np.full(window.shape, detector.saturation, np.float32)
    if levels is not None:
        level = levels[window.y, window.x]
    counts = correct(data, p.correction, p.used, window, fill=None)[:, y - window.y0, x - window.x0].T
    usable = None
    if "flags" in ramp.coords:
        part = ramp.coords["flags"][window.integration, :, window.y, window.x]
        usable = np.asarray(part.values) == 0
    _, good = gather_ramps(
        data, p.used, y - window.y0, x - window.x0, (window.y0, window.x0), p.correction.parts, level, usable
    )
    used = np.zeros(counts.shape, bool)
    used[:, p.used] = good
    variance = p.noise.variance[detector.amplifier[x]]
    times = (detector.times - detector.times[0]) / detector.interval(p.used)
    model, begins = np.full(counts.shape, np.nan), np.zeros(counts.shape, bool)
    for k in range(y.size):
        if telegraph:
            model[k], begins[k] = two_levels(
                counts[k].astype(np.float64), used[k], times, amplitude=float(event["amplitude"]),
                dwell_high=float(event["dwell_high"]), dwell_low=float(event["dwell_low"]),
                variance=float(variance[k]),
            )  # fmt: skip
        else:
            here = steps[(steps["integration"] == event["integration"]) & (steps["y"] == y[k])]
            frames = [int(f) for f in here.loc[here["x"] == x[k], "frame"]]
            model[k], begins[k] = line_with_steps(
                counts[k].astype(np.float64), used[k], times, frames, variance=float(variance[k]),
                poisson=p.poisson, rho_floor=p.rho_floor,
            )  # fmt: skip
    units = {"units": str(ramp.attrs.get("units", "DN"))}
    return xr.Dataset(
        {
            "picture": (("y", "x"), picture, {**units, "long_name": shows}),
            "counts": (("pixel", "frame"), counts, units),
            "used": (("pixel", "frame"), used),
            "model": (("pixel", "frame"), model, units),
            "begins": (("pixel", "frame"), begins),
        },
        coords={
            "y": np.arange(window.y0, window.y1),
            "x": np.arange(window.x0, window.x1),
            "frame": np.arange(counts.shape[1]),
            "pixel_y": ("pixel", y),
            "pixel_x": ("pixel", x),
        },
        attrs={**event, "integrations": detector.shape[0]},
    )


def _window(detector: Detector, event: pd.Series) -> Region:
    """Surroundings of an event: twice as wide as high, within the active pixels."""
    y, x, half = int(event["peak_y"]), int(event["peak_x"]), HALF_WIDTH
    if event["type"] == "snowball":
        y, x = round(event["y"]), round(event["x"])
        half = max(half, int(RADII * float(np.nan_to_num(event["radius"], nan=HALF_WIDTH))))
    else:
        half = max(half, int(np.sqrt(event["spatial_extent"])))
    rows, columns = detector.active
    return Region(
        int(event["integration"]), *_span(y, half, rows.start, rows.stop),
        *_span(x, 2 * half, columns.start, columns.stop),
    )  # fmt: skip


def _span(centre: int, half: int, start: int, stop: int) -> tuple[int, int]:
    """Pixels around a centre, moved rather than cut where they would leave the active ones."""
    low = max(min(centre - half, stop - 2 * half - 1), start)
    return low, min(low + 2 * half + 1, stop)


def _pixels(event: pd.Series, steps: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Up to three pixels of an event, the strongest first; of a snowball two are in the halo."""
    peak = [(int(event["peak_y"]), int(event["peak_x"]))]
    ordered = steps.sort_values("amplitude", ascending=False, kind="stable").drop_duplicates(["y", "x"])
    if event["type"] == "snowball":
        free = ordered[~ordered["saturating"] & (ordered["frame"] == event["first_frame"])]
        top = float(free["amplitude"].max()) if len(free) else np.nan
        rows = [int((free["amplitude"] - share * top).abs().argmin()) for share in SHARES if len(free)]
        others = free.iloc[rows]
    else:
        others = ordered
    peak += [(int(y), int(x)) for y, x in zip(others["y"], others["x"], strict=True)]
    places = np.array(list(dict.fromkeys(peak))[:3], np.int64)
    return places[:, 0], places[:, 1]
