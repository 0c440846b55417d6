"""Telegraph noise in single ramps: a two-level model with dwell times, against everything simpler.

The likelihood is that of a variance moderated by its prior, with a small chance of being anything else, so a
pixel that is only noisier than its neighbours gains little from splitting its noise in two.
:mod:`fmbdask_kernels.twolevel` has the model, :mod:`fmbdask_kernels.rivals` what it is compared with.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .covariance import timing
from .flips import STARTS, alternating, choose_hits, prepare
from .jit import ZERO, kernel, stage
from .pathsum import evidence_of_all_paths
from .projection import DIFFERENCE, TERM_ROWS, WORK_ROWS, differences, recall, restart, strongest, tables
from .rivals import FADING_EVIDENCE, fading, outlier, positive_steps, remove_fading
from .steps import Steps, spread_over
from .twolevel import (
    HOPELESS,
    LEVEL,
    READ_ROWS,
    SHAPE,
    TIME,
    gains,
    likelihood,
    quiet,
    search,
)

Float = NDArray[np.float32]

#: Flips from which short dwells are believed.
OFTEN = 8

#: Up to this evidence of the best path all paths are summed, if it would pay for itself with known variance.
CERTAIN = 10.0


class Telegraph(NamedTuple):
    """Two-level fits of K ramps, see :func:`fit_telegraph`."""

    evidence: Float
    margin: Float
    amplitude: Float
    transitions: NDArray[np.int32]
    first_frame: NDArray[np.int32]
    downs: NDArray[np.int32]
    duty: Float
    dwell_high: Float
    dwell_low: Float
    level: Float
    rate: Float
    rate_error: Float
    fit_quality: Float
    chi2: Float
    hits: NDArray[np.int64]
    sure: NDArray[np.int64]
    high: NDArray[np.bool_]


@stage
def describe(p, ramp, index, n, sigma, slope, total, rss, fit, reads, path, out, counts):
    """Write what the best path says about ramp ``p``; ``fit`` as returned by :func:`search`."""
    _, amplitude, information, share = fit
    rate = slope - amplitude * share
    y, time, shape = reads[LEVEL], reads[TIME], reads[SHAPE]
    high, mean, mean_low = 0, 0.0, 0.0
    for i in range(n):
        shape[i] = y[i] - rate * time[i]
        mean += shape[i] / n
        mean_low += (shape[i] - amplitude * path[i]) / n
        high += path[i]
    whole, left = 0.0, 0.0
    ups, downs, first = 0, 0, -1
    for i in range(n):
        whole += (shape[i] - mean) ** 2
        left += (shape[i] - amplitude * path[i] - mean_low) ** 2
        if i and path[i] != path[i - 1]:
            first = index[i] if first < 0 else first
            ups += path[i]
            downs += path[i - 1]
    counts[0, p], counts[1, p], counts[2, p] = ups + downs, first, downs
    out[2, p] = amplitude * sigma
    out[3, p] = high / n
    out[4, p] = high / max(downs, 1)
    out[5, p] = (n - high) / max(ups, 1)
    out[6, p] = ramp[index[0]] + mean_low * sigma
    out[7, p] = rate * sigma
    out[8, p] = sigma * math.sqrt(1.0 / total + share * share / information)
    out[9, p] = max(0.0, 1.0 - left / whole) if whole > 0 else 0.0
    out[10, p] = rss - amplitude * amplitude * information


@kernel
def _fit(
    ramps, used, variance, dof, rho, rho_floor, poisson, pattern, count, frame, size, rss_steps,
    out, counts, hit_bits, high,
):  # fmt: skip
    """The loop behind :func:`fit_telegraph`."""
    pixels, frames = ramps.shape
    limit = frame.shape[1]
    work, model, reads = np.zeros((WORK_ROWS, frames)), np.zeros((5, frames)), np.zeros((READ_ROWS, frames))
    basis, terms = np.zeros((limit, frames)), np.zeros((TERM_ROWS, limit))
    cross, inverse = np.zeros((limit, limit)), np.zeros((limit, limit))
    where, chosen = np.zeros(limit, np.int64), np.zeros(limit, np.int64)
    index, known = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
    back = np.zeros(frames, np.int64)
    path, best = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
    n_known, rho_known, total = ZERO, -1.0, 0.0
    for p in range(pixels):
        n = differences(ramps[p], used[p], index, work[DIFFERENCE])
        m = n - 1
        if m < 7 or not variance[p] > 0:
            continue
        steps, rising = count[p], True
        for i in range(steps):
            rising &= size[p, i] > 0
        if rising and rss_steps[p] / variance[p] < quiet(m):
            continue
        if not recall(index, known, n, n_known):
            timing(pattern, index[:n], model)
            n_known, rho_known = n, -1.0
        sigma = math.sqrt(variance[p])
        ratio = max(rho[p], rho_floor)
        prepare(ramps[p], used[p], index, sigma, pattern, frame[p], size[p], steps, ZERO, work, reads)
        if ratio != rho_known:
            total = tables(model, m, ratio, work)
            gains(model, n, ratio, reads)
            rho_known = ratio
        hits, sure = choose_hits(
            ramps[p], used[p], index, n, sigma, pattern, frame[p], size[p], steps, rss_steps[p], model,
            total, dof[p], work, reads, back, path, best,
        )  # fmt: skip
        prepare(ramps[p], used[p], index, sigma, pattern, frame[p], size[p], steps, hits, work, reads)
        hit_bits[1, p] = sure
        hit_bits[0, p] = hits
        known_path = alternating(index, n, frame[p], size[p], steps, hits, path) > 1
        fades = False
        for _ in range(3):
            if ratio != rho_known:
                total = tables(model, m, ratio, work)
                gains(model, n, ratio, reads)
                rho_known = ratio
            slope, rss = restart(m, total, work)
            _, single = strongest(m, work)
            single = max(single, outlier(m, total, work))
            out[0, p], out[1, p] = 0.0, 0.0
            if rss < quiet(m):
                break
            base = likelihood(rss, m, dof[p])
            fit = search(
                reads,
                model,
                m,
                total,
                work,
                slope,
                rss,
                dof[p],
                STARTS,
                known_path,
                back,
                path,
                best,
            )
            gain = fit[1] * fit[1] * fit[2]
            if_known = fit[0] + 0.5 * gain - likelihood(rss - gain, m, dof[p]) + base
            if CERTAIN > fit[0] > HOPELESS * m and if_known > 0:
                evidence = evidence_of_all_paths(reads, n, best, fit, slope, rss, ratio, rho_floor, dof[p])
                fit = (max(fit[0], evidence), fit[1], fit[2], fit[3])
            rival = likelihood(rss - single, m, dof[p]) - base - 1.5 * math.log(m)
            margin = fit[0] - max(rival, 0.0)
            out[0, p], out[1, p] = fit[0], margin
            if margin <= 0:
                break
            gain, faded, lasting = fading(reads, m, total, work)
            rival = likelihood(rss - gain, m, dof[p]) - base - math.log(m)
            if rival > FADING_EVIDENCE and not fades:
                # the current is stronger at first, and so is its noise: judge flips by the noise it has there
                remove_fading(reads, n, faded, lasting, work)
                fades = True
                peak = max(slope, 0.0) + abs(faded) / lasting
                ratio = max(peak * poisson[p] / sigma, ratio)
                continue
            margin = min(margin, fit[0] - rival)
            describe(p, ramps[p], index, n, sigma, slope, total, rss, fit, reads, best, out, counts)
            for i in range(n):
                high[p, index[i]] = best[i] > 0
            steps_up, k = 0, 0
            for i in range(steps):
                while k < n - 2 and index[k + 1] < frame[p, i]:
                    k += 1
                if size[p, i] > 0 and not (hits >> i) & 1:
                    chosen[steps_up] = k
                    steps_up += 1
            if steps_up and margin > 0:
                left, kept = positive_steps(
                    chosen[:steps_up], m, total, work, basis, cross, terms, where, inverse
                )
                rival = likelihood(left, m, dof[p]) - base - 1.5 * kept * math.log(m)
                margin = min(margin, fit[0] - rival)
            out[1, p] = margin
            if fades or not poisson[p] > 0:
                break
            wanted = max(out[7, p] * poisson[p] / variance[p], rho_floor)
            if abs(wanted - ratio) <= 0.1 * ratio:
                break
            ratio = wanted


def fit_telegraph(
    ramps: ArrayLike,
    used: ArrayLike,
    variance: ArrayLike,
    dof: ArrayLike,
    rho: ArrayLike,
    rho_floor: float,
    poisson: ArrayLike,
    pattern: ArrayLike,
    steps: Steps,
) -> Telegraph:
    """Fit two levels with dwell times to candidate ramps, and say by how much they beat simpler models.

    Parameters
    ----------
    ramps, used, variance, dof, rho, rho_floor, poisson, pattern
        As in :func:`fmbdask_kernels.steps.fit_steps`; ``rho`` is best the one that it returned.
    steps : Steps
        What :func:`fmbdask_kernels.steps.fit_steps` found in the same ramps. They start the search, provide
        the rival made of positive steps, and hits that dwarf the flips are taken out of the ramp.

    Returns
    -------
    Telegraph
        Arrays (K,). ``evidence``: log-likelihood gained over one level and slope, minus the code length of
        the path (or, where larger, with all paths summed); ``margin``: evidence minus that of the best rival
        (nothing, one step, one bad read, positive steps with a rate that is not negative, a decaying
        current), both 0 where the ramp needs no second level; ``amplitude`` [DN] >= 0; ``transitions``;
        ``first_frame`` of the first flip, -1 without; ``downs``, flips downwards; ``duty``, fraction of reads
        in the high state; ``dwell_high``, ``dwell_low`` [reads], reads in a state per exit from it; ``level``
        [DN] of the low state at the first read in use; ``rate``, ``rate_error`` [DN per mean interval];
        ``fit_quality``, R^2 of the two levels once the slope is removed; ``chi2`` left over [read variances];
        ``hits``, bit i set where step i of ``steps`` was taken out as a hit, because it dwarfs the flips or,
        in ``sure`` as well, because flips alternate better without it; ``high`` (K, N), the reads in the
        high state.
        Fitted values are NaN where ``margin`` never came out positive.
    """
    data = np.ascontiguousarray(ramps, np.float32)
    pixels = data.shape[0]
    out = np.full((11, pixels), np.nan, np.float32)
    out[:2] = 0.0
    counts = np.zeros((3, pixels), np.int32)
    counts[1] = -1
    hits, high = np.zeros((2, pixels), np.int64), np.zeros(data.shape, np.bool_)
    _fit(
        data,
        np.ascontiguousarray(used, np.bool_),
        spread_over(variance, pixels),
        spread_over(dof, pixels),
        spread_over(rho, pixels),
        float(rho_floor),
        spread_over(poisson, pixels),
        np.ascontiguousarray(pattern, np.float64),
        steps.count,
        steps.frame,
        steps.amplitude,
        steps.rss,
        out,
        counts,
        hits,
        high,
    )
    return Telegraph(*out[:3], *counts, *out[3:], *hits, high)  # type: ignore[call-arg]


def is_telegraph(
    result: Telegraph,
    *,
    min_evidence: float = 5.0,
    min_margin: float = 5.0,
    min_transitions: int = 3,
    min_dwell: float = 1.5,
    min_dwell_often: float = 1.2,
) -> NDArray[np.bool_]:
    """Decide which ramps are telegraph noise.

    Parameters
    ----------
    result : Telegraph
        From :func:`fit_telegraph`.
    min_evidence, min_margin : float
        Least evidence, and least lead over the best rival [natural logarithm].
    min_transitions : int
        Fewest flips; two are a single excursion, which a decaying hit or a settling read make as well.
    min_dwell, min_dwell_often : float
        Least mean dwell of the shorter state [reads]; below it are single bad reads. The second is for ramps
        that flip eight times or more: so many bad reads do not reach one and the same level.

    Returns
    -------
    (K,) bool array

    Notes
    -----
    Measured on simulated ramps, dark and at 5 electrons per read, that the thresholds were not chosen on. Of
    ramps of 60 to 450 reads with up to four hits, bad reads, steep slopes or pink noise fewer than one in
    10 000 pass, with persistence (and a hit) 2 (4) in 10 000, with 1.7 to 3 times the noise of their prior
    one in 1000; of 20 to 30 reads none with hits, one in 1000 with persistence, 4 to 20 in 1000 of the noisy
    ones. Telegraph noise of 3, 4 and 5 sigma with dwells of 2 to 10 reads passes in .91, 1.00 and 1.00 of
    450 reads, .64, .96 and .99 of 100, .37, .85 and .95 of 60, .02, .21 and .52 of 20.
    """
    dwell = np.minimum(result.dwell_high, result.dwell_low)
    passed = (result.evidence > min_evidence) & (result.margin > min_margin)
    least = np.where(result.transitions >= OFTEN, min_dwell_often, min_dwell)
    flips = (result.transitions >= min_transitions) & (result.downs > 0) & (dwell >= least)
    return np.asarray(passed & flips)
