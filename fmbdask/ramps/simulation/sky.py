"""Light that falls on the detector: stars, and the spots that an earlier exposure left behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from .config import SimulationConfig
from .streams import Effect, Exposure, log_uniform

Float = NDArray[np.float64]

#: Half width of a star's stamp in units of its full width at half maximum: 1e-7 of the light is beyond.
_STAMP = 2.5


@dataclass(frozen=True)
class Stars:
    """Positions [pixel] and fluxes [electron / s], each (n,)."""

    y: Float
    x: Float
    flux: Float


def draw_stars(config: SimulationConfig, exposure: Exposure) -> Stars:
    """Draw the stars of one exposure."""
    sky = config.effects.sky
    if sky is None:
        return Stars(np.empty(0), np.empty(0), np.empty(0))
    rows, columns = config.image_shape
    rng = exposure.stream(Effect.STARS)
    count = rng.poisson(sky.star_density * rows * columns)
    y, x = rng.uniform(-0.5, rows - 0.5, count), rng.uniform(-0.5, columns - 0.5, count)
    faint, bright = sky.star_flux_range
    u = rng.random(count)
    if sky.star_flux_slope == 0:
        flux = faint * (bright / faint) ** u
    else:
        a = -sky.star_flux_slope
        flux = (faint**a + u * (bright**a - faint**a)) ** (1 / a)
    return Stars(y, x, flux)


def light(stars: Stars, fwhm: float, y0: int, y1: int, columns: int) -> Float:
    """Light of the stars on rows ``y0`` to ``y1``: Gaussian profiles, integrated [electron / s]."""
    out = np.zeros((y1 - y0, columns))
    sigma = fwhm / 2.3548200450309493
    reach = int(np.ceil(_STAMP * fwhm))
    for y, x, flux in zip(stars.y, stars.x, stars.flux, strict=True):
        bottom, top = max(round(y) - reach, y0), min(round(y) + reach + 1, y1)
        left, right = max(round(x) - reach, 0), min(round(x) + reach + 1, columns)
        if bottom < top and left < right:
            across = np.outer(_profile(bottom, top, y, sigma), _profile(left, right, x, sigma))
            out[bottom - y0 : top - y0, left:right] += flux * across
    return out


def _profile(start: int, stop: int, centre: float, sigma: float) -> Float:
    edges = (np.arange(start, stop + 1) - 0.5 - centre) / (np.sqrt(2) * sigma)
    profile: Float = np.diff(erf(edges)) / 2
    return profile


@dataclass(frozen=True)
class Trapped:
    """Pixels that release charge from an earlier exposure, sorted by row: each (n,).

    ``charge`` is released in all [electron], with decay time ``decay`` [frame].
    """

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    charge: Float
    decay: Float

    def rows(self, y0: int, y1: int) -> Trapped:
        """Those of rows ``y0`` to ``y1`` (exclusive)."""
        cut = slice(*np.searchsorted(self.y, [y0, y1]))
        return Trapped(self.y[cut], self.x[cut], self.charge[cut], self.decay[cut])

    def released(self, frames: int) -> Float:
        """Expected charge released during each frame, (frames, n) [electron]."""
        left = np.exp(-np.arange(frames + 1)[:, None] / self.decay)
        return self.charge * -np.diff(left, axis=0)


def draw_trapped(config: SimulationConfig, exposure: Exposure) -> Trapped:
    """Draw the spots that an earlier exposure left; a pixel inside two spots keeps the first."""
    effect = config.effects.persistence
    rows, columns = config.image_shape
    border = config.border
    charge = np.zeros((rows, columns))
    decay = np.ones((rows, columns))
    if effect is not None:
        rng = exposure.stream(Effect.PERSISTENCE)
        count = rng.poisson(effect.density * rows * columns)
        centres = np.stack([rng.uniform(0, rows, count), rng.uniform(0, columns, count)], axis=1)
        radius = rng.uniform(*effect.radius_range, count)
        total = log_uniform(rng, effect.charge_range, count)
        tau = log_uniform(rng, effect.decay_range, count) / config.frame_time
        for (cy, cx), r, q, t in zip(centres, radius, total, tau, strict=True):
            reach = int(np.ceil(r))
            ys = slice(max(int(cy) - reach, border), max(min(int(cy) + reach + 1, rows - border), border))
            xs = slice(max(int(cx) - reach, border), max(min(int(cx) + reach + 1, columns - border), border))
            y, x = np.ogrid[ys, xs]
            spot = ((y - cy) ** 2 + (x - cx) ** 2 <= r * r) & (charge[ys, xs] == 0)
            charge[ys, xs][spot] = q
            decay[ys, xs][spot] = t
    y, x = np.nonzero(charge)
    return Trapped(y, x, charge[y, x], decay[y, x])
