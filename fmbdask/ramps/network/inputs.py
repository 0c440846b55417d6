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
from fmbdask_kernels import covariance, temporal
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
def _statistics(pattern: bytes, reads: int, rho: bytes) -> tuple[Float, Float]:
    """Matrices (bins, M, M) from differences to significances of steps, in units of the noise of one read.

    A dense form of :func:`fmbdask_kernels.covariance.factor`: row k is that of the generalised least squares
    estimate of a step between reads k and k + 1 beside a free slope, over its error. That error comes with
    it, (bins, M).
    """
    several = np.frombuffer(pattern).reshape(3, reads)
    m = reads - 1
    model = np.zeros((5, m))
    covariance.timing(several, np.arange(reads), model)
    out, error = np.empty((len(rho) // 4, m, m), np.float32), np.empty((len(rho) // 4, m), np.float32)
    for k, ratio in enumerate(np.frombuffer(rho, np.float32).astype(np.float64)):
        off = (model[3] + ratio * model[4])[: m - 1]
        inverse = np.linalg.inv(np.diag(model[1] + ratio * model[2]) + np.diag(off, 1) + np.diag(off, -1))
        slope = inverse @ model[0]
        kept = inverse - np.outer(slope, slope) / (model[0] @ slope)
        variance = np.diag(kept)
        usable = variance > 1e-9 * np.diag(inverse)
        error[k] = np.where(usable, 1.0 / np.sqrt(np.where(usable, variance, 1.0)), 0.0)
        out[k] = error[k][:, None] * kept
    return out, error


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
    matrices : (bins, M, M) float32 array
        From differences to significances, see :func:`_statistics`.
    widths : (bins, M) float32 array
        Error of the amplitude of a step after each read, in units of ``noise``.
    """

    above: Float
    good: NDArray[np.bool_]
    noise: Float
    able: NDArray[np.bool_]
    bins: NDArray[np.int64]
    scale: NDArray[Any]
    matrices: Float
    widths: Float

    @classmethod
    def of(cls, data: NDArray[Any], p: Prepared, region: Region, limits: Limits) -> Ramps:
        """Take them out of a block; arguments as for :func:`channels`."""
        planes = region_features(data, p, region, limits)
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
        tables = _statistics(p.pattern.tobytes(), p.used.size, p.tables.rho.astype(np.float32).tobytes())
        return cls(above, good, noise, able, bins, scale, *tables)

    def significances(self) -> Float:
        """Significance of a step after each read but the first, (pixels, M) float32 [sigma]."""
        steps = np.empty_like(self.above)
        for own in np.unique(self.bins):
            here = self.bins == own
            steps[here] = self.above[here] @ self.matrices[own].T
        steps /= (self.noise * self.scale)[:, None].astype(np.float32)
        return steps

    def errors(self) -> Float:
        """Error of the amplitude of such a step, (pixels, M) float32 [DN]."""
        return np.asarray(self.widths[self.bins] * (self.noise * self.scale)[:, None], np.float32)


def channels(data: NDArray[Any], p: Prepared, region: Region, limits: Limits) -> Float:
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

    Returns
    -------
    (3, N - 1, ny, nx) float32 array
        :data:`CHANNELS` after each of the N frames in use but the first: significance of a step between the
        read before and this one [sigma], level above the median of the ramp without its usual difference
        [sigma], both as ``arcsinh(value / SOFT)``; and 1 where the read may be used, 0 where not.
    """
    ramps = Ramps.of(data, p, region, limits)
    level = np.cumsum(ramps.above, axis=1, dtype=np.float64)
    level = (level - np.median(level, axis=1, keepdims=True)) / ramps.noise[:, None]
    out = np.empty((len(CHANNELS), *ramps.above.shape), np.float32)
    both: tuple[NDArray[Any], ...] = (ramps.significances(), level)
    for k, values in enumerate(both):
        out[k] = np.arcsinh(np.clip(values, -MOST, MOST) / SOFT)
    out[2] = ramps.good
    out[:2, ~ramps.able] = 0
    return np.ascontiguousarray(out.transpose(0, 2, 1).reshape(len(CHANNELS), -1, *region.shape))
