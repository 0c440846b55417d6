"""What was put into an exposure, per event and per pixel, with the best signal-to-noise there can be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from fmbdask_kernels.covariance import read_pattern
from fmbdask_kernels.simulation import shape_snr, step_snr

from .columns import EVENT_UNITS, KINDS, PIXEL_UNITS
from .deposits import Deposits, Float, Int, coupled
from .exposure import ExposurePlan
from .response import capacity
from .telegraph import TelegraphList

if TYPE_CHECKING:
    import pandas as pd

#: Rows that are described at a time: bounds the memory, and changes nothing else.
_ROWS = 64
#: Pixels of a cosmic ray with a smaller charge are not listed [sigma].
_FAINTEST = 0.05


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

    rows = plan.config.image_shape[0]
    parts = []
    for y0 in range(0, rows, _ROWS):
        known = _known(plan, y0, min(y0 + _ROWS, rows))
        parts += [_step_pixels(known), _telegraph_pixels(known)]
    table = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    table["integration"] = 0
    table = table.reindex(columns=list(PIXEL_UNITS)).sort_values(["event_id", "y", "x"], ignore_index=True)
    whole = ["event_id", "integration", "y", "x", "first_frame"]
    table = table.astype(dict.fromkeys(whole, np.int64) | {"saturated": bool, "type": object})
    return Truth(_events(plan, table), table, _meta(plan))


@dataclass(frozen=True)
class _Known:
    """What decides the signal-to-noise of the steps in some rows, with maps (ny, columns).

    ``steps`` are the charges that the read-out shows, sorted by pixel, then frame; ``telegraph`` the pixels
    of these rows, the first of them number ``first`` of the exposure.
    """

    plan: ExposurePlan
    y0: int
    steps: Deposits
    telegraph: TelegraphList
    first: int
    sigma: Float
    rate: Float
    room: Float
    pattern: Float

    def at(self, y: Int, x: Int) -> tuple[Float, Float, Float]:
        """Sigma, rate and room of pixels."""
        place = (y - self.y0, x)
        return self.sigma[place], self.rate[place], self.room[place]


def _known(plan: ExposurePlan, y0: int, y1: int) -> _Known:
    config, gain = plan.config, plan.gain
    maps = plan.maps(y0 - 1, y1 + 1)
    rounding = gain / np.sqrt(12) if config.effects.quantisation else 0.0
    sigma = np.maximum(np.hypot(maps.noise.astype(np.float64), rounding), 1e-6)
    ipc = config.effects.ipc
    coupling = (ipc.neighbour, ipc.corner) if ipc else (0.0, 0.0)
    held = plan.deposits.rows(y0 - 1, y1 + 1)
    place = (held.y - y0 + 1, held.x)
    held = replace(held, charge=np.minimum(held.charge, maps.full_well[place])).take(maps.gathers[place])
    return _Known(
        plan=plan,
        y0=y0,
        steps=coupled(held, *coupling, config.image_shape).rows(y0, y1),
        telegraph=plan.telegraph.rows(y0, y1),
        first=int(np.searchsorted(plan.telegraph.y, y0)),
        sigma=sigma[1:-1],
        rate=_coupled_map(maps.rate.astype(np.float64), *coupling)[1:-1],
        room=capacity(config, maps, gain)[1:-1],
        pattern=read_pattern(np.arange(config.num_frames)),
    )


def _step_pixels(known: _Known) -> dict[str, Any]:
    """Describe the pixels of cosmic rays and snowballs."""
    steps, frames = known.steps, known.pattern.shape[1]
    sigma, rate, room = known.at(steps.y, steps.x)
    earlier = _earlier(steps)
    before = earlier + rate * steps.frame
    amplitude = np.clip(room - before, 0, steps.charge)
    saturated = before + rate + steps.charge >= room
    last = _reads_below(room - earlier - steps.charge, rate, frames)
    # the first read above saturation still tells of the step
    last = np.where(saturated, steps.frame + 1, np.maximum(last, np.minimum(steps.frame + 1, frames)))
    snr = np.empty(steps.size)
    step_snr(steps.frame, last, amplitude / sigma, rate / sigma**2, known.pattern, snr)
    is_ray = steps.event < known.plan.cosmic_rays.charge.size
    listed = np.where(is_ray, steps.charge >= _FAINTEST * sigma, (amplitude >= sigma) | saturated)
    columns = {
        "event_id": steps.event,
        "type": np.where(is_ray, "cosmic_ray", "snowball").astype(object),
        "y": steps.y,
        "x": steps.x,
        "first_frame": steps.frame,
        "amplitude": amplitude,
        "sigma": sigma,
        "rate": rate,
        "snr": snr,
        "saturated": saturated,
    }
    return {name: column[listed] for name, column in columns.items()}


def _telegraph_pixels(known: _Known) -> dict[str, Any]:
    """Describe telegraph pixels; transitions and dwells are those before the pixel saturates."""
    pixels, steps, frames = known.telegraph, known.steps, known.pattern.shape[1]
    sigma, rate, room = known.at(pixels.y, pixels.x)
    last = np.empty(pixels.y.size, np.int64)
    for i, (y, x) in enumerate(zip(pixels.y, pixels.x, strict=True)):
        here = (steps.y == y) & (steps.x == x)
        level = rate[i] * np.arange(1, frames + 1)
        for frame, charge in zip(steps.frame[here], steps.charge[here], strict=True):
            level[frame:] += charge
        last[i] = np.count_nonzero(level < room[i])
    snr = np.empty(pixels.y.size)
    shape = pixels.high.astype(np.float64)
    shape_snr(shape, last, pixels.amplitude / sigma, rate / sigma**2, known.pattern, snr)
    changes = np.diff(pixels.high, axis=1) & (np.arange(1, frames) < last[:, None])
    transitions = changes.sum(axis=1)
    ends = zip(changes, last, strict=True)
    runs = [np.diff(np.concatenate([[0], np.flatnonzero(row) + 1, [end]])) for row, end in ends]
    before = known.plan.cosmic_rays.charge.size + known.plan.snowballs.radius.size
    return {
        "event_id": before + known.first + np.arange(last.size),
        "type": np.full(last.size, "telegraph_noise", object),
        "y": pixels.y,
        "x": pixels.x,
        "first_frame": np.where(transitions > 0, changes.argmax(axis=1) + 1, 0),
        "amplitude": pixels.amplitude,
        "sigma": sigma,
        "rate": rate,
        "snr": snr,
        "saturated": last < frames,
        "period": pixels.period,
        "duty": pixels.duty,
        "transitions": transitions.astype(np.float64),
        "dwell_min": np.array([run.min() for run in runs], np.float64),
        "dwell_mean": np.array([run.mean() for run in runs], np.float64),
    }


def _earlier(steps: Deposits) -> Float:
    """Charge that earlier events left in the pixel of each step."""
    total = np.cumsum(steps.charge) - steps.charge
    first = np.ones(steps.size, np.bool_)
    first[1:] = (np.diff(steps.y) != 0) | (np.diff(steps.x) != 0)
    return total - total[first][np.cumsum(first) - 1] if steps.size else total


def _reads_below(room: Float, rate: Float, frames: int) -> Int:
    """Reads before a current fills the room, whose first read comes after one frame time."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reads = np.ceil(room / rate) - 1
    return np.where(np.isfinite(reads), np.clip(reads, 0, frames), frames).astype(np.int64)


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
