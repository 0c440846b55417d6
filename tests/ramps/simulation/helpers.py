"""Configurations for the tests: everything off, then what a test is about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fmbdask.ramps.simulation import Effects, SimulationConfig, simulate

NO_EVENTS = {
    "cosmic_ray_per_exp_range": (0, 0),
    "snowballs_per_exp_range": (0, 0),
    "rtn_per_exp_range": (0, 0),
}


def only(effects: dict[str, Any] | None = None, **fields: Any) -> SimulationConfig:
    """A small detector of gain 1 without noise, sky, events or faults, except what is given."""
    off = {name: False if field.annotation is bool else None for name, field in Effects.model_fields.items()}
    chosen = off | {"dark": {"pixel_scatter": 0}} | (effects or {})
    small = {
        "image_shape": (32, 48),
        "num_frames": 40,
        "exp_time": 4000.0,
        "patch_size": (16, 16),
        "overlap": 4,
        "gain_library": {"a": 1.0},
        "dark_current_range": (0.0, 0.0),
    }
    return SimulationConfig.read(small | NO_EVENTS | fields | {"effects": chosen})


def cube(config: SimulationConfig, seed: int = 0) -> NDArray[Any]:
    """Counts (T, y, x) of one exposure."""
    return np.asarray(simulate(config, seed=seed)[0][0].values)
