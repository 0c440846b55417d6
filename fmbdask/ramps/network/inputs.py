"""What the network sees of a block of a ramp: for every read the significance of a step, and the level.

Both are in units of the noise of the pixel, so that no patch is scaled by what else is in it. The
significance is the statistic that the rules take the largest value of; here it is kept for every read, so
that the network adds up what neighbours do at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from fmbdask_kernels import temporal
from fmbdask_kernels.everystep import StepTables, every_step, step_tables
from fmbdask_kernels.gather import gather_ramps
from numpy.typing import NDArray

from ...regions import Region
from ..prepare import Prepared
from ..region import Limits, region_features

Float = NDArray[np.float32]

#: Inputs of the network, in order.
CHANNELS = ("step_significance", "level", "valid")
#: Values are taken as arcsinh(value / this), which keeps what is near the noise and tames what is far above.
SOFT = 2.0
#: Largest values before that [sigma].
MOST = 1e5


@lru_cache(maxsize=4)
def _tables(pattern: bytes, reads: int, rho: bytes) -> StepTables:
    """Factors for all ratios that the tables of a detection know; arrays come as bytes, which have a hash."""
    return step_tables(np.frombuffer(pattern).reshape(3, reads), reads, np.frombuffer(rho, np.float32))


def limits_without(p: Prepared, region: Region, unusable: NDArray[np.bool_]) -> Limits:
    """Reads of a region that may be used, without pixels that have none: (integrations, y, x) bool."""
    level = p.detector.saturation if p.levels is None else p.levels[region.y, region.x]
    bad = unusable[region.integration, region.y, region.x]
    return Limits.of(p, region, None, bad, np.broadcast_to(np.asarray(level, np.float32), region.shape))


@dataclass(frozen=True)
class Ramps:
    """Differences of the ramps of a block, pixel by pixel; M = N - 1 differences of N reads in use.

    Attributes
    ----------
    above : (pixels, M) float32 array
        Differences less the usual one [DN]; 0 where a read is missing: there the ramp goes on as usual.
    good : (pixels, M) bool array
        Whether both reads may be used.
    noise : (pixels,) float32 array
        Of one read [DN].
    able : (pixels,) bool array
        Whether the pixel has a usual difference and a noise.
    bins : (pixels,) int64 array
        Which ratio of Poisson to read variance.
    scale : (pixels,) array
        By how much significances are wider than those of white noise.
    tables : StepTables
        From differences to significances.
    """

    above: Float
    good: NDArray[np.bool_]
    noise: Float
    able: NDArray[np.bool_]
    bins: NDArray[np.int64]
    scale: NDArray[Any]
    tables: StepTables

    @classmethod
    def of(
        cls, data: NDArray[Any], p: Prepared, region: Region, limits: Limits, planes: Float | None = None
    ) -> Ramps:
        """Take them out of a block; arguments as for :func:`channels`."""
        planes = region_features(data, p, region, limits) if planes is None else planes
        ny, nx = region.shape
        y, x = np.divmod(np.arange(ny * nx), nx)
        ramps, used = gather_ramps(
            data, p.used, y, x, (region.y0, region.x0), p.correction.parts, limits.saturation, limits.usable,
            p.pattern[2] < 1,
        )  # fmt: skip
        good = used[:, 1:] & used[:, :-1]
        usual = planes[temporal.RATE].ravel()
        noise = planes[temporal.NOISE].ravel()
        able = np.isfinite(usual) & (noise > 0)
        usual, noise = np.where(able, usual, 0), np.where(able, noise, 1).astype(np.float32)
        good &= able[:, None]
        above = np.diff(ramps, axis=1)
        above -= usual[:, None]
        above[~good] = 0
        bins = np.where(able, np.nan_to_num(planes[temporal.RHO_BIN].ravel()), 0).astype(np.int64)
        amplifier = p.detector.amplifier[region.x][x]
        scale = np.where(bins == 0, p.noise.scale[amplifier, 0], p.noise.scale[amplifier, 1])
        tables = _tables(p.pattern.tobytes(), p.used.size, p.tables.rho.astype(np.float32).tobytes())
        return cls(above, good, noise, able, bins, scale, tables)

    def significances(self) -> Float:
        """Significance of a step after each read but the first, (pixels, M) float32 [sigma]."""
        return every_step(self.above, self.bins, (self.noise * self.scale).astype(np.float32), self.tables)

    def errors(self) -> Float:
        """Error of the amplitude of such a step, (pixels, M) float32 [DN]."""
        return np.asarray(self.tables.scale[self.bins] * (self.noise * self.scale)[:, None], np.float32)


def channels(
    data: NDArray[Any],
    p: Prepared,
    region: Region,
    limits: Limits,
    reads: slice = slice(None),
    planes: Float | None = None,
) -> Float:
    """What the network sees of a block.

    Parameters
    ----------
    data : (T, ny, nx) array
        All frames [DN].
    p : Prepared
        Of the integration.
    region : Region
        Where the block is.
    limits : Limits
        Reads that may be used.
    reads : slice
        Of the N - 1 reads after the first, those that are wanted.
    planes : (planes, ny, nx) float32 array, optional
        What :func:`~fmbdask.ramps.region.region_features` gives for the block, where it is known.

    Returns
    -------
    (3, reads, ny, nx) float32 array
        :data:`CHANNELS` after each of the N frames in use but the first: significance of a step between the
        read before and this one [sigma], level above the median of the ramp without its usual difference
        [sigma], both as ``arcsinh(value / SOFT)``; and 1 where the read may be used, 0 where not.
    """
    ramps = Ramps.of(data, p, region, limits, planes)
    level = np.cumsum(ramps.above, axis=1, dtype=np.float64)
    level = (level[:, reads] - np.median(level, axis=1, keepdims=True)) / ramps.noise[:, None]
    out = np.empty((len(CHANNELS), *level.shape), np.float32)
    both: tuple[NDArray[Any], ...] = (ramps.significances()[:, reads], level)
    for k, values in enumerate(both):
        out[k] = np.arcsinh(np.clip(values, -MOST, MOST) / SOFT)
    out[2] = ramps.good[:, reads]
    out[:2, ~ramps.able] = 0
    return np.ascontiguousarray(out.transpose(0, 2, 1).reshape(len(CHANNELS), -1, *region.shape))
