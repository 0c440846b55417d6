"""Noise of the pixels of an exposure, and by how much its significances exceed their stated distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from fmbdask_kernels import temporal
from fmbdask_kernels.covariance import timing
from fmbdask_kernels.lanes import LANES
from fmbdask_kernels.planes import MAXIMUM, MINIMUM
from fmbdask_kernels.rate_tables import RateTables, make_rates
from fmbdask_kernels.tables import Offsets, Tables, make_prior
from numpy.typing import NDArray
from scipy import stats

from ..errors import InputError
from ..regions import Region
from . import calibration
from .detector import Detector, saturation_levels
from .drift import measure_drift, slow_modes
from .offsets import Shared
from .sample import read

Float = NDArray[np.float32]

#: Read variance in units of the Poisson variance of an interval from which a pixel can show slow noise.
READ_SHARE = 5.0
#: Every how many rows and columns a pixel is looked at for slow noise.
THINNED = 4
#: Fewest pixels from which a scale or a prior is taken; below it amplifiers are pooled.
ENOUGH = 2000
#: Share of changing pixels below which those that never change count as pixels with little noise.
STILL = 0.01
#: Variance of one read that rounding to whole counts adds [DN^2].
ROUNDING = 1 / 12
#: Fewest pixels of an exposure of floating-point counts that must show noise.
FEW = 8
#: Frames below which a stated read noise is believed instead of being measured.
SHORT = 10
#: Range of the in-situ scale: floor-limited pixels may only be made less significant.
SCALE_RANGE = (0.9, 3.0)
#: A frame holds a large event when so many times more pixels fire in it than in the median frame, and this
#: share of all; pixels whose largest step is within so many frames of it judge no scale.
CROWD, CROWD_SHARE, CROWD_FRAMES = 10, 0.005, 4


@dataclass(frozen=True)
class Noise:
    """Noise of the pixels of each amplifier, (amplifiers,) [DN^2 or 1], and the scale of significances.

    ``scale`` is (amplifiers, 2): for pixels at the floor of rho, and for the others. ``rates`` says how the
    noise shows in rates. ``ratio`` (ny, nx) is the variance of each pixel over that of its amplifier, where a
    map of the read noise tells.
    """

    variance: Float
    dof: Float
    noisy: Float
    rho_variance: Float
    scale: Float
    rates: RateTables
    ratio: Float | None = None

    def of(self, amplifier: NDArray[np.int64], region: Region) -> Float:
        """Prior variance of a region whose columns are of these amplifiers, (ny, nx) or (1, nx) [DN^2]."""
        variance: Float = self.variance[amplifier][None]
        return variance if self.ratio is None else variance * self.ratio[region.y, region.x]

    def pixels(self, amplifier: NDArray[np.int64], region: Region) -> Float:
        """Prior variance of each pixel of a region, (ny, nx) [DN^2]; ``amplifier`` is that of all columns."""
        return np.broadcast_to(self.of(amplifier[region.x], region), region.shape)


def region_offsets(offsets: Offsets, region: Region) -> Offsets:
    """Offsets of a region, padded to whole tiles; sums are those of the whole exposure, bit for bit."""
    x, y = region.x, region.y
    return Offsets(
        pad(offsets.column[:, x]), pad(offsets.gradient[:, x]), offsets.height[y],
        np.ascontiguousarray(offsets.row[:, y]),
        pad(offsets.column_slope[x]), pad(offsets.gradient_slope[x]), offsets.row_slope[y],
        pad(offsets.column_total[x]), pad(offsets.gradient_total[x]), offsets.row_total[y],
    )  # fmt: skip


def pad(values: Float) -> Float:
    """Extend the last axis to whole tiles with zeros."""
    size = values.shape[-1]
    whole = -(-size // LANES) * LANES
    out = np.zeros((*values.shape[:-1], whole), np.float32)
    out[..., :size] = values
    return out


def measure_noise(
    ramp: xr.DataArray,
    detector: Detector,
    found: Shared,
    used: NDArray[np.int64],
    pattern: NDArray[np.float64],
    tables: Tables,
    offsets: Offsets,
    blocks: list[Region],
) -> Noise:
    """Measure the noise prior of each amplifier, and the scale of its significances, on a sample.

    Parameters
    ----------
    ramp, detector
        The exposure.
    found : Shared
        What its pixels share; the robust variance of their differences gives a first rho.
    used : (N,) int array
        Frames in use; ``pattern`` (3, N), ``tables`` and ``offsets`` are theirs.
    blocks : list of Region
        The sample.

    Returns
    -------
    Noise

    Raises
    ------
    InputError
        If no pixel of the sample can be used in all reads, none changes from frame to frame, or none of
        floating-point counts shows noise.
    """
    amplifiers = int(detector.amplifier.max()) + 1
    # variance of a difference: two reads, and the Poisson noise between them
    model = np.zeros((5, used.size - 1))
    timing(pattern, np.arange(used.size), model)
    photons, reads = (float(model[part].mean()) for part in (2, 1))
    own = (found.variance - np.maximum(found.slope, 0) * detector.poisson * photons) / reads
    with np.errstate(over="ignore"):
        rho_variance = np.maximum(own, 0.02 * found.variance).astype(np.float32)
    levels = saturation_levels(ramp, detector)
    modes = slow_modes(pattern)
    looks = [
        _look(
            ramp, detector, used, pattern, tables, offsets, b, rho_variance, detector.poisson, levels, modes
        )
        for b in blocks
    ]  # fmt: skip
    features, slow = [f for f, _ in looks], np.concatenate([p for _, p in looks], axis=1)
    sound = np.concatenate([_sound(ramp, used, b) for b in blocks])
    amplifier = np.concatenate([_amplifier(detector, b) for b in blocks])
    ratio, stated = _stated(ramp, detector)
    own_ratio = 1.0 if ratio is None else np.concatenate([ratio[b.y, b.x].ravel() for b in blocks])
    short = used.size < SHORT and stated is not None

    def plane(k: int) -> NDArray[np.float64]:
        return np.concatenate([f[k].ravel() for f in features]).astype(np.float64)

    m = used.size - 1
    whole = sound & (plane(temporal.READS) == used.size)
    if not whole.any():
        raise InputError(
            f"{detector.source}: no pixel has {used.size} reads that are finite, not flagged and below "
            "saturation: leave frames out with skip_first or skip_last, or check flags and saturation level"
        )
    rss = plane(temporal.READ_VARIANCE) * (m - 1) / own_ratio
    changing = whole & np.isfinite(rss) & (plane(MAXIMUM) > plane(MINIMUM))
    if not changing.any():
        raise InputError(
            f"{detector.source} does not change from frame to frame: give the frames of a ramp as they were "
            "read"
        )
    if changing.sum() < STILL * whole.sum():
        # pixels that never change are no longer broken ones, but the noise is below a count
        changing = whole
    with np.errstate(invalid="ignore"):
        # a pixel with a map of its own noise is judged by its share of it
        raw = np.sqrt(np.maximum(plane(temporal.STEP_R2) * rss, 0))
    bins = np.where(whole, plane(temporal.RHO_BIN), 0).astype(np.int64)
    rate = np.maximum(plane(temporal.SLOPE), 0)
    frame = np.where(whole, plane(temporal.STEP_FRAME), 0).astype(np.int64)
    out = np.ones((4, amplifiers), np.float32)
    calm = np.zeros(whole.size, np.bool_)
    scale = np.ones((amplifiers, 2), np.float32)
    nu = max(m - 2, 1)
    rho = tables.rho.astype(np.float64)
    for a in range(amplifiers):
        mine = changing & (amplifier == a)
        if mine.sum() < min(ENOUGH, changing.sum()):
            mine = changing
        # the largest of many chance steps takes more than one degree of freedom with it: it stays in here,
        # where quantiles are not moved by the few real ones
        scatter = rss[mine] / (nu + 1)
        if ramp.dtype.kind in "ui":
            scatter = np.maximum(scatter, 2 * ROUNDING / reads)
        elif np.count_nonzero(scatter) < min(FEW, scatter.size):
            raise InputError(
                f"{detector.source}: next to no pixel shows noise about a straight line, and steps cannot be "
                "judged without: give counts as they were read"
            )
        variance, dof, noisy = calibration.variance_prior(scatter, nu + 1)
        if short and stated is not None:
            variance, dof, noisy = (
                stated[a],
                calibration.MAX_DOF,
                float(stats.f.isf(calibration.NOISY, nu, calibration.MAX_DOF)),
            )
        own = (rss[mine] - raw[mine] ** 2) / nu
        out[:, a] = variance, dof, noisy, rho_variance[a]
        moderated = (nu * own + dof * variance) / (nu + dof)
        z = calibration.gaussian_equivalent(raw[mine] / np.sqrt(moderated), nu + dof)
        quiet = own < noisy * variance
        usual = _thresholds(pattern, rho, 0.05, bins[mine], rate[mine], variance, detector.gain)
        firing = _thresholds(pattern, rho, 1e-3, bins[mine], rate[mine], variance, detector.gain)
        quiet &= ~_with_many(frame[mine], z > firing)
        for k in range(2):
            part = quiet & ((bins[mine] == 0) if k == 0 else (bins[mine] > 0))
            if part.sum() >= ENOUGH:
                larger = calibration.in_situ_scale(z[part], usual[part], firing[part])
                scale[a, k] = np.clip(larger, 1.0 if k == 0 else SCALE_RANGE[0], SCALE_RANGE[1])
            elif k == 1:
                scale[a, 1] = scale[a, 0]
        # slow noise makes chance steps larger: pixels that show much of it must not be left out
        larger_of = np.where(bins[mine] == 0, scale[a, 0], scale[a, 1])
        calm[np.flatnonzero(mine)[quiet & (z < firing * larger_of)]] = True
    # what a fit leaves over holds Poisson noise as well, and the more the longer its memory
    plain = make_rates(pattern, tables, 0.0)
    light = rate * detector.poisson
    with np.errstate(invalid="ignore"):
        own = (rss * own_ratio - light * plain.poisson[bins]) / plain.white[bins]
        calm &= own > light * READ_SHARE
    starts = np.cumsum([0, *(f[0].size for f in features)])
    left = np.concatenate([_pairs(b) + start for b, start in zip(blocks, starts, strict=False)])
    both = calm[left] & calm[left + 1]
    left = left[both]
    slow, own, light = slow[:, both], own[left] + own[left + 1], light[left] + light[left + 1]
    drift = measure_drift(slow, own, light, pattern, modes, float(rho[0]))
    return Noise(out[0], out[1], out[2], out[3], scale, make_rates(pattern, tables, drift), ratio)


def _with_many(frame: NDArray[np.int64], fires: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels whose largest step is next to a frame in which far more pixels fire than usual."""
    count = np.bincount(frame[fires], minlength=int(frame.max()) + 1)
    many = count > np.maximum(CROWD * np.median(count[1:]), CROWD_SHARE * frame.size)
    near = np.convolve(many, np.ones(2 * CROWD_FRAMES + 1), "same")[: many.size] > 0
    return near[frame]


def _stated(ramp: xr.DataArray, detector: Detector) -> tuple[Float | None, NDArray[np.float64] | None]:
    """What is said of the read noise: variance of each pixel over its amplifier's, and the latter [DN^2]."""
    amplifiers = int(detector.amplifier.max()) + 1
    gain = detector.gain or 1.0
    if "read_noise_map" in ramp.coords:
        variance = (np.asarray(ramp.coords["read_noise_map"].values, np.float64) / gain) ** 2
        good = np.isfinite(variance) & (variance > 0)
        columns = [detector.amplifier == a for a in range(amplifiers)]
        typical = np.array(
            [np.median(variance[:, c][good[:, c]]) if good[:, c].any() else 1.0 for c in columns]
        )
        ratio = np.where(good, variance / typical[detector.amplifier], 1.0)
        return ratio.astype(np.float32), typical
    if detector.read_noise is not None:
        return None, np.full(amplifiers, (detector.read_noise / gain) ** 2)
    return None, None


def _thresholds(
    pattern: NDArray[np.float64],
    rho: NDArray[np.float64],
    alpha: float,
    bins: NDArray[np.int64],
    rate: NDArray[np.float64],
    variance: float,
    gain: float | None,
) -> NDArray[np.float64]:
    """Threshold of each pixel, raised for the skewness of Poisson arrivals."""
    t = calibration.thresholds(pattern, rho, alpha)[bins]
    if gain:
        t = (
            t
            + calibration.skewness(rate * gain, np.full(1, np.sqrt(variance) * gain), rho[bins])
            * (t * t - 1)
            / 6
        )
    return np.asarray(t, np.float64)


def _amplifier(detector: Detector, block: Region) -> NDArray[np.int64]:
    """Amplifier of each pixel of a block."""
    return np.broadcast_to(detector.amplifier[block.x], block.shape).ravel()


def _sound(ramp: xr.DataArray, used: NDArray[np.int64], block: Region) -> NDArray[np.bool_]:
    """Whether neither a pixel of a block nor any of its used reads is marked as bad."""
    sound = np.ones(block.shape, np.bool_)
    if "bad_pixel" in ramp.coords:
        sound &= np.asarray(ramp.coords["bad_pixel"][block.y, block.x].values) == 0
    if "flags" in ramp.coords:
        sound &= (read(ramp.coords["flags"], block)[used] == 0).all(axis=0)
    return sound.ravel()


def _pairs(block: Region) -> NDArray[np.int64]:
    """Places in a block of the left one of neighbouring pixels whose slow modes are looked at."""
    place = np.arange(block.shape[0] * block.shape[1]).reshape(block.shape)
    return place[::THINNED, : block.shape[1] - 1 : THINNED].ravel()


def _look(
    ramp: xr.DataArray,
    detector: Detector,
    used: NDArray[np.int64],
    pattern: NDArray[np.float64],
    tables: Tables,
    offsets: Offsets,
    block: Region,
    rho_variance: Float,
    poisson: float,
    levels: Float | None,
    modes: NDArray[np.float64],
) -> tuple[Float, NDArray[np.float64]]:
    """Features of a block with a prior that says nothing, and slow modes of differences of neighbours."""
    per_column = rho_variance[detector.amplifier[block.x]]
    prior = make_prior(block.shape[1], 1.0, 0.0, np.inf, poisson, per_column)
    data, own = read(ramp, block), region_offsets(offsets, block)
    planes = temporal.temporal_features(
        data, used, tables, prior, own,
        pattern=pattern,
        saturation=detector.saturation if levels is None else levels[block.y, block.x],
    )  # fmt: skip
    # what neighbours do together is no noise of theirs: the faint halo of a shower is wide
    last = block.shape[1] - 1
    first, second = (data[used, ::THINNED, i : last + i : THINNED].astype(np.float32) for i in (0, 1))
    with np.errstate(invalid="ignore", over="ignore"):
        d = np.diff(first - second, axis=0)
    d -= (own.column[:, :last] - own.column[:, 1 : last + 1])[:, None, ::THINNED]
    if own.has_gradient:
        change = (own.gradient[:, :last] - own.gradient[:, 1 : last + 1])[:, None, ::THINNED]
        d -= change * own.height[::THINNED, None]
    weight = np.cumsum(modes[:, :0:-1], axis=1)[:, ::-1]
    # not by matrix products, whose bits depend on the number of threads
    with np.errstate(invalid="ignore", over="ignore"):
        return planes, np.einsum("kt,tp->kp", weight, d.reshape(d.shape[0], -1).astype(np.float64))
