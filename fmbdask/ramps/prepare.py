"""What must be known of an exposure before its regions are searched, each of them by itself.

Small arrays: which frames are used, the offsets that pixels share, the noise of each amplifier, and by how much
significances exceed their stated distribution. All of it comes from the reference border and from blocks at
fixed places, so it depends neither on chunks nor on workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from fmbdask_kernels import temporal
from fmbdask_kernels.tables import Offsets, Tables, make_offsets, make_prior, make_tables
from numpy.typing import NDArray

from ..errors import InputError
from ..regions import Region
from . import calibration
from .config import DetectionConfig
from .detector import MIN_FRAMES, Detector
from .offsets import Correction, Shared, choose_frames, complete, reference_offsets, shared
from .sample import read, sample_blocks

Float = NDArray[np.float32]

#: Bit of the flags of a ramp: not to be used.
DO_NOT_USE = 1
#: Fewest pixels from which a scale or a prior is taken; below it amplifiers are pooled.
ENOUGH = 2000
#: Range of the in-situ scale: floor-limited pixels may only be made less significant.
SCALE_RANGE = (0.9, 3.0)
#: Statistics of candidates for telegraph noise: the quantile of roughness that is always looked at.
ROUGH_SHARE = 0.004


@dataclass(frozen=True)
class Noise:
    """Noise of the pixels of each amplifier, (amplifiers,) [DN^2 or 1], and the scale of significances.

    ``scale`` is (amplifiers, 2): for pixels at the floor of rho, and for the others.
    """

    variance: Float
    dof: Float
    noisy: Float
    rho_variance: Float
    scale: Float
    rough: Float


@dataclass(frozen=True)
class Prepared:
    """Everything a region needs beside its own reads.

    Attributes
    ----------
    detector, config
        What took the exposure, and how it is searched.
    used : (N,) int array
        Frames in use.
    pattern : (3, N) array
        Their reads.
    tables : Tables
        Covariance factors per bin of rho.
    correction : Correction
        Offsets per read; ``offsets`` holds their differences.
    noise : Noise
    isolated, pair, drop : (bins,) arrays
        Thresholds [sigma] of a lone pixel, of the weaker ones worth a refit, and of negative steps.
    poisson : float
        Variance per DN of signal [DN].
    rho_floor : float
    notes : tuple of str
        What was decided, in sentences.
    """

    detector: Detector
    config: DetectionConfig
    integration: int
    used: NDArray[np.int64]
    pattern: NDArray[np.float64]
    tables: Tables
    correction: Correction
    offsets: Offsets
    noise: Noise
    isolated: NDArray[np.float64]
    refit: NDArray[np.float64]
    poisson: float
    rho_floor: float
    notes: tuple[str, ...]

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return (self.detector.source, self.integration, self.config.model_dump_json(), self.used.tobytes())


def prepare(ramp: xr.DataArray, detector: Detector, config: DetectionConfig, integration: int) -> Prepared:
    """Measure what the regions of one integration share.

    Parameters
    ----------
    ramp : DataArray
        Dimensions (integration, frame, y, x).
    detector : Detector
        From :func:`fmbdask.ramps.detector.describe`.
    config : DetectionConfig
    integration : int

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        If fewer than four frames can be used.
    """
    blocks = sample_blocks(*detector.active, integration)
    reference = (
        reference_offsets(ramp, detector, integration) if config.reference_pixels else no_offsets(detector)
    )
    found = shared(ramp, detector, reference, blocks)
    used, notes = choose_frames(found, candidate_frames(ramp, integration), config)
    if used.size < MIN_FRAMES:
        raise InputError(
            f"{detector.source}: {used.size} frames are left of {detector.shape[1]}: "
            "skip fewer with skip_first and skip_last, or give a longer ramp"
        )
    correction, offset_notes = complete(reference, found, detector, config, used)
    pattern = detector.pattern(used)
    floor = config.rho_floor
    tables = make_tables(pattern, floor)
    rows, columns = detector.shape[2:]
    offsets = make_offsets(
        tables, columns, rows, correction.column, correction.gradient, correction.height, correction.row
    )
    noise = _measure_noise(ramp, detector, found, used, pattern, tables, offsets, blocks, floor)
    rho = tables.rho.astype(np.float64)
    if config.sigma_threshold is None:
        isolated = calibration.thresholds(pattern, rho, config.false_alarm_rate)
    else:
        isolated = np.full(rho.size, config.sigma_threshold)
    return Prepared(
        detector=detector,
        config=config,
        integration=integration,
        used=used,
        pattern=pattern,
        tables=tables,
        correction=correction,
        offsets=offsets,
        noise=noise,
        isolated=isolated,
        # two pixels of this significance are an event together
        refit=(isolated + 0.85) / np.sqrt(2),
        poisson=detector.poisson,
        rho_floor=floor,
        notes=(*notes, *offset_notes),
    )


def no_offsets(detector: Detector) -> Correction:
    """Offsets of an exposure whose reference pixels are left alone."""
    frames, rows, columns = detector.shape[1:]
    zero = np.zeros((frames, columns), np.float32)
    return Correction(zero, zero, np.zeros(rows, np.float32), np.zeros((frames, rows), np.float32))


def candidate_frames(ramp: xr.DataArray, integration: int) -> NDArray[np.int64]:
    """Frames that are not flagged as unusable in every pixel."""
    frames = np.arange(ramp.sizes["frame"])
    if "flags" not in ramp.coords:
        return frames
    unusable = ((ramp.coords["flags"][integration] & DO_NOT_USE) > 0).all(["y", "x"])
    return frames[~unusable.values]


def region_offsets(offsets: Offsets, region: Region) -> Offsets:
    """Offsets of a region, padded to whole tiles; sums are those of the whole exposure, bit for bit."""
    x, y = region.x, region.y
    return Offsets(
        pad(offsets.column[:, x]), pad(offsets.gradient[:, x]), offsets.height[y], np.ascontiguousarray(offsets.row[:, y]),
        pad(offsets.column_slope[x]), pad(offsets.gradient_slope[x]), offsets.row_slope[y],
        pad(offsets.column_total[x]), pad(offsets.gradient_total[x]), offsets.row_total[y],
    )  # fmt: skip


def pad(values: Float) -> Float:
    """Extend the last axis to whole tiles with zeros."""
    size = values.shape[-1]
    whole = -(-size // temporal.LANES) * temporal.LANES
    out = np.zeros((*values.shape[:-1], whole), np.float32)
    out[..., :size] = values
    return out


def _measure_noise(
    ramp: xr.DataArray,
    detector: Detector,
    found: Shared,
    used: NDArray[np.int64],
    pattern: NDArray[np.float64],
    tables: Tables,
    offsets: Offsets,
    blocks: list[Region],
    floor: float,
) -> Noise:
    """Noise prior of each amplifier from the blocks, and the scale of their significances."""
    amplifiers = int(detector.amplifier.max()) + 1
    # variance of a difference: two reads and the Poisson noise between them
    reads = float(np.mean(1 / detector.reads[used]))
    own = (found.variance - np.maximum(found.slope, 0) * detector.poisson) / (2 * reads)
    rho_variance = np.maximum(own, 0.02 * found.variance).astype(np.float32)
    features = [
        _features(ramp, detector, used, pattern, tables, offsets, b, rho_variance, detector.poisson, floor)
        for b in blocks
    ]
    amplifier = np.concatenate([_amplifier(detector, b) for b in blocks])

    def plane(k: int) -> NDArray[np.float64]:
        return np.concatenate([f[k].ravel() for f in features]).astype(np.float64)

    m = used.size - 1
    whole = plane(temporal.READS) == used.size
    rss = plane(temporal.READ_VARIANCE) * (m - 1)
    raw = np.sqrt(np.maximum(plane(temporal.STEP_R2) * rss, 0))
    bins = np.where(whole, plane(temporal.RHO_BIN), 0).astype(np.int64)
    rate = np.maximum(plane(temporal.SLOPE), 0)
    rough = plane(temporal.ROUGHNESS)
    out = np.ones((5, amplifiers), np.float32)
    scale = np.ones((amplifiers, 2), np.float32)
    nu = max(m - 2, 1)
    rho = tables.rho.astype(np.float64)
    for a in range(amplifiers):
        mine = whole & (amplifier == a) & np.isfinite(raw)
        if mine.sum() < min(ENOUGH, whole.sum()):
            mine = whole & np.isfinite(raw)
        if not mine.any():
            raise InputError(
                f"{detector.source}: no pixel has all its reads below saturation: check the saturation level"
            )
        # the step of a clean pixel takes one degree of freedom with it
        own = (rss[mine] - raw[mine] ** 2) / nu
        variance, dof, noisy = calibration.variance_prior(own, nu)
        out[:4, a] = variance, dof, noisy, rho_variance[a]
        moderated = (nu * own + dof * variance) / (nu + dof)
        z = calibration.gaussian_equivalent(raw[mine] / np.sqrt(moderated), nu + dof)
        quiet = own < noisy * variance
        usual = _thresholds(pattern, rho, 0.05, bins[mine], rate[mine], variance, detector.gain)
        firing = _thresholds(pattern, rho, 1e-3, bins[mine], rate[mine], variance, detector.gain)
        for k in range(2):
            part = quiet & ((bins[mine] == 0) if k == 0 else (bins[mine] > 0))
            if part.sum() >= ENOUGH:
                found = calibration.in_situ_scale(z[part], usual[part], firing[part])
                scale[a, k] = np.clip(found, 1.0 if k == 0 else SCALE_RANGE[0], SCALE_RANGE[1])
            elif k == 1:
                scale[a, 1] = scale[a, 0]
        out[4, a] = np.quantile(rough[mine], 1 - ROUGH_SHARE)
    return Noise(out[0], out[1], out[2], out[3], scale, out[4])


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
    return t


def _amplifier(detector: Detector, block: Region) -> NDArray[np.int64]:
    """Amplifier of each pixel of a block."""
    return np.broadcast_to(detector.amplifier[block.x], block.shape).ravel()


def _features(
    ramp: xr.DataArray,
    detector: Detector,
    used: NDArray[np.int64],
    pattern: NDArray[np.float64],
    tables: Tables,
    offsets: Offsets,
    block: Region,
    rho_variance: Float,
    poisson: float,
    floor: float,
) -> Float:
    """Features of a block with a prior that says nothing."""
    per_column = rho_variance[detector.amplifier[block.x]]
    prior = make_prior(block.shape[1], 1.0, 0.0, np.inf, poisson, per_column)
    return temporal.temporal_features(
        read(ramp, block), used, tables, prior, region_offsets(offsets, block),
        pattern=pattern, rho_floor=floor, saturation=detector.saturation,
    )  # fmt: skip
