"""Noise of the read-out: the streams of the amplifiers, and each pixel's own noise."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from fmbdask_kernels.simulation import pink_filter, pink_noise
from numpy.typing import NDArray
from scipy import fft

from .config import SimulationConfig
from .detector import PixelMaps
from .streams import Effect, Exposure

Array = NDArray[np.float32]


def amplifier_streams(config: SimulationConfig, exposure: Exposure) -> Array:
    """1/f noise of every amplifier, one value a row of each frame.

    A stream runs on through all rows of all frames and the pause between them, so it shows as bands of rows
    and as drifts from frame to frame; within the few hundred pixel clocks of one row it is taken as constant.
    Spectrum ``f^-slope`` between the inverse of twice the exposure and half the row rate, random phases.

    Returns
    -------
    (rows, T, amplifiers) array
        [electron]
    """
    effect = config.effects.amplifier_noise
    rows, frames = config.image_shape[0], config.num_frames
    out = np.zeros((rows, frames, config.amplifiers), np.float32)
    if effect is None:
        return out
    line = rows + effect.overhead_rows
    length = fft.next_fast_len(2 * frames * line, real=True)
    shape = np.zeros(length // 2 + 1, np.float32)
    shape[1:] = np.arange(1, shape.size, dtype=np.float64) ** (-effect.slope / 2)
    # a real series with complex normal coefficients of this size has unit variance
    shape *= length / np.sqrt(4 * np.sum(shape.astype(np.float64) ** 2))

    def stream(number: int, rms: float) -> Array:
        rng = exposure.stream(Effect.AMPLIFIER_NOISE, number)
        drawn = rng.standard_normal((shape.size, 2), np.float32).view(np.complex64)[:, 0]
        series = fft.irfft(shape * drawn, length, overwrite_x=True)[: frames * line]
        values: Array = np.float32(rms) * series.reshape(frames, line)[:, :rows].T
        return values

    for amplifier in range(config.amplifiers):
        out[:, :, amplifier] = stream(1 + amplifier, effect.amplifier_rms)
    out += stream(0, effect.common_rms)[:, :, None]
    return out


def draw_glitches(config: SimulationConfig, exposure: Exposure) -> Array:
    """Offset of each amplifier in each frame, (T, amplifiers) [electron]; nearly all zero."""
    effect = config.effects.glitches
    shape = (config.num_frames, config.amplifiers)
    if effect is None:
        return np.zeros(shape, np.float32)
    rng = exposure.stream(Effect.GLITCHES)
    hit = rng.random(shape) < effect.probability
    size = rng.uniform(*effect.amplitude_range, shape) * rng.choice([-1.0, 1.0], shape)
    return np.where(hit, size, 0).astype(np.float32)


def settling(config: SimulationConfig) -> Array:
    """Mean offset of each frame, (T,) [electron]."""
    effect = config.effects.settling
    frame = np.arange(config.num_frames)
    if effect is None:
        return np.zeros(config.num_frames, np.float32)
    first = effect.first_offset * np.exp(-frame / effect.first_decay)
    last = effect.last_offset * np.exp(-frame[::-1] / effect.last_decay)
    return (first + last).astype(np.float32)


def row_noise(config: SimulationConfig, exposure: Exposure, row: int) -> Array:
    """Offset of one row in each frame, (T,) [electron]."""
    effect = config.effects.row_noise
    if effect is None:
        return np.zeros(config.num_frames, np.float32)
    drawn = exposure.stream(Effect.ROW, row).standard_normal(config.num_frames, np.float32)
    return np.float32(effect.rms) * drawn


def pixel_noise(config: SimulationConfig, exposure: Exposure, maps: PixelMaps, i: int, row: int) -> Array:
    """White and pink noise of the pixels of one row, (T, columns) [electron]; it is row ``i`` of ``maps``."""
    effects = config.effects
    shape = (config.num_frames, config.image_shape[1])
    if effects.read_noise or effects.gaussian_noise:
        out = exposure.stream(Effect.READ, row).standard_normal(shape, np.float32)
        out *= maps.noise[i]
    else:
        out = np.zeros(shape, np.float32)
    if effects.pink_noise:
        decay, weight, start = _pink_filter(effects.pink_noise.slope, shape[0])
        rng = exposure.stream(Effect.PINK, row)
        begin = rng.standard_normal((decay.size, shape[1]), np.float32)
        white = rng.standard_normal(shape, np.float32)
        pink_noise(white, begin, maps.pink[i], decay, weight, start, out)
    return out


_pink_filter = lru_cache(maxsize=8)(pink_filter)
