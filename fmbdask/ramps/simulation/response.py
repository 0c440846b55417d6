"""From charge to counts: what a pixel can hold, and what the converter makes of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .config import SimulationConfig
from .detector import PixelMaps, full_scale

Float = NDArray[np.float64]


def linear_charge(signal: Float, curvature: Float) -> Float:
    """Invert ``signal = q (1 - curvature q)`` [electron]; infinite where no charge gives such a signal."""
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(1 - 4 * curvature * signal)
        charge = 2 * signal / (1 + root)
    return np.where(np.isnan(charge), np.inf, charge)


def capacity(config: SimulationConfig, maps: PixelMaps, gain: float) -> Float:
    """Charge at which each pixel saturates, by its full well or by the end of the converter [electron]."""
    room = gain * (config.saturation_dn - maps.bias.astype(np.float64))
    return np.minimum(maps.full_well, linear_charge(np.maximum(room, 0), maps.curvature.astype(np.float64)))


def typical_capacity(config: SimulationConfig, gain: float) -> float:
    """The same for a pixel without scatter [electron]."""
    effects = config.effects
    room = gain * (config.saturation_dn - (effects.bias.level if effects.bias else 0.0))
    curvature = effects.nonlinearity.deficit / full_scale(config) if effects.nonlinearity else 0.0
    charge = float(linear_charge(np.array(max(room, 0.0)), np.array(curvature)))
    return min(charge, effects.saturation.full_well if effects.saturation else np.inf)


def saturation_level(config: SimulationConfig, gain: float) -> float:
    """Level that a saturated pixel reaches [DN]: the converter's end, or less where full wells end before.

    Full wells and zero levels scatter; the level given is three standard deviations below the mean.
    """
    effects = config.effects
    if effects.saturation is None:
        return float(config.saturation_dn)
    well = effects.saturation.full_well * (1 - 3 * effects.saturation.pixel_scatter)
    curvature = effects.nonlinearity.deficit / full_scale(config) if effects.nonlinearity else 0.0
    bias = effects.bias
    zero = bias.level - 3 * np.hypot(bias.pixel_scatter, bias.amplifier_scatter) if bias else 0.0
    return float(min(config.saturation_dn, round(zero + well * (1 - curvature * well) / gain)))


def digitise(
    signal: NDArray[np.float32], config: SimulationConfig
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Clip to the converter's range and round, in place; ``signal`` in DN."""
    np.clip(signal, 0, config.saturation_dn, out=signal)
    if not config.effects.quantisation:
        return signal
    return np.rint(signal, out=signal).astype(np.uint16)
