"""Snowballs: a round, saturated core and a halo that falls off from the core's edge."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .config import SimulationConfig
from .deposits import Deposits, Float, Int, gather, nothing
from .streams import Effect, Exposure

#: The halo ends where less than this is expected in a pixel [electron].
_FAINTEST = 0.5


@dataclass(frozen=True)
class SnowballList:
    """Snowballs of an exposure, each (n,).

    ``y``, ``x`` centre, ``frame`` first frame with the charge, ``radius`` of the core (geometric mean of the
    axes) [pixel], ``core_charge`` of a core pixel, ``halo_amplitude`` at the core's edge [electron],
    ``halo_scale`` e-folding length [pixel], ``axis_ratio`` minor / major.
    """

    y: Float
    x: Float
    frame: Int
    radius: Float
    core_charge: Float
    halo_amplitude: Float
    halo_scale: Float
    axis_ratio: Float
    deposits: Deposits


def draw_snowballs(config: SimulationConfig, exposure: Exposure, capacity: float) -> SnowballList:
    """Draw the snowballs of one exposure; ``capacity``: charge that saturates a typical pixel [electron]."""
    effect = config.effects.snowballs
    rng = exposure.stream(Effect.SNOWBALLS)
    low, high = config.snowballs_per_exp_range
    wanted = effect is not None and config.injection_type in ("snowball", "all") and not exposure.baseline
    count = int(rng.integers(low, high + 1)) if wanted else 0
    rows, columns = config.image_shape
    border = config.border
    y, x = rng.uniform(border, rows - border - 1, count), rng.uniform(border, columns - border - 1, count)
    frame = rng.integers(1, config.num_frames, count)
    radius = rng.uniform(*config.snowball_radius_range, count)
    core = capacity * rng.uniform(*(effect.core_ratio_range if effect else (1.0, 1.0)), count)
    halo = capacity * rng.uniform(*config.snowball_halo_amplitude_ratio_range, count)
    scale = rng.uniform(*config.snowball_halo_decay_scale_range, count)
    ratio = 1 - rng.uniform(0, effect.max_axis_deficit if effect else 0.0, count)
    turn = rng.uniform(0, np.pi, count)

    parts = [nothing()]
    for i in range(count):
        reach = int(np.ceil((radius[i] + scale[i] * np.log(halo[i] / _FAINTEST)) / np.sqrt(ratio[i]))) + 1
        py, px = np.mgrid[
            max(int(y[i]) - reach, border) : min(int(y[i]) + reach + 1, rows - border),
            max(int(x[i]) - reach, border) : min(int(x[i]) + reach + 1, columns - border),
        ].reshape(2, -1)
        u = (px - x[i]) * np.cos(turn[i]) + (py - y[i]) * np.sin(turn[i])
        v = (py - y[i]) * np.cos(turn[i]) - (px - x[i]) * np.sin(turn[i])
        distance = np.hypot(u * np.sqrt(ratio[i]), v / np.sqrt(ratio[i])) - radius[i]
        expected = np.where(distance <= 0, core[i], halo[i] * np.exp(-np.maximum(distance, 0) / scale[i]))
        charge = rng.poisson(expected).astype(np.float64)
        event = np.full(py.size, i)
        all_of_it = Deposits(py, px, np.full(py.size, frame[i]), event, charge)
        parts.append(all_of_it.take((expected >= _FAINTEST) & (charge > 0)))
    return SnowballList(y, x, frame, radius, core, halo, scale, ratio, gather(parts))
