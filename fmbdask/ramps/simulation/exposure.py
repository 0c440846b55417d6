"""One exposure: first everything that couples pixels is drawn, then any rows can be made on their own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from fmbdask_kernels.simulation import INVERSION_LIMIT, accumulate_counts, read_charge
from numpy.typing import NDArray

from .config import SimulationConfig
from .cosmic_rays import CosmicRayList, draw_cosmic_rays
from .deposits import Deposits, gather
from .detector import Levels, PixelMaps, amplifier_of, draw_levels, pixel_maps
from .noise import amplifier_streams, draw_glitches, pixel_noise, row_noise, settling
from .response import digitise, typical_capacity
from .sky import Stars, Trapped, draw_stars, draw_trapped
from .snowballs import SnowballList, draw_snowballs
from .streams import Effect, Exposure
from .telegraph import TelegraphList, draw_telegraph

Ramp = NDArray[np.uint16] | NDArray[np.float32]


@dataclass(frozen=True)
class Strip:
    """All that some rows of an exposure need, and no more: it is sent to the process that makes them.

    Attributes
    ----------
    config, exposure, gain, levels
        As in :class:`ExposurePlan`.
    y0, y1 : int
        Rows, ``y1`` exclusive.
    stars, trapped, deposits, telegraph
        Sources of charge and signal, cut to these rows (and one more on either side where charge couples).
    streams : (ny, T, amplifiers) array
        1/f noise with the glitches [electron].
    """

    config: SimulationConfig
    exposure: Exposure
    gain: float
    levels: Levels
    y0: int
    y1: int
    stars: Stars
    trapped: Trapped
    deposits: Deposits
    telegraph: TelegraphList
    streams: NDArray[np.float32]

    def cut(self, y0: int, y1: int) -> Strip:
        """Cut out some of the rows, ``y0`` to ``y1`` (exclusive)."""
        return replace(
            self,
            y0=y0,
            y1=y1,
            trapped=self.trapped.rows(y0 - 1, y1 + 1),
            deposits=self.deposits.rows(y0 - 1, y1 + 1),
            telegraph=self.telegraph.rows(y0, y1),
            streams=self.streams[y0 - self.y0 : y1 - self.y0],
        )


@dataclass(frozen=True)
class ExposurePlan:
    """What was drawn for a whole exposure.

    Attributes
    ----------
    config : SimulationConfig
    exposure : Exposure
    name : str
        Stem of its files.
    detector : str
        Name in the gain library.
    gain : float
        [electron / DN]
    levels : Levels
    stars, trapped, cosmic_rays, snowballs, telegraph
        What is where.
    deposits : Deposits
        Charges of all events; ``event`` counts the cosmic rays first, then the snowballs.
    streams : (rows, T, amplifiers) array
        1/f noise with the glitches [electron].
    """

    config: SimulationConfig
    exposure: Exposure
    name: str
    detector: str
    gain: float
    levels: Levels
    stars: Stars
    trapped: Trapped
    cosmic_rays: CosmicRayList
    snowballs: SnowballList
    telegraph: TelegraphList
    deposits: Deposits
    streams: NDArray[np.float32]

    def strip(self, y0: int, y1: int) -> Strip:
        """Cut out what rows ``y0`` to ``y1`` (exclusive) need."""
        rows = self.config.image_shape[0]
        whole = Strip(
            self.config,
            self.exposure,
            self.gain,
            self.levels,
            0,
            rows,
            self.stars,
            self.trapped,
            self.deposits,
            self.telegraph,
            self.streams,
        )
        return whole.cut(y0, y1)

    def maps(self, y0: int, y1: int) -> PixelMaps:
        """Properties of the pixels of rows ``y0`` to ``y1`` (exclusive)."""
        return pixel_maps(self.config, self.exposure, self.levels, self.stars, self.gain, y0, y1)


def plan_exposure(config: SimulationConfig, exposure: Exposure, name: str) -> ExposurePlan:
    """Draw everything of an exposure that couples pixels."""
    detector, gain = list(config.gain_library.items())[exposure.detector]
    rays = draw_cosmic_rays(config, exposure)
    balls = draw_snowballs(config, exposure, typical_capacity(config, gain))
    shifted = Deposits(
        balls.deposits.y,
        balls.deposits.x,
        balls.deposits.frame,
        balls.deposits.event + rays.charge.size,
        balls.deposits.charge,
    )
    streams = amplifier_streams(config, exposure)
    streams += draw_glitches(config, exposure)
    return ExposurePlan(
        config=config,
        exposure=exposure,
        name=name,
        detector=detector,
        gain=gain,
        levels=draw_levels(config, exposure),
        stars=draw_stars(config, exposure),
        trapped=draw_trapped(config, exposure),
        cosmic_rays=rays,
        snowballs=balls,
        telegraph=draw_telegraph(config, exposure),
        deposits=gather([rays.deposits, shifted]),
        streams=streams,
    )


def simulate_rows(strip: Strip) -> Ramp:
    """Make all frames of some rows: a pure function of the strip, equal for any cut into strips.

    Returns
    -------
    (T, ny, columns) array
        uint16, or float32 without quantisation [DN].
    """
    config, exposure = strip.config, strip.exposure
    effects = config.effects
    maps = pixel_maps(config, exposure, strip.levels, strip.stars, strip.gain, strip.y0 - 1, strip.y1 + 1)
    charge = gather_charge(strip, maps)
    ipc = effects.ipc
    out = np.empty((charge.shape[0], strip.y1 - strip.y0, charge.shape[2]), np.float32)
    read_charge(charge, ipc.neighbour if ipc else 0.0, ipc.corner if ipc else 0.0, maps.curvature[1:-1], out)
    del charge

    pixels = strip.telegraph
    out[:, pixels.y - strip.y0, pixels.x] += (pixels.amplitude[:, None] * pixels.high).T.astype(np.float32)
    offset = settling(config)
    columns = amplifier_of(config)
    for i, y in enumerate(range(strip.y0, strip.y1)):
        row = pixel_noise(config, exposure, maps, i + 1, y)
        common = strip.streams[i] + row_noise(config, exposure, y)[:, None]
        row += common[:, columns]
        if effects.settling:
            row += offset[:, None] * maps.settling[i + 1]
        out[:, i] += row
        out[:, i] *= np.float32(1 / strip.gain)
        out[:, i] += maps.bias[i + 1]
    return digitise(out, config)


def gather_charge(strip: Strip, maps: PixelMaps) -> NDArray[np.float32]:
    """Charge in the pixels at each read, (T, ny + 2, columns) [electron]; one row more on either side."""
    height, columns = strip.config.image_shape
    frames = strip.config.num_frames
    charge = np.zeros((frames, strip.y1 - strip.y0 + 2, columns), np.float32)
    for i, y in enumerate(range(strip.y0 - 1, strip.y1 + 1)):
        if 0 <= y < height:
            gather_counts(strip, maps, i, y, charge[:, i])
    lost = ~maps.gathers[strip.deposits.y - strip.y0 + 1, strip.deposits.x]
    kept = strip.deposits.take(~lost)
    kept = kept.take(np.argsort(kept.frame, kind="stable"))
    bounds = np.searchsorted(kept.frame, np.arange(frames + 1))
    gathered = np.zeros(charge.shape[1:], np.float32)
    for frame in range(frames):
        new = slice(bounds[frame], bounds[frame + 1])
        np.add.at(gathered, (kept.y[new] - strip.y0 + 1, kept.x[new]), kept.charge[new].astype(np.float32))
        if bounds[frame + 1]:
            charge[frame] += gathered
    if strip.config.effects.saturation:
        np.minimum(charge, maps.full_well, out=charge)
    return charge


def gather_counts(strip: Strip, maps: PixelMaps, i: int, y: int, out: NDArray[np.float32]) -> None:
    """Fill ``out`` (T, columns) with the charge of currents in row ``y``, which is row ``i`` of ``maps``."""
    config, exposure = strip.config, strip.exposure
    frames = config.num_frames
    rate = maps.rate[i].astype(np.float64)
    trapped = strip.trapped.rows(y, y + 1)
    released = trapped.released(frames) * maps.gathers[i, trapped.x]
    if not config.effects.poisson:
        out[:] = rate * np.arange(1, frames + 1)[:, None]
        out[:, trapped.x] += np.cumsum(released, axis=0)
        return
    rng = exposure.stream(Effect.CHARGE, y)
    accumulate_counts(rng.random((frames, rate.size)), rate, out)
    bright = np.flatnonzero(rate > INVERSION_LIMIT)
    out[:, bright] = np.cumsum(rng.poisson(rate[bright], (frames, bright.size)), axis=0)
    if trapped.y.size:
        counts = exposure.stream(Effect.RELEASE, y).poisson(released)
        out[:, trapped.x] += np.cumsum(counts, axis=0)
