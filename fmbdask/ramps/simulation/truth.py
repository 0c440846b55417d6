"""What was put into an exposure, per event and per pixel, with the best signal-to-noise there can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from fmbdask_kernels.covariance import read_pattern
from fmbdask_kernels.simulation import shape_snr, step_snr

from .deposits import Deposits, Float, coupled
from .exposure import ExposurePlan
from .response import capacity

if TYPE_CHECKING:
    import pandas as pd

KINDS = {"cosmic_ray": 1, "telegraph_noise": 2, "snowball": 3}

#: Unit of every column of the events table; "1" has none.
EVENT_UNITS = {
    "event_id": "1",
    "type": "1",
    "integration": "1",
    "y": "pixel",
    "x": "pixel",
    "first_frame": "frame",
    "time": "s",
    "amplitude": "electron",
    "n_pixels": "pixel",
    "snr": "1",
    "peak_sigma": "1",
    "n_saturated": "pixel",
    "length": "pixel",
    "angle": "degree",
    "core_radius": "pixel",
    "halo_amplitude": "electron",
    "halo_scale": "pixel",
    "axis_ratio": "1",
    "period": "frame",
    "duty": "1",
    "transitions": "1",
    "dwell_min": "frame",
    "dwell_mean": "frame",
}
#: Unit of every column of the pixels table.
PIXEL_UNITS = {
    "event_id": "1",
    "type": "1",
    "integration": "1",
    "y": "pixel",
    "x": "pixel",
    "first_frame": "frame",
    "amplitude": "electron",
    "sigma": "electron",
    "rate": "electron / frame",
    "snr": "1",
    "saturated": "1",
    "period": "frame",
    "duty": "1",
    "transitions": "1",
    "dwell_min": "frame",
    "dwell_mean": "frame",
}


@dataclass(frozen=True)
class Truth:
    """Truth of one exposure.

    Attributes
    ----------
    events : DataFrame
        One row an event, the units in :data:`EVENT_UNITS`. ``amplitude`` is the whole step of a cosmic ray
        or snowball (the sum of its pixels) and the height of a telegraph step; ``snr`` combines the pixels
        in quadrature; ``peak_sigma`` is the largest step in units of the white noise of its pixel.
    pixels : DataFrame
        One row a pixel of an event, the units in :data:`PIXEL_UNITS`. ``amplitude`` is the step that the
        read-out shows before non-linearity: with the coupling of neighbours, without what saturates. Cosmic
        rays list the pixels with a charge of at least 0.05 sigma, snowballs those that saturate and those
        with a step of at least 1 sigma.
    meta : dict
        Exposure, detector, levels and the whole configuration.
    """

    events: pd.DataFrame
    pixels: pd.DataFrame
    meta: dict[str, Any]


def make_truth(plan: ExposurePlan) -> Truth:
    """List what an exposure holds.

    The ideal signal-to-noise ratio takes sigma, rate and frame as known and leaves pedestal and slope free,
    under the covariance of read and Poisson noise (``fmbdask_kernels.covariance``). Sigma is the white noise
    of one read with the rounding; noise that pixels share, and their own 1/f noise, are not counted.
    """
    import pandas as pd

    config = plan.config
    maps = plan.maps(0, config.image_shape[0])
    gain = plan.gain
    rounding = gain / np.sqrt(12) if config.effects.quantisation else 0.0
    sigma = np.maximum(np.hypot(maps.noise.astype(np.float64), rounding), 1e-6)
    ipc = config.effects.ipc
    neighbour, corner = (ipc.neighbour, ipc.corner) if ipc else (0.0, 0.0)
    rate = _coupled_map(maps.rate.astype(np.float64), neighbour, corner)
    room = capacity(config, maps, gain)
    pattern = read_pattern(np.arange(config.num_frames))

    held = plan.deposits.take(maps.gathers[plan.deposits.y, plan.deposits.x])
    held = Deposits(
        held.y, held.x, held.frame, held.event, np.minimum(held.charge, maps.full_well[held.y, held.x])
    )
    steps = coupled(held, neighbour, corner, config.image_shape)
    pixels = _step_pixels(steps, sigma, rate, room, pattern)
    rays = plan.cosmic_rays.charge.size
    keep = np.where(
        pixels["event_id"] < rays,
        steps.charge >= 0.05 * pixels["sigma"],
        (pixels["amplitude"] >= pixels["sigma"]) | pixels["saturated"],
    )
    pixels = {name: column[keep] for name, column in pixels.items()}
    telegraph = _telegraph_pixels(plan, sigma, rate, pattern)
    telegraph["event_id"] += rays + plan.snowballs.radius.size

    names = np.array(["cosmic_ray", "snowball"], object)
    table = pd.DataFrame(pixels | {"type": names[(pixels["event_id"] >= rays).astype(np.int64)]})
    table = pd.concat([table, pd.DataFrame(telegraph | {"type": "telegraph_noise"})], ignore_index=True)
    table["integration"] = 0
    table = table.reindex(columns=list(PIXEL_UNITS)).sort_values(["event_id", "y", "x"], ignore_index=True)
    events = _events(plan, table)
    whole = ["event_id", "integration", "y", "x", "first_frame"]
    table = table.astype(dict.fromkeys(whole, np.int64) | {"saturated": bool, "type": object})
    return Truth(events, table, _meta(plan))


def _step_pixels(steps: Deposits, sigma: Float, rate: Float, room: Float, pattern: Float) -> dict[str, Any]:
    """Describe single steps; ``steps`` are sorted by pixel, then frame."""
    own_sigma, own_rate = sigma[steps.y, steps.x], rate[steps.y, steps.x]
    own_room = room[steps.y, steps.x]
    first = np.ones(steps.size, np.bool_)
    first[1:] = (np.diff(steps.y) != 0) | (np.diff(steps.x) != 0)
    group = np.cumsum(first) - 1
    total = np.cumsum(steps.charge)
    # charge of the pixel's earlier events
    earlier = total - steps.charge
    earlier = earlier - earlier[first][group] if steps.size else earlier
    before = earlier + own_rate * steps.frame
    amplitude = np.clip(own_room - before, 0, steps.charge)
    saturated = before + own_rate + steps.charge >= own_room
    frames = pattern.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        end = np.ceil((own_room - earlier - steps.charge) / own_rate)
    last = np.where(np.isfinite(end), np.clip(end, 0, frames), frames).astype(np.int64)
    # the first read above saturation still tells of the step
    last = np.where(saturated, steps.frame + 1, np.maximum(last, np.minimum(steps.frame + 1, frames)))
    snr = np.empty(steps.size)
    step_snr(steps.frame, last, amplitude / own_sigma, own_rate / own_sigma**2, pattern, snr)
    return {
        "event_id": steps.event,
        "y": steps.y,
        "x": steps.x,
        "first_frame": steps.frame,
        "amplitude": amplitude,
        "sigma": own_sigma,
        "rate": own_rate,
        "snr": snr,
        "saturated": saturated,
    }


def _telegraph_pixels(plan: ExposurePlan, sigma: Float, rate: Float, pattern: Float) -> dict[str, Any]:
    pixels = plan.telegraph
    own_sigma, own_rate = sigma[pixels.y, pixels.x], rate[pixels.y, pixels.x]
    snr = np.empty(pixels.y.size)
    shape = pixels.high.astype(np.float64)
    shape_snr(shape, pixels.amplitude / own_sigma, own_rate / own_sigma**2, pattern, snr)
    changes = np.diff(pixels.high, axis=1)
    transitions = changes.sum(axis=1)
    runs = [np.diff(np.concatenate([[0], np.flatnonzero(row) + 1, [row.size + 1]])) for row in changes]
    return {
        "event_id": np.arange(pixels.y.size),
        "y": pixels.y,
        "x": pixels.x,
        "first_frame": np.where(transitions > 0, changes.argmax(axis=1) + 1, 0),
        "amplitude": pixels.amplitude,
        "sigma": own_sigma,
        "rate": own_rate,
        "snr": snr,
        "saturated": np.zeros(pixels.y.size, np.bool_),
        "period": pixels.period,
        "duty": pixels.duty,
        "transitions": transitions.astype(np.float64),
        "dwell_min": np.array([run.min() for run in runs], np.float64),
        "dwell_mean": np.array([run.mean() for run in runs], np.float64),
    }


def _events(plan: ExposurePlan, pixels: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    rays, balls, telegraph = plan.cosmic_rays, plan.snowballs, plan.telegraph
    count = rays.charge.size
    parts = [
        {
            "type": "cosmic_ray",
            "event_id": np.arange(count),
            "first_frame": rays.frame,
            "length": rays.length,
            "angle": rays.angle,
        },
        {
            "type": "snowball",
            "event_id": count + np.arange(balls.radius.size),
            "first_frame": balls.frame,
            "core_radius": balls.radius,
            "halo_amplitude": balls.halo_amplitude,
            "halo_scale": balls.halo_scale,
            "axis_ratio": balls.axis_ratio,
        },
        {"type": "telegraph_noise", "event_id": count + balls.radius.size + np.arange(telegraph.y.size)},
    ]
    events = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True).set_index("event_id")
    weight = pixels["amplitude"].clip(lower=1e-3)
    grouped = pixels.assign(
        weight=weight,
        wy=weight * pixels["y"],
        wx=weight * pixels["x"],
        square=pixels["snr"] ** 2,
        height=pixels["amplitude"] / pixels["sigma"],
    ).groupby("event_id")
    sums = grouped[["weight", "wy", "wx", "square", "amplitude", "saturated"]].sum()
    events["y"] = sums["wy"] / sums["weight"]
    events["x"] = sums["wx"] / sums["weight"]
    events["amplitude"] = sums["amplitude"]
    events["snr"] = np.sqrt(sums["square"])
    events["peak_sigma"] = grouped["height"].max()
    events["n_pixels"] = grouped.size()
    events["n_saturated"] = sums["saturated"]
    is_ball = events["type"] == "snowball"
    events.loc[is_ball, "y"], events.loc[is_ball, "x"] = balls.y, balls.x
    is_telegraph = events["type"] == "telegraph_noise"
    own = pixels[pixels["type"] == "telegraph_noise"].set_index("event_id")
    for name in ("first_frame", "period", "duty", "transitions", "dwell_min", "dwell_mean"):
        events.loc[is_telegraph, name] = own[name]
    # charge of an event that fell on dead pixels only, or on the border, is nowhere
    events = events[events["n_pixels"].notna()].reset_index()
    events["integration"] = 0
    events["time"] = (events["first_frame"] + 1) * plan.config.frame_time
    events = events.reindex(columns=list(EVENT_UNITS))
    whole = ["event_id", "integration", "first_frame", "n_pixels", "n_saturated"]
    return events.astype(dict.fromkeys(whole, np.int64) | {"type": object})


def _coupled_map(rate: Float, neighbour: float, corner: float) -> Float:
    padded = np.pad(rate, 1)
    height, width = rate.shape
    out = np.zeros_like(rate)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            share = (1 - 4 * neighbour - 4 * corner, neighbour, corner)[abs(dy) + abs(dx)]
            out += share * padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
    return out


def _meta(plan: ExposurePlan) -> dict[str, Any]:
    return {
        "exposure": plan.name,
        "detector": plan.detector,
        "gain": plan.gain,
        "seed": plan.exposure.seed,
        "index": plan.exposure.index,
        "baseline": plan.exposure.baseline,
        "dark_current": plan.levels.dark,
        "sky_background": plan.levels.sky,
        "read_noise": plan.levels.white,
        "patch_size": list(plan.config.patch_size),
        "overlap": plan.config.overlap,
        "num_classes": plan.config.num_classes,
        "classes": {"background": 0} | KINDS,
        "configuration": plan.config.model_dump(mode="json"),
    }


__all__ = ["EVENT_UNITS", "KINDS", "PIXEL_UNITS", "Truth", "make_truth"]
