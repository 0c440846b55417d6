"""Cosmic rays: straight tracks of a few pixels that appear between two reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .config import SimulationConfig
from .deposits import Deposits, Float, Int, gather
from .streams import Effect, Exposure, log_uniform

#: Points of a track: some at its start, so that even a short one has a charge cloud, and some per pixel.
_POINTS = 24
_POINTS_PER_PIXEL = 8
#: A pixel with less charge than this is not part of a track [electron].
_FAINTEST = 1.0


@dataclass(frozen=True)
class CosmicRayList:
    """Cosmic rays of an exposure, each (n,).

    ``frame`` first frame with the charge, ``charge`` in all [electron], ``length`` [pixel], ``angle`` from
    the column axis towards increasing rows [degree], ``deposits`` whose ``event`` is the position here.
    """

    frame: Int
    charge: Float
    length: Float
    angle: Float
    deposits: Deposits


def draw_cosmic_rays(config: SimulationConfig, exposure: Exposure) -> CosmicRayList:
    """Draw the cosmic rays of one exposure; charge that falls on the border is lost."""
    effect = config.effects.cosmic_rays
    rng = exposure.stream(Effect.COSMIC_RAYS)
    low, high = config.cosmic_ray_per_exp_range
    wanted = effect is not None and config.injection_type in ("cosmic_ray", "all") and not exposure.baseline
    count = int(rng.integers(low, high + 1)) if wanted else 0
    rows, columns = config.image_shape
    border = config.border
    y = rng.uniform(border - 0.5, rows - border - 0.5, count)
    x = rng.uniform(border - 0.5, columns - border - 0.5, count)
    frame = rng.integers(1, config.num_frames, count)
    charge = log_uniform(rng, config.cosmic_ray_charge_range, count)
    length = rng.exponential(effect.track_length if effect else 0.0, count)
    angle = rng.uniform(0, 360, count)

    points = _POINTS + np.ceil(_POINTS_PER_PIXEL * length).astype(np.int64)
    event = np.repeat(np.arange(count), points)
    along = (
        (np.arange(event.size) - np.repeat(np.cumsum(points) - points, points))
        / points[event]
        * length[event]
    )
    cloud = (effect.diffusion if effect else 0.0) * rng.standard_normal((2, event.size))
    radians = np.deg2rad(angle)[event]
    py = np.rint(y[event] + along * np.sin(radians) + cloud[0]).astype(np.int64)
    px = np.rint(x[event] + along * np.cos(radians) + cloud[1]).astype(np.int64)
    inside = (py >= border) & (py < rows - border) & (px >= border) & (px < columns - border)
    share = charge / points
    deposits = gather([Deposits(py, px, frame[event], event, share[event]).take(inside)])
    whole = Deposits(deposits.y, deposits.x, deposits.frame, deposits.event, np.rint(deposits.charge))
    return CosmicRayList(frame, charge, length, angle, whole.take(whole.charge >= _FAINTEST))
