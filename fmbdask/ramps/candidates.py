"""Candidates: the few pixels of a region that are worth more than the fused pass, fitted again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from fmbdask_kernels import temporal
from fmbdask_kernels.gather import gather_ramps
from fmbdask_kernels.steps import Steps, fit_steps
from fmbdask_kernels.telegraph import Telegraph, fit_telegraph, is_telegraph
from numpy.typing import NDArray

from ..regions import Region
from . import calibration
from .events import STEP
from .fading import early, evidence
from .plateaus import before_plateau
from .prepare import Prepared
from .rates import beginnings, rates_of

#: Excess of chi^2 [sigma] from which a pixel is looked at for telegraph noise.
CHI_EXCESS = 3.5
#: Steps that rise only, and no more than these, explain a ramp when no more than this excess of chi^2 is left
#: [sigma].
FEW, EXPLAINED = 1, 1.5
#: A further fall that does so neither [sigma].
FALLS = 3.0
#: A step of a telegraph pixel is a hit when it is larger than its flips by this factor.
DWARFS = 1.8
#: A step merely undoes negative ones when it is smaller than this many times their sum.
UNDONE = 2.5

#: Frames below which noise looks like two levels more often, in proportion: more evidence is asked for.
SHORT_RAMP = 50
#: Doubt in the steps of a pixel [sigma]: for each sigma of a fall beyond the least, for each sigma of chi^2
#: left over beyond the least, and for another step. See ``benchmarks/confidence.py``.
DOUBT, LEAST_FALL, LEAST_EXCESS, MOST_EXCESS, MOST_DOUBT = (1.7, 0.9, 1.2), 2.4, 0.5, 3.0, 4.0

#: Fewest flips of a pixel that is known for its telegraph noise: up and down once.
EXCURSION = 2

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
class Look:
    """Calibrated statistics of the pixels of a region, and which of them are fitted again."""

    z: NDArray[np.float32]
    drop: NDArray[np.float32]
    scale: NDArray[np.float32]
    threshold: NDArray[np.float32]
    deep: NDArray[np.bool_]
    telegraph: NDArray[np.bool_]
    noisy: NDArray[np.bool_]


def choose(
    planes: NDArray[np.float32],
    p: Prepared,
    region: Region,
    amplifier: NDArray[np.int64],
    active: NDArray[np.bool_],
) -> Look:
    """Calibrate significances, and choose what is worth another look."""
    noise = p.noise
    with np.errstate(invalid="ignore"):
        tested = active & np.isfinite(planes[temporal.STEP_SIGNIFICANCE])
        bins = np.where(tested, planes[temporal.RHO_BIN], 0).astype(np.int64)
        scale = np.where(bins == 0, noise.scale[amplifier, 0], noise.scale[amplifier, 1]).astype(np.float32)
        z = np.where(tested, planes[temporal.STEP_SIGNIFICANCE] / scale, 0).astype(np.float32)
        drop = np.where(tested, -planes[temporal.DROP_SIGNIFICANCE] / scale, 0).astype(np.float32)
        variance = noise.of(amplifier, region)
        threshold = _threshold(p, np.where(tested, planes[temporal.RATE], 0), bins, variance)
        free = np.maximum(planes[temporal.READS] - 2, 1)
        ratio = planes[temporal.READ_VARIANCE] / (variance * np.maximum(scale, 1) ** 2)
        chi = (ratio - 1) / np.sqrt(2 / free + 2 / np.maximum(noise.dof[amplifier], 2))
        noisy = tested & (planes[temporal.READ_VARIANCE] > noise.noisy[amplifier] * variance)
        deep = tested & ((z > p.refit[bins]) | (drop > threshold))
        telegraph = tested & (chi > CHI_EXCESS)
        if p.prior is not None:
            telegraph |= tested & p.prior.inside(region)
    return Look(z, drop, scale, threshold.astype(np.float32), deep, telegraph & p.config.telegraph, noisy)


def _threshold(
    p: Prepared, rate: NDArray[Any], bins: NDArray[np.int64], variance: NDArray[Any]
) -> NDArray[np.float64]:
    """Threshold of a lone pixel, raised for the skewness of Poisson noise at ``rate`` [DN per interval]."""
    threshold = p.isolated[bins]
    if p.detector.gain and p.config.sigma_threshold is None:
        skew = calibration.skewness(
            np.maximum(rate, 0) * p.detector.gain,
            np.sqrt(variance) * p.detector.gain,
            p.tables.rho[bins].astype(np.float64),
        )
        threshold = threshold + skew * (threshold**2 - 1) / 6
    return np.asarray(threshold)


@dataclass(frozen=True)
class Refitted:
    """Candidates of a region, fitted again.

    ``rows`` and ``columns`` (K,) in the region, ``two_level`` (K,): telegraph pixels; ``rate`` and
    ``rate_error`` (K,) [DN per interval], NaN where they are not known; ``steps`` of dtype
    ``events.STEP``, ``telegraph`` of dtype :data:`TELEGRAPH`.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    two_level: NDArray[np.bool_]
    rate: NDArray[np.float32]
    rate_error: NDArray[np.float32]
    steps: NDArray[Any]
    telegraph: NDArray[Any]


def refit(
    data: NDArray[Any],
    planes: NDArray[np.float32],
    p: Prepared,
    region: Region,
    seen: Look,
    saturation: NDArray[np.float32],
    usable: NDArray[np.bool_] | None,
) -> Refitted:
    """Fit several steps, and where these do not suffice two levels, to the candidates of a region.

    Parameters
    ----------
    data : (T, ny, nx) array
        All frames of the region [DN].
    planes : (planes, ny, nx) array
        What the fused pass says.
    p : Prepared
    region : Region
    seen : Look
        From :func:`choose`.
    saturation, usable
        As in :class:`fmbdask.ramps.region.Limits`.

    Returns
    -------
    Refitted
    """
    rows, columns = np.divmod(np.flatnonzero((seen.deep | seen.telegraph).ravel()), region.shape[1])
    amplifier = p.detector.amplifier[region.x][columns]
    ramps, used = gather_ramps(
        data, p.used, rows, columns, (region.y0, region.x0), p.correction.parts, saturation, usable,
        p.pattern[2] < 1,
    )  # fmt: skip
    variance = p.noise.pixels(p.detector.amplifier, region)[rows, columns]
    used = before_plateau(ramps, used, saturation[rows, columns], np.sqrt(variance))
    dof = p.noise.dof[amplifier]
    bins = planes[temporal.RHO_BIN][rows, columns].astype(np.int64)
    scale = seen.scale[rows, columns]
    threshold = (p.refit[bins] * scale).astype(np.float64)
    steps = fit_steps(
        ramps, used, variance, dof, p.tables.rho[bins], p.rho_floor, p.poisson, threshold, p.pattern,
        p.config.max_steps,
    )  # fmt: skip
    two_level, (hits, like_flips) = np.zeros(rows.size, bool), np.zeros((2, rows.size), np.int64)
    rate, rate_error = rates_of(ramps, used, beginnings(steps, used.shape[1]), p, region, rows, columns)
    bent = steps.bends > 0
    rate, rate_error = np.where(bent, steps.rate, rate), np.where(bent, steps.rate_error, rate_error)
    table = np.zeros(0, TELEGRAPH)
    gain = known_telegraph(p, region, rows, columns)
    open_ = np.flatnonzero(
        _unexplained(steps, used, variance * np.maximum(scale, 1) ** 2, dof)
        | ((gain > 0) & (steps.count > 0))
    )
    if p.config.telegraph and open_.size:
        few = steps.at(open_)
        fit = fit_telegraph(
            ramps[open_], used[open_], variance[open_], dof[open_], few.rho, p.rho_floor, p.poisson,
            p.pattern, few,
        )  # fmt: skip
        # two levels must not be found in clean ramps more often than steps are
        rarer = np.log(calibration.USUAL_RATE / p.config.false_alarm_rate)
        shorter = np.log(SHORT_RAMP / p.used.size)
        least = p.config.telegraph_evidence + max(0.0, rarer) + max(0.0, shorter)
        passed = is_telegraph(fit, min_evidence=least, min_margin=least)
        passed |= expected_telegraph(fit, least - gain[open_], gain[open_] > 0)
        table = _telegraph_table(fit, passed, p, region, rows[open_], columns[open_])
        chosen = open_[passed]
        two_level[chosen] = True
        # what is not much larger than the flips as fitted is one of them
        dwarfs = steps.amplitude[chosen] > DWARFS * fit.amplitude[passed][:, None]
        large = (dwarfs << np.arange(dwarfs.shape[1])).sum(axis=1)
        hits[chosen] = fit.hits[passed] & (large | fit.sure[passed])
        like_flips[chosen] = fit.sure[passed] & ~large
        rate[chosen], rate_error[chosen] = rates_of(
            ramps[chosen], used[chosen], beginnings(steps.at(chosen), used.shape[1], fit.hits[passed]),
            p, region, rows[chosen], columns[chosen], fit.high[passed],
        )  # fmt: skip
    # what the steps left over: before they were found, they were part of it
    own = steps.rss / _free(steps, used)
    sigma = np.sqrt(np.where(own > p.noise.noisy[amplifier] * variance, own, variance))
    # a large step, or the rise to saturation, passes for rate in the fused pass
    fitted = np.searchsorted(np.sqrt(p.tables.rho[1:] * p.tables.rho[:-1]), steps.rho)
    limit = np.where(steps.count > 0, _threshold(p, np.nan_to_num(steps.rate), fitted, variance), np.inf)
    limit = np.minimum(limit, seen.threshold[rows, columns])
    excess = _excess(steps, used, variance * np.maximum(scale, 1) ** 2, dof)
    doubt = np.where(two_level, 0, _doubt(steps, excess, scale))
    # of two rises that follow each other one is a hit, but which of them only the neighbours know
    bits = (like_flips[:, None] >> np.arange(steps.frame.shape[1])) & 1
    doubt = np.where(bits > 0, np.inf, doubt[:, None])
    found, owner = _fitted_steps(steps, two_level, hits, p, region, rows, columns, scale, sigma, limit, doubt)
    # steps that are all there is to see on their pixels
    alone = np.flatnonzero(early(found["frame"], p) & ((steps.count == 1) & ~bent & ~two_level)[owner])
    at = owner[alone]
    found["gains"][alone] = evidence(ramps[at], used[at], found["sigma"][alone] ** 2, steps.rho[at], p)
    if p.prior is not None and p.config.telegraph:
        flips = p.prior.flips(
            found["y"].astype(np.intp), found["x"].astype(np.intp), found["amplitude"], found["sigma"]
        )
        flips &= ~found["saturating"]
        fired = found[flips & (found["significance"] > found["threshold"])]
        table = np.concatenate([table, lone_flips(fired, table)])
        found = found[~flips]
    return Refitted(rows, columns, two_level, rate, rate_error, found, table)


def known_telegraph(
    p: Prepared, region: Region, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Gain of the log-odds of telegraph noise that the history of the detector gives pixels, (K,)."""
    if p.prior is None:
        return np.zeros(rows.size)
    return p.prior.telegraph(rows + region.y0, columns + region.x0)


def expected_telegraph(
    fit: Telegraph, least: NDArray[np.float64], known: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Known telegraph pixels whose evidence and prior odds together pass, with one excursion or more."""
    passed = is_telegraph(fit, min_evidence=0.0, min_margin=0.0, min_transitions=EXCURSION)
    passed &= known & (fit.evidence > least) & (fit.margin > least)
    return np.asarray(passed)


def lone_flips(steps: NDArray[Any], found: NDArray[Any]) -> NDArray[Any]:
    """Telegraph pixels whose single steps are flips, as far as two levels were not fitted to them."""
    place = steps["y"].astype(np.int64) << 32 | steps["x"]
    taken = found["y"].astype(np.int64) << 32 | found["x"]
    steps, place = steps[~np.isin(place, taken)], place[~np.isin(place, taken)]
    _, first, count = np.unique(place, return_index=True, return_counts=True)
    out = np.zeros(first.size, TELEGRAPH)
    for name in ("integration", "y", "x", "amplitude", "significance"):
        out[name] = steps[name][first]
    out["first_frame"] = steps["frame"][first]
    out["transitions"] = count
    for name in ("margin", "dwell_high", "dwell_low", "duty", "fit_quality"):
        out[name] = np.nan
    return out


def _free(steps: Steps, used: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Degrees of freedom that the fit of each ramp leaves."""
    free: NDArray[np.float32] = np.maximum(used.sum(axis=1) - 2 - steps.count - steps.bends, 1).astype(
        np.float32
    )
    return free


def _unexplained(
    steps: Steps, used: NDArray[np.bool_], variance: NDArray[np.float32], dof: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Ramps that fall, or are more than noisy after the few steps and bends they have."""
    valid = np.arange(steps.frame.shape[1]) < steps.count[:, None]
    falls = (valid & (steps.amplitude < 0)).any(axis=1) | (steps.fall > FALLS)
    return np.asarray(falls | (steps.count > FEW) | ~(_excess(steps, used, variance, dof) <= EXPLAINED))


def _excess(
    steps: Steps, used: NDArray[np.bool_], variance: NDArray[np.float32], dof: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What the fits leave over of chi^2, above what noise of ``variance`` would [sigma]."""
    free = _free(steps, used)
    return np.asarray((steps.rss / (free * variance) - 1) / np.sqrt(2 / free + 2 / np.maximum(dof, 2)))


def _doubt(steps: Steps, excess: NDArray[np.float64], scale: NDArray[np.float32]) -> NDArray[np.float64]:
    """By how much what else a pixel shows makes less of its steps [sigma].

    A ramp with one hit shows nothing more; a telegraph pixel too faint to be fitted also falls, is noisier
    than its neighbours, or has another step. The weights are the ratios of coefficients of a logistic
    regression on lone steps; a clean ramp has no doubt but by chance.
    """
    falls, left, others = DOUBT
    value = falls * np.maximum(steps.fall / scale - LEAST_FALL, 0)
    value += left * np.clip(excess - LEAST_EXCESS, 0, MOST_EXCESS)
    return np.asarray(np.minimum(value + others * (steps.count > 1), MOST_DOUBT))


def _fitted_steps(
    steps: Steps,
    two_level: NDArray[np.bool_],
    hits: NDArray[np.int64],
    p: Prepared,
    region: Region,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    scale: NDArray[np.float32],
    sigma: NDArray[np.float32],
    limit: NDArray[np.float64],
    doubt: NDArray[np.float64],
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Positive steps of the pixels that were fitted again, but for those that merely undo a negative one.

    Beside them the number of the pixel of each. Of the steps of a telegraph pixel only those that dwarf its
    flips are hits.
    """
    valid = np.arange(steps.frame.shape[1]) < steps.count[:, None]
    significance = np.where(valid, steps.significance / scale[:, None], 0)
    fallen = np.where(valid & (significance < -limit[:, None]), -steps.amplitude, 0).sum(axis=1)
    undone = (fallen > 0)[:, None] & (steps.amplitude <= UNDONE * fallen[:, None])
    dwarfs = (hits[:, None] >> np.arange(steps.frame.shape[1])) & 1 > 0
    keep = valid & (steps.amplitude > 0) & np.where(two_level[:, None], dwarfs, ~undone)
    k, i = np.nonzero(keep)
    out = np.zeros(k.size, STEP)
    out["integration"] = region.integration
    out["frame"] = p.used[steps.frame[k, i]]
    out["y"], out["x"] = rows[k] + region.y0, columns[k] + region.x0
    out["amplitude"], out["significance"] = steps.amplitude[k, i], significance[k, i]
    out["sigma"], out["threshold"], out["doubt"] = sigma[k], limit[k], doubt[k, i]
    return out, k


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
