"""The map: one region of an exposure, searched by itself.

The fused pass looks at every pixel; the few that fired are fitted again, with several steps and with two
levels, while their reads are at hand. What leaves is small: steps, telegraph pixels, and maps of the region.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fmbdask_kernels import temporal
from fmbdask_kernels.gather import gather_ramps
from fmbdask_kernels.steps import Steps, fit_steps
from fmbdask_kernels.tables import make_prior
from fmbdask_kernels.telegraph import Telegraph, fit_telegraph, is_telegraph
from numpy.typing import NDArray

from ..regions import Region
from . import calibration
from .events import STEP
from .noise import region_offsets
from .prepare import Prepared

#: Significance given to a step that ends at saturation: its amplitude is a lower limit.
SATURATING = 99.0
#: Excess of chi^2 [sigma] from which a pixel is looked at for telegraph noise.
CHI_EXCESS = 2.5
#: A fired pixel looks like telegraph noise from this far below the threshold on [sigma].
NEARLY = 1.0
#: A step that saturates must reach this far above the last good read: read noise, and Poisson sigma or rate.
JUMP_NOISE, JUMP_POISSON = 20.0, 6.0

#: A telegraph pixel, as the region found it.
TELEGRAPH = np.dtype(
    [
        ("integration", np.int32),
        ("y", np.int32),
        ("x", np.int32),
        ("first_frame", np.int32),
        ("amplitude", np.float32),
        ("significance", np.float32),
        ("margin", np.float32),
        ("transitions", np.int32),
        ("dwell_high", np.float32),
        ("dwell_low", np.float32),
        ("duty", np.float32),
        ("fit_quality", np.float32),
    ]
)


@dataclass(frozen=True)
class RegionResult:
    """What a region found.

    Attributes
    ----------
    region : Region
    steps : array of dtype ``events.STEP``
        Steps of pixels that fired, refitted, and of weak ones that may join a neighbour.
    telegraph : array of dtype ``TELEGRAPH``
    maps : dict of (ny, nx) float32 arrays
        ``rate`` and ``rate_error`` [DN per interval], ``reads``; every feature when asked for.
    tested, beyond : int
        Clean-looking pixels that were tested at the stated false-alarm rate, and those beyond it downwards:
        negative steps are false alarms but for telegraph noise.
    """

    region: Region
    steps: NDArray[Any]
    telegraph: NDArray[Any]
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    tested: int = 0
    beyond: int = 0


@dataclass(frozen=True)
class Limits:
    """Reads of a region that may be used: ``usable`` (T, ny, nx) or None for all, and below ``saturation`` (ny, nx) [DN]."""

    usable: NDArray[np.bool_] | None
    saturation: NDArray[np.float32]

    @staticmethod
    def of(
        prepared: Prepared,
        region: Region,
        flags: NDArray[np.uint8] | None,
        bad: NDArray[np.bool_] | None,
        saturation: NDArray[np.float32] | None,
    ) -> Limits:
        """Put flags, bad pixels and saturation levels together."""
        level = prepared.detector.saturation if saturation is None else saturation
        usable = None
        if flags is not None and flags.any():
            usable = flags == 0
        if bad is not None and bad.any():
            every = np.ones((prepared.detector.shape[1], *region.shape), np.bool_)
            usable = (every if usable is None else usable) & ~bad
        return Limits(usable, np.broadcast_to(np.asarray(level, np.float32), region.shape))


def region_features(
    data: NDArray[Any], prepared: Prepared, region: Region, limits: Limits
) -> NDArray[np.float32]:
    """Every temporal feature of a region, (planes, ny, nx) in the order of :data:`fmbdask_kernels.temporal.PLANES`."""
    p = prepared
    amplifier = p.detector.amplifier[region.x]
    prior = make_prior(
        region.shape[1], p.noise.variance[amplifier], p.noise.dof[amplifier], p.noise.noisy[amplifier],
        p.poisson, p.noise.rho_variance[amplifier],
    )  # fmt: skip
    return temporal.temporal_features(
        data, p.used, p.tables, prior, region_offsets(p.offsets, region),
        pattern=p.pattern, rho_floor=p.rho_floor, usable=limits.usable, saturation=limits.saturation,
        appearance_sigma=p.config.appearance_sigma,
    )  # fmt: skip


def search_region(
    data: NDArray[Any],
    prepared: Prepared,
    region: Region,
    limits: Limits,
    *,
    features: bool = False,
) -> RegionResult:
    """Search one region.

    Parameters
    ----------
    data : (T, ny, nx) array
        All frames of the region [DN].
    prepared : Prepared
        What the exposure's regions share.
    region : Region
    limits : Limits
        Reads that may be used.
    features : bool
        Whether to keep every temporal feature.

    Returns
    -------
    RegionResult
    """
    p = prepared
    amplifier = p.detector.amplifier[region.x]
    noise = p.noise
    planes = region_features(data, p, region, limits)
    # copies: a view would keep all planes of the region in memory until the exposure is reduced
    maps = {
        "rate": planes[temporal.RATE].copy(),
        "rate_error": _rate_error(planes, p),
        "reads": planes[temporal.READS].copy(),
    }
    active = _active(p, region)
    look = _look(planes, p, amplifier, active)
    chosen = np.flatnonzero((look.deep | look.telegraph).ravel())
    rows, columns = np.divmod(chosen, region.shape[1])
    origin = (region.y0, region.x0)
    ramps, used = gather_ramps(
        data, p.used, rows, columns, origin, p.correction.parts, limits.saturation, limits.usable
    )
    variance = noise.variance[amplifier[columns]]
    own = planes[temporal.READ_VARIANCE][rows, columns]
    bins = planes[temporal.RHO_BIN][rows, columns].astype(np.int64)
    scale = look.scale[rows, columns]
    common = (p.tables.rho[bins], p.rho_floor, p.poisson)
    dof = noise.dof[amplifier[columns]]
    refit = (p.refit[bins] * scale).astype(np.float64)
    steps = fit_steps(ramps, used, variance, dof, *common, refit, p.pattern, p.config.max_steps)
    telegraph = np.zeros(chosen.size, bool)
    found = np.zeros(0, TELEGRAPH)
    if p.config.telegraph and chosen.size:
        two_level = fit_telegraph(ramps, used, variance, dof, steps.rho, *common[1:], p.pattern, steps)
        least = p.config.telegraph_evidence
        telegraph = is_telegraph(two_level, min_evidence=least, min_margin=least)
        found = _telegraph_table(two_level, telegraph, p, region, rows, columns)
        _set(maps["rate"], rows[telegraph], columns[telegraph], two_level.rate[telegraph])
        _set(maps["rate_error"], rows[telegraph], columns[telegraph], two_level.rate_error[telegraph])
    plain = ~telegraph & (steps.count > 0)
    _set(maps["rate"], rows[plain], columns[plain], steps.rate[plain])
    _set(maps["rate_error"], rows[plain], columns[plain], steps.rate_error[plain])
    sigma = np.sqrt(np.where(own > noise.noisy[amplifier[columns]] * variance, own, variance))
    threshold = look.threshold
    parts = [
        _fitted_steps(steps, ~telegraph, p, region, rows, columns, scale, sigma, threshold),
        _weak_steps(planes, look, p, region, amplifier),
        _saturating_steps(data, planes, p, region, amplifier, limits),
    ]
    if telegraph.any():
        mask = np.zeros(region.shape, bool)
        mask[rows[telegraph], columns[telegraph]] = True
        parts = [s[~mask[s["y"] - region.y0, s["x"] - region.x0]] for s in parts]
    if features:
        maps |= {name: planes[i] for i, name in enumerate(temporal.PLANES) if name not in maps}
    quiet = active & (planes[temporal.READS] == p.used.size) & ~look.noisy
    quiet[rows[telegraph], columns[telegraph]] = False
    beyond = quiet & (look.drop > threshold)
    return RegionResult(region, np.concatenate(parts), found, maps, int(quiet.sum()), int(beyond.sum()))


@dataclass(frozen=True)
class _Look:
    """Calibrated statistics of the pixels of a region, and which of them are fitted again."""

    z: NDArray[np.float32]
    drop: NDArray[np.float32]
    scale: NDArray[np.float32]
    threshold: NDArray[np.float32]
    deep: NDArray[np.bool_]
    telegraph: NDArray[np.bool_]
    noisy: NDArray[np.bool_]


def _active(p: Prepared, region: Region) -> NDArray[np.bool_]:
    """Pixels of the region that see light."""
    rows, columns = p.detector.active
    y, x = np.arange(region.y0, region.y1), np.arange(region.x0, region.x1)
    inside: NDArray[np.bool_] = ((y >= rows.start) & (y < rows.stop))[:, None] & (
        (x >= columns.start) & (x < columns.stop)
    )
    return inside


def _look(
    planes: NDArray[np.float32], p: Prepared, amplifier: NDArray[np.int64], active: NDArray[np.bool_]
) -> _Look:
    """Calibrate significances, and choose what is worth another look."""
    noise = p.noise
    with np.errstate(invalid="ignore"):
        tested = active & np.isfinite(planes[temporal.STEP_SIGNIFICANCE])
        bins = np.where(tested, planes[temporal.RHO_BIN], 0).astype(np.int64)
        scale = np.where(bins == 0, noise.scale[amplifier, 0], noise.scale[amplifier, 1]).astype(np.float32)
        z = np.where(tested, planes[temporal.STEP_SIGNIFICANCE] / scale, 0).astype(np.float32)
        drop = np.where(tested, -planes[temporal.DROP_SIGNIFICANCE] / scale, 0).astype(np.float32)
        variance = noise.variance[amplifier]
        threshold = p.isolated[bins]
        if p.detector.gain and p.config.sigma_threshold is None:
            sky = np.maximum(np.where(tested, planes[temporal.RATE], 0), 0) * p.detector.gain
            skew = calibration.skewness(
                sky, np.sqrt(variance) * p.detector.gain, p.tables.rho[bins].astype(np.float64)
            )
            threshold = threshold + skew * (threshold**2 - 1) / 6
        threshold = threshold.astype(np.float32)
        free = np.maximum(planes[temporal.READS] - 2, 1)
        ratio = planes[temporal.READ_VARIANCE] / (variance * np.maximum(scale, 1) ** 2)
        chi = (ratio - 1) / np.sqrt(2 / free + 2 / np.maximum(noise.dof[amplifier], 2))
        noisy = tested & (planes[temporal.READ_VARIANCE] > noise.noisy[amplifier] * variance)
        deep = tested & ((z > p.refit[bins]) | (drop > threshold))
        telegraph = tested & (
            (np.maximum(z, drop) > threshold - NEARLY)
            | (chi > CHI_EXCESS)
            | (planes[temporal.ROUGHNESS] > noise.rough[amplifier])
        )
    return _Look(z, drop, scale, threshold, deep, telegraph & p.config.telegraph, noisy)


def _rate_error(planes: NDArray[np.float32], p: Prepared) -> NDArray[np.float32]:
    """Error of the plain generalised least-squares rate."""
    with np.errstate(invalid="ignore"):
        bins = np.where(np.isfinite(planes[temporal.RHO_BIN]), planes[temporal.RHO_BIN], 0).astype(np.int64)
        # fewer reads weigh with the cube of their number where read noise rules
        share = np.maximum(planes[temporal.READS], 1) / p.used.size
        error = planes[temporal.NOISE] / np.sqrt(p.tables.total[bins] * share**3)
    return np.asarray(error, np.float32)


def _set(
    image: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp], values: NDArray[np.float32]
) -> None:
    """Put values into an image where they are known."""
    known = np.isfinite(values)
    image[rows[known], columns[known]] = values[known]


def _fitted_steps(
    steps: Steps,
    wanted: NDArray[np.bool_],
    p: Prepared,
    region: Region,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    scale: NDArray[np.float32],
    sigma: NDArray[np.float32],
    threshold: NDArray[np.float32],
) -> NDArray[Any]:
    """Positive steps of the pixels that were fitted again, but for those that merely undo a negative one."""
    valid = np.arange(steps.frame.shape[1]) < steps.count[:, None]
    significance = np.where(valid, steps.significance / scale[:, None], 0)
    limit = threshold[rows, columns]
    fallen = np.where(valid & (significance < -limit[:, None]), -steps.amplitude, 0).sum(axis=1)
    keep = valid & wanted[:, None] & (steps.amplitude > 0)
    keep &= (fallen == 0)[:, None] | (steps.amplitude > 2.5 * fallen[:, None])
    k, i = np.nonzero(keep)
    out = np.zeros(k.size, STEP)
    out["integration"] = region.integration
    out["frame"] = p.used[steps.frame[k, i]]
    out["y"], out["x"] = rows[k] + region.y0, columns[k] + region.x0
    out["amplitude"], out["significance"] = steps.amplitude[k, i], significance[k, i]
    out["sigma"], out["threshold"] = sigma[k], limit[k]
    return out


def _weak_steps(
    planes: NDArray[np.float32], look: _Look, p: Prepared, region: Region, amplifier: NDArray[np.int64]
) -> NDArray[Any]:
    """Steps too weak to be fitted again: neighbours of a hit."""
    rows, columns = np.nonzero((look.z > p.config.weak_sigma) & ~look.deep)
    out = np.zeros(rows.size, STEP)
    out["integration"] = region.integration
    out["frame"] = planes[temporal.STEP_FRAME][rows, columns]
    out["y"], out["x"] = rows + region.y0, columns + region.x0
    out["amplitude"] = planes[temporal.STEP_AMPLITUDE][rows, columns]
    out["significance"] = look.z[rows, columns]
    out["sigma"] = np.sqrt(p.noise.variance[amplifier[columns]])
    out["threshold"] = look.threshold[rows, columns]
    return out


def _saturating_steps(
    data: NDArray[Any],
    planes: NDArray[np.float32],
    p: Prepared,
    region: Region,
    amplifier: NDArray[np.int64],
    limits: Limits,
) -> NDArray[Any]:
    """Steps that end at saturation: the last good read is far below, the next one at the ceiling."""
    level, usable = limits.saturation, limits.usable
    last_used = data[p.used[-1]]
    full = _active(p, region) & ((planes[temporal.READS] < p.used.size) | (last_used >= level))
    rows, columns = np.nonzero(full)
    if not rows.size:
        return np.zeros(0, STEP)
    raw = data[:, rows, columns][p.used].astype(np.float32)
    good = np.ones(raw.shape, bool) if usable is None else usable[:, rows, columns][p.used]
    raw[~np.isfinite(raw)] = np.nan
    above = (raw >= level[rows, columns]) & good
    at = above.argmax(axis=0)
    some = above.any(axis=0) & (at > 0)
    before = raw[np.maximum(at - 1, 0), np.arange(rows.size)]
    room = level[rows, columns] - before
    sigma = np.sqrt(p.noise.variance[amplifier[columns]])
    n = np.maximum(at, 1)
    rate = np.maximum((before - raw[0]) / np.maximum(n - 1, 1), 0)
    enough = JUMP_NOISE * sigma + JUMP_POISSON * (rate + np.sqrt(rate * p.poisson))
    keep = some & (room > enough)
    out = np.zeros(int(keep.sum()), STEP)
    out["integration"] = region.integration
    out["frame"] = p.used[at[keep]]
    out["y"], out["x"] = rows[keep] + region.y0, columns[keep] + region.x0
    out["amplitude"], out["significance"] = room[keep], SATURATING
    out["sigma"], out["threshold"] = sigma[keep], p.isolated[0]
    out["saturating"] = True
    return out


def _telegraph_table(
    fit: Telegraph,
    wanted: NDArray[np.bool_],
    p: Prepared,
    region: Region,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
) -> NDArray[Any]:
    """Telegraph pixels of the region."""
    out = np.zeros(int(wanted.sum()), TELEGRAPH)
    out["integration"] = region.integration
    out["y"], out["x"] = rows[wanted] + region.y0, columns[wanted] + region.x0
    out["first_frame"] = p.used[fit.first_frame[wanted]]
    # a likelihood ratio of 2 ln L is the square of a significance
    out["significance"] = np.sqrt(2 * np.maximum(fit.evidence[wanted], 0))
    for name in ("amplitude", "margin", "transitions", "dwell_high", "dwell_low", "duty", "fit_quality"):
        out[name] = getattr(fit, name)[wanted]
    return out
