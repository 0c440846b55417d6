"""What each pixel of the detector is like: zero level, currents, noise, response."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .config import SimulationConfig
from .sky import Stars, light
from .streams import Effect, Exposure, log_uniform

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Levels:
    """Values drawn once an exposure.

    Attributes
    ----------
    dark : float
        Dark current [electron / s].
    sky : float
        Background [electron / s].
    read_noise, gaussian_noise : float
        White noise of one read [electron].
    """

    dark: float
    sky: float
    read_noise: float
    gaussian_noise: float

    @property
    def white(self) -> float:
        """White noise of one read, all parts [electron]."""
        return float(np.hypot(self.read_noise, self.gaussian_noise))


def draw_levels(config: SimulationConfig, exposure: Exposure) -> Levels:
    """Draw the levels of one exposure from the ranges of the configuration."""
    effects = config.effects
    rng = exposure.stream(Effect.LEVELS)
    dark, read, gauss = (
        rng.uniform(*bounds)
        for bounds in (config.dark_current_range, config.read_noise_range, config.gaussian_noise_range)
    )
    return Levels(
        dark=dark if effects.dark else 0.0,
        sky=rng.uniform(*effects.sky.background_range) if effects.sky else 0.0,
        read_noise=read if effects.read_noise else 0.0,
        gaussian_noise=gauss if effects.gaussian_noise else 0.0,
    )


@dataclass(frozen=True)
class PixelMaps:
    """Properties of the pixels of some rows, each (ny, nx) float32.

    Attributes
    ----------
    rate : array
        Dark current and light [electron / frame]; zero for reference and dead pixels.
    bias : array
        Zero level with the reset noise [DN].
    noise : array
        White noise of one read without the rounding [electron].
    pink : array
        Standard deviation of the pixel's own 1/f noise [electron].
    full_well : array
        Largest charge [electron], infinite where there is none.
    curvature : array
        Shortfall of the signal: ``q (1 - curvature q)`` [1 / electron].
    settling : array
        Relative size of the offsets of the first and last reads.
    gathers : array of bool
        Pixels that gather charge: neither reference nor dead.
    """

    rate: Map
    bias: Map
    noise: Map
    pink: Map
    full_well: Map
    curvature: Map
    settling: Map
    gathers: NDArray[np.bool_]


def amplifier_of(config: SimulationConfig) -> NDArray[np.intp]:
    """Amplifier of each column."""
    columns = config.image_shape[1]
    return np.arange(columns) * config.amplifiers // columns


def pixel_maps(
    config: SimulationConfig, exposure: Exposure, levels: Levels, stars: Stars, gain: float, y0: int, y1: int
) -> PixelMaps:
    """Make the maps of rows ``y0`` to ``y1`` (exclusive); rows outside the detector gather nothing."""
    effects = config.effects
    height, columns = config.image_shape
    border = config.border
    shape = (y1 - y0, columns)
    rate = np.full(shape, levels.dark, np.float32)
    bias = np.zeros(shape, np.float32)
    noise = np.full(shape, levels.read_noise, np.float32)
    full_well = np.full(shape, np.inf, np.float32)
    curvature = np.zeros(shape, np.float32)
    settling = np.ones(shape, np.float32)
    gathers = np.zeros(shape, np.bool_)

    offsets = np.zeros(columns)
    if effects.bias:
        rng = exposure.detector_stream(Effect.AMPLIFIER_BIAS)
        offsets += (
            effects.bias.amplifier_scatter * rng.standard_normal(config.amplifiers)[amplifier_of(config)]
        )
        offsets += effects.bias.parity_offset * (np.arange(columns) % 2)

    for i, y in enumerate(range(y0, y1)):
        if not 0 <= y < height:
            continue
        inside = border <= y < height - border
        gathers[i, border : columns - border] = inside
        if effects.dark:
            rate[i] *= np.exp(effects.dark.pixel_scatter * _normal(exposure, Effect.DARK, y, columns))
        if effects.hot_pixels:
            rng = exposure.detector_stream(Effect.HOT, y)
            hot = rng.random(columns) < effects.hot_pixels.fraction
            rate[i, hot] = log_uniform(rng, effects.hot_pixels.rate_range, columns)[hot]
        if effects.dead_pixels:
            chance = exposure.detector_stream(Effect.DEAD, y).random(columns)
            gathers[i] &= chance >= effects.dead_pixels.fraction
        if effects.bias:
            scatter = _normal(exposure, Effect.BIAS, y, columns)
            bias[i] = effects.bias.level + offsets + effects.bias.pixel_scatter * scatter
            reset = exposure.stream(Effect.RESET, y).standard_normal(columns, np.float32)
            bias[i] += effects.bias.reset_noise / gain * reset
        if effects.read_noise:
            rng = exposure.detector_stream(Effect.READ_NOISE, y)
            noise[i] *= np.exp(effects.read_noise.pixel_scatter * rng.standard_normal(columns, np.float32))
            noisy = rng.random(columns) < effects.read_noise.noisy_fraction
            noise[i, noisy] *= effects.read_noise.noisy_factor
        if effects.saturation:
            scatter = effects.saturation.pixel_scatter * _normal(exposure, Effect.FULL_WELL, y, columns)
            full_well[i] = effects.saturation.full_well * np.maximum(1 + scatter, 0.1)
        if effects.nonlinearity:
            scatter = effects.nonlinearity.pixel_scatter * _normal(exposure, Effect.NONLINEARITY, y, columns)
            curvature[i] = effects.nonlinearity.deficit * np.maximum(1 + scatter, 0) / full_scale(config)
        if effects.settling:
            scatter = _normal(exposure, Effect.SETTLING, y, columns)
            settling[i] += effects.settling.pixel_scatter * scatter

    if effects.sky:
        rate += np.float32(levels.sky)
        rate += light(stars, effects.sky.star_fwhm, y0, y1, columns)
    pink = noise * np.float32(effects.pink_noise.rms_fraction if effects.pink_noise else 0.0)
    noise = np.hypot(noise, np.float32(levels.gaussian_noise))
    if effects.reference_pixels:
        quiet = np.float32(effects.reference_pixels.noise_factor)
        edge = np.ones(shape, np.bool_)
        rows = slice(max(border - y0, 0), max(height - border - y0, 0))
        edge[rows, border : columns - border] = False
        noise[edge] *= quiet
        pink[edge] *= quiet
    rate *= np.float32(config.frame_time)
    rate[~gathers] = 0
    return PixelMaps(rate, bias, noise, pink, full_well, curvature, settling, gathers)


def full_scale(config: SimulationConfig) -> float:
    """Charge at which ``nonlinearity.deficit`` is quoted [electron]."""
    return config.effects.saturation.full_well if config.effects.saturation else 1.0e5


def _normal(exposure: Exposure, effect: Effect, row: int, columns: int) -> Map:
    return exposure.detector_stream(effect, row).standard_normal(columns, np.float32)
