"""What must be known of an exposure before its regions are searched, each of them by itself.

Small arrays: which frames are used, the offsets that pixels share, the noise of each amplifier, and by how
much significances exceed their stated distribution. All of it comes from the reference border and from blocks
at fixed places, so it depends neither on chunks nor on workers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from fmbdask_kernels.tables import Offsets, Tables, make_offsets, make_tables
from numpy.typing import NDArray

from ..errors import InputError
from . import calibration
from .config import DetectionConfig
from .detector import MIN_FRAMES, Detector, saturation_levels
from .measured import Measured, measure
from .noise import Noise, measure_noise
from .offsets import Correction, choose_frames, complete
from .prior import Prior
from .sample import sample_blocks

#: Fewest reads whose noise is measured; with fewer it must be given.
ENOUGH_FRAMES = 5
#: Bit of the flags of a ramp: not to be used.
DO_NOT_USE = 1


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
    levels : (y, x) array or None
        Level at or above which reads of a pixel are not used [DN]; None where that of ``detector`` holds.
    notes : tuple of str
        What was decided, in sentences.
    prior : Prior or None
        What the history of the detector lets one expect.
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
    levels: NDArray[np.float32] | None
    notes: tuple[str, ...]
    prior: Prior | None = None

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        known = self.prior.token if self.prior else ""
        return (
            self.detector.source, self.integration, self.config.model_dump_json(), self.used.tobytes(), known
        )  # fmt: skip


def prepare(
    ramp: xr.DataArray,
    detector: Detector,
    config: DetectionConfig,
    integration: int,
    measured: Measured | None = None,
    prior: Prior | None = None,
) -> Prepared:
    """Measure what the regions of one integration share.

    Parameters
    ----------
    ramp : DataArray
        Dimensions (integration, frame, y, x).
    detector : Detector
        From :func:`fmbdask.ramps.detector.describe`.
    config : DetectionConfig
    integration : int
    measured : Measured, optional
        Offsets that were measured before.
    prior : Prior, optional
        From :func:`fmbdask.ramps.prior.expect`.

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        If the frames do not accumulate, fewer than four of them can be used, or fewer than five of a detector
        whose read noise is unknown.
    """
    if ramp.attrs.get("accumulating") is False:
        raise InputError(
            f"{detector.source} holds fluxes that do not accumulate: open it with accumulate=True "
            "(--accumulate)"
        )
    blocks = sample_blocks(*detector.active, integration)
    if measured is None:
        measured = measure(ramp, detector, integration, reference_pixels=config.reference_pixels)
    found = measured.shared
    used, notes = choose_frames(found, candidate_frames(ramp, integration), config)
    if used.size < MIN_FRAMES:
        raise InputError(
            f"{detector.source}: {used.size} frames are left of {detector.shape[1]}: "
            "skip fewer with skip_first and skip_last, or give a longer ramp"
        )
    correction, offset_notes = complete(measured.reference, found, detector, config, used)
    if used.size < ENOUGH_FRAMES and detector.read_noise is None and "read_noise_map" not in ramp.coords:
        raise InputError(
            f"{detector.source}: {used.size} usable reads are too few to measure their noise: give "
            "read_noise (--read-noise), or a longer ramp"
        )
    pattern = detector.pattern(used)
    floor = config.rho_floor
    tables = make_tables(pattern, floor)
    rows, columns = detector.shape[2:]
    offsets = make_offsets(
        tables, columns, rows, correction.column, correction.gradient, correction.height, correction.row
    )
    noise = measure_noise(ramp, detector, found, used, pattern, tables, offsets, blocks)
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
        noise=noise if prior is None else with_known_noise(noise, prior, detector),
        isolated=isolated,
        # two pixels of this significance are an event together
        refit=(isolated + 0.85) / np.sqrt(2),
        poisson=detector.poisson,
        rho_floor=floor,
        levels=saturation_levels(ramp, detector),
        notes=(*known_notes(detector, config), *notes, *offset_notes),
        prior=prior,
    )


def with_known_noise(noise: Noise, prior: Prior, detector: Detector) -> Noise:
    """Expect of pixels that are known as noisy the noise that they had; of no pixel less than usual."""
    if not prior.noisy.size:
        return noise
    shape = detector.shape[2:]
    ratio = np.ones(shape, np.float32) if noise.ratio is None else noise.ratio.copy()
    y, x = np.divmod(prior.noisy, shape[1])
    own = prior.noise**2 / noise.variance[detector.amplifier[x]]
    ratio[y, x] = np.maximum(ratio[y, x], own)
    return replace(noise, ratio=ratio)


def known_notes(detector: Detector, config: DetectionConfig) -> list[str]:
    """Say what is not known of the detector, and what is done without it."""
    notes = []
    if config.reference_pixels and not any(detector.border):
        notes.append("no reference pixels are known: offsets come from the pixels that see light")
    if detector.gain is None:
        notes.append("no gain is known: noise is measured in DN, without a part for photons")
    return notes


def candidate_frames(ramp: xr.DataArray, integration: int) -> NDArray[np.int64]:
    """Frames that are not flagged as unusable in every pixel."""
    frames = np.arange(ramp.sizes["frame"])
    if "flags" not in ramp.coords:
        return frames
    unusable = ((ramp.coords["flags"][integration] & DO_NOT_USE) > 0).all(["y", "x"])
    kept: NDArray[np.int64] = frames[~unusable.values]
    return kept
