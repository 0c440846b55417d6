"""Telegraph noise in single ramps: a two-level model with dwell times, against everything simpler.

The path of a pixel between two levels is found by the Viterbi algorithm (Viterbi 1967) on two hypotheses per
read, each carrying its own Kalman estimate of level and slope, so that Poisson noise and drifts do not count
as flips. Amplitude and rate are refitted to the path by generalised least squares under the exact covariance
of the differences, and the two are alternated. A path pays for its flips with a code length (Rissanen 1978):
a two-state Markov chain with the transition probabilities it has itself, and half a logarithm for every
parameter. The likelihood is that of a variance moderated by its prior, so a pixel that is only noisier than
its neighbours gains nothing from splitting its noise in two.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .covariance import timing
from .jit import kernel
from .projection import DECAY, DEGENERATE, DIAGONAL, DIFFERENCE, FREE, SOLVED, UNIT, WEIGHT, WORK_ROWS
from .projection import add, differences, joint, restart, same, strongest, tables
from .steps import Steps, spread_over

Float = NDArray[np.float32]

#: Rows of the second work array, each over the reads of a ramp.
LEVEL, TIME, READ, GAIN, DRIFT_GAIN, HALF, SHAPE = range(7)

#: Degrees of freedom beyond which no prior of the variance is believed.
DOF_LIMIT = 300.0

#: Degrees of freedom of the variance of pixels that do not follow the prior, and the logarithm of their share.
NOISY_DOF, NOISY_LOG = 2.0, math.log(1e-3)

#: A positive step is a hit, not a flip, when it exceeds this many sigma and this many times any negative step.
#: More of them than this are a staircase laid over a curve, and stay in the ramp.
HIT_SIGMA, HIT_RATIO, MOST_HITS = 8.0, 2.5, 3

#: Amplitudes [sigma] the alternation starts from, besides that of the steps already found.
STARTS = (3.0, 6.0)
TURNS = 4

#: Decay times of a fading current that is tried instead, in units of the length of the ramp.
DECAYS = (0.03, 0.1, 0.3, 1.0)

#: Log-likelihood gain from which a decaying current is taken out before flips are looked for.
FADING_EVIDENCE = 8.0

#: Prior amplitude [sigma] that sets how well the slope is known before the first path.
SLOPE_AMPLITUDE = 6.0


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


@kernel
def gains(model, n, rho, reads):
    """Kalman gains of level and slope, equal for every path: they depend on times and noise only."""
    span = reads[TIME, n - 1]
    level, cross = 1e6, 0.0
    slope = (SLOPE_AMPLITUDE / span) ** 2
    for i in range(n):
        if i:
            dt = model[0, i - 1]
            level += dt * (2 * cross + dt * slope + rho)
            cross += dt * slope
        total = level + reads[READ, i]
        reads[GAIN, i], reads[DRIFT_GAIN, i], reads[HALF, i] = level / total, cross / total, 0.5 / total
        slope -= cross * cross / total
        cross -= cross * level / total
        level -= level * level / total


@kernel
def viterbi(reads, n, amplitude, slope, model, cost, back, path):
    """Most likely path of states; ``cost`` = (stay low, go up, stay high, go down)."""
    y, gain, drift, half = reads[LEVEL], reads[GAIN], reads[DRIFT_GAIN], reads[HALF]
    stay_low, up, stay_high, down = cost
    # both hypotheses carry the low level; the one in the high state sees it through the amplitude
    low_level, high_level = y[0], y[0] - amplitude
    low_slope = high_slope = slope
    low_cost = high_cost = 0.0
    for i in range(1, n):
        dt, h = model[0, i - 1], half[i]
        low_ahead = low_level + low_slope * dt
        high_ahead = high_level + high_slope * dt
        from_low = y[i] - low_ahead
        from_high = y[i] - high_ahead
        low_to_high = from_low - amplitude
        high_to_high = from_high - amplitude
        a = low_cost + (stay_low + h * from_low * from_low)
        b = high_cost + (down + h * from_high * from_high)
        c = low_cost + (up + h * low_to_high * low_to_high)
        e = high_cost + (stay_high + h * high_to_high * high_to_high)
        fell, rose = b < a, c < e
        back[i] = (1 if fell else 0) | (2 if rose else 0)
        g, s = gain[i], drift[i]
        old_low_slope = low_slope
        low_cost = b if fell else a
        low_level = high_ahead + g * from_high if fell else low_ahead + g * from_low
        low_slope = high_slope + s * from_high if fell else low_slope + s * from_low
        high_cost = c if rose else e
        high_level = low_ahead + g * low_to_high if rose else high_ahead + g * high_to_high
        high_slope = old_low_slope + s * low_to_high if rose else high_slope + s * high_to_high
    state = 0 if low_cost <= high_cost else 1
    for i in range(n - 1, -1, -1):
        path[i] = state
        state ^= (back[i] >> state) & 1 if i else 0


@kernel
def refit(path, m, total, work):
    """Regress the differences on the flips of a path beside the slope.

    Returns (amplitude, information on it, share of the slope): chi^2 falls by amplitude^2 times information,
    the slope by amplitude times share.
    """
    decay, weight, unit, solved = work[DECAY], work[WEIGHT], work[UNIT], work[SOLVED]
    carried, square, along, product = 0.0, 0.0, 0.0, 0.0
    for i in range(m):
        flip = float(path[i + 1] - path[i])
        carried = flip + (decay[i - 1] * carried if i else 0.0)
        square += carried * carried * weight[i]
        along += flip * unit[i]
        product += flip * solved[i]
    information = square - along * along / total
    if information <= 1e-9 * square or square == 0:
        return 0.0, 0.0, 0.0
    return product / information, information, along / total


@kernel
def census(path, n):
    """Returns (reads in the low and high state that have a successor, flips up, flips down)."""
    low, high, ups, downs = 0, 0, 0, 0
    for i in range(n - 1):
        if path[i]:
            high += 1
            downs += 1 - path[i + 1]
        else:
            low += 1
            ups += path[i + 1]
    return low, high, ups, downs


@kernel
def entropy(flips, stays):
    """Code length of a state's exits and stays with the probability they have."""
    if flips == 0 or stays == 0:
        return 0.0
    total = flips + stays
    return -flips * math.log(flips / total) - stays * math.log(stays / total)


@kernel
def prices(low, high, ups, downs):
    """Costs of the four transitions, from counts that are kept away from certainty."""
    up = min(0.6, (ups + 0.5) / (low + 1.0))
    down = min(0.6, (downs + 0.5) / (high + 1.0))
    return -math.log(1 - up), -math.log(up), -math.log(1 - down), -math.log(down)


@kernel
def student(rss, m, dof):
    """Log of the Student density of ``m`` differences with ``rss`` [read variances], up to a constant of m."""
    return (
        math.lgamma(0.5 * (m + dof))
        - math.lgamma(0.5 * dof)
        + 0.5 * dof * math.log(dof)
        - 0.5 * (m + dof) * math.log(max(rss, 0.0) + dof)
    )


@kernel
def likelihood(rss, m, dof):
    """Log-likelihood of ``m`` differences that leave ``rss`` [read variances] behind.

    The variance is the prior one within its uncertainty or, with a small probability, that of a pixel which
    is far noisier than its neighbours.
    """
    known = student(rss, m, min(max(dof, NOISY_DOF), DOF_LIMIT))
    noisy = student(rss, m, NOISY_DOF) + NOISY_LOG
    return max(known, noisy) + math.log1p(math.exp(-abs(known - noisy)))


@kernel
def search(reads, model, m, total, work, slope, rss, dof, starts, back, path, best):
    """Alternate path and refit from each start; the best path goes to ``best``; returns its evidence and fit."""
    n = m + 1
    base = likelihood(rss, m, dof)
    found = (-np.inf, 0.0, 0.0, 0.0)
    enough = m + 1.5 * math.sqrt(2.0 * m)
    for start in starts:
        if not start > 0 or rss - found[1] * found[1] * found[2] < enough:
            continue
        amplitude, b, last = start, slope, -1.0
        cost = (0.1, 2.4, 0.1, 2.4)
        for _ in range(TURNS):
            viterbi(reads, n, amplitude, b, model, cost, back, path)
            amplitude, information, share = refit(path, m, total, work)
            gain = amplitude * amplitude * information
            if abs(gain - last) < 1e-3 * gain or gain == 0:
                break
            last = gain
            if amplitude < 0:
                for i in range(n):
                    path[i] = 1 - path[i]
                amplitude, share = -amplitude, -share
            low, high, ups, downs = census(path, n)
            code = entropy(ups, low - ups) + entropy(downs, high - downs) + 1.5 * math.log(m) + math.log(2.0)
            evidence = likelihood(rss - gain, m, dof) - base - code
            if evidence > found[0]:
                found = (evidence, amplitude, information, share)
                best[:n] = path[:n]
            if amplitude < 0.5:
                break
            b = slope - amplitude * share
            cost = prices(low, high, ups, downs)
    return found


@kernel
def positive_steps(chosen, m, total, work, basis, where, top, inverse, amplitude, spread):
    """Fit steps and a rate none of which may be negative; returns (chi^2, steps kept)."""
    count = 0
    for k in chosen:
        where[count] = k
        count += 1
    free_rate = True
    while True:
        norm = total if free_rate else np.inf
        slope, rss = restart(m, norm, work)
        for i in range(count):
            rss -= add(where[i], i, m, norm, work, basis, where, top)
        change, _ = joint(count, norm, work, basis, where, top, inverse, amplitude, spread)
        if free_rate and slope + change < 0:
            free_rate = False
            continue
        worst = -1
        for i in range(count):
            if amplitude[i] < 0 and (worst < 0 or amplitude[i] < amplitude[worst]):
                worst = i
        if worst < 0:
            return rss, count
        for i in range(worst, count - 1):
            where[i] = where[i + 1]
        count -= 1


@kernel
def outlier(m, total, work):
    """Largest fall of chi^2 by one bad read."""
    decay, diagonal, unit = work[DECAY], work[DIAGONAL], work[UNIT]
    solved, free, best = work[SOLVED], work[FREE], 0.0
    for i in range(m - 1):
        shared = diagonal[i + 1] * decay[i] - unit[i] * unit[i + 1] / total
        information = free[i] + free[i + 1] - 2 * shared
        change = solved[i] - solved[i + 1]
        if information > DEGENERATE * diagonal[i]:
            best = max(best, change * change / information)
    return best


@kernel
def fade(lasting, reads, m, total, work):
    """Fit a current that decays within ``lasting`` on top of the slope; returns (fall of chi^2, size)."""
    decay, weight, unit, solved, time = work[DECAY], work[WEIGHT], work[UNIT], work[SOLVED], reads[TIME]
    carried, square, along, product = 0.0, 0.0, 0.0, 0.0
    left, factor, last_dt = 1.0, 1.0, -1.0
    for i in range(m):
        dt = time[i + 1] - time[i]
        if dt != last_dt:
            factor, last_dt = math.exp(-dt / lasting), dt
        rise = left - left * factor
        left -= rise
        carried = rise + (decay[i - 1] * carried if i else 0.0)
        square += carried * carried * weight[i]
        along += rise * unit[i]
        product += rise * solved[i]
    information = square - along * along / total
    if information <= 1e-6 * square:
        return 0.0, 0.0
    return product * product / information, product / information


@kernel
def fading(reads, m, total, work):
    """Decaying current that explains most: returns (fall of chi^2, size, decay time)."""
    best = (0.0, 0.0, 1.0)
    for share in DECAYS:
        lasting = share * reads[TIME, m]
        gain, size = fade(lasting, reads, m, total, work)
        if gain > best[0]:
            best = (gain, size, lasting)
    factor = 1.8
    while best[0] > 2 * FADING_EVIDENCE and factor > 1.01:
        centre = best[2]
        for lasting in (centre / factor, centre * factor):
            gain, size = fade(lasting, reads, m, total, work)
            if gain > best[0]:
                best = (gain, size, lasting)
        factor = math.sqrt(factor)
    return best


@kernel
def remove_fading(reads, n, size, lasting, work):
    """Take a decaying current out of the ramp."""
    before = 0.0
    for i in range(1, n):
        risen = size * (1.0 - math.exp(-reads[TIME, i] / lasting))
        work[DIFFERENCE, i - 1] -= risen - before
        reads[LEVEL, i] -= risen
        before = risen


@kernel
def quiet(m):
    """Chi^2 of ``m`` differences below which no path of three flips could pay for itself."""
    half = 0.5 * m
    code = entropy(2, half) + entropy(1, half) + 1.5 * math.log(m) + math.log(2.0)
    return m + 2 * code - 2 * math.sqrt(2.0 * m)


@kernel
def prepare(ramp, index, n, sigma, pattern, frame, amplitude, steps, work, reads):
    """Ramp in units of sigma without its hits; returns how many flips are left, their mean size and a mask of hits.

    A hit stays in the ramp for ever and dwarfs the flips; taking it out leaves them as they were.
    """
    d, y, time = work[DIFFERENCE], reads[LEVEL], reads[TIME]
    deepest = 0.0
    for i in range(steps):
        deepest = max(deepest, -amplitude[i])
    limit = max(HIT_SIGMA * sigma, HIT_RATIO * deepest)
    large = 0
    for i in range(steps):
        large += amplitude[i] > limit
    if large > MOST_HITS:
        limit = np.inf
    k, flips, size, hits = 0, 0, 0.0, 0
    for i in range(steps):
        if amplitude[i] > limit:
            while k < n - 2 and index[k + 1] < frame[i]:
                k += 1
            d[k] -= amplitude[i]
            hits |= 1 << i
        else:
            flips += 1
            size += abs(amplitude[i])
    inverse = 1.0 / sigma
    y[0] = time[0] = 0.0
    reads[READ, 0] = pattern[2, index[0]]
    for i in range(n - 1):
        d[i] *= inverse
        y[i + 1] = y[i] + d[i]
        time[i + 1] = pattern[0, index[i + 1]] - pattern[0, index[0]]
        reads[READ, i + 1] = pattern[2, index[i + 1]]
    return flips, size * inverse / max(flips, 1), deepest * inverse, hits


@kernel
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
    ramps, used, variance, dof, rho, rho_floor, poisson, pattern, count, frame, size, rss_steps, out, counts
):
    """The loop behind :func:`fit_telegraph`."""
    pixels, frames = ramps.shape
    limit = frame.shape[1]
    work, model, reads = np.zeros((WORK_ROWS, frames)), np.zeros((5, frames)), np.zeros((7, frames))
    basis, inverse = np.zeros((limit, frames)), np.zeros((limit, limit))
    where, top, chosen = np.zeros(limit, np.int64), np.zeros(limit), np.zeros(limit, np.int64)
    amplitude, spread = np.zeros(limit), np.zeros(limit)
    index, known = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
    back = np.zeros(frames, np.int64)
    path, best = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
    n_known, rho_known, total = 0, -1.0, 0.0
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
        if not same(index, known, n, n_known):
            timing(pattern, index[:n], model)
            known[:n] = index[:n]
            n_known, rho_known = n, -1.0
        sigma = math.sqrt(variance[p])
        flips, mean, deepest, hits = prepare(
            ramps[p], index, n, sigma, pattern, frame[p], size[p], steps, work, reads
        )
        start = mean if flips >= 2 and deepest > 0 else 0.0
        ratio = max(rho[p], rho_floor)
        fades = False
        for _ in range(3):
            if ratio != rho_known:
                total = tables(model, m, ratio, work)
                gains(model, n, ratio, reads)
                rho_known = ratio
            slope, rss = restart(m, total, work)
            _, single = strongest(m, work)
            single = max(single, outlier(m, total, work))
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
                (start, STARTS[0], STARTS[1]),
                back,
                path,
                best,
            )
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
                out[0, p], out[1, p] = 0.0, 0.0
                peak = max(slope, 0.0) + abs(faded) / lasting
                ratio = max(peak * poisson[p] / sigma, ratio)
                continue
            margin = min(margin, fit[0] - rival)
            describe(p, ramps[p], index, n, sigma, slope, total, rss, fit, reads, best, out, counts)
            steps_up, k = 0, 0
            for i in range(steps):
                while k < n - 2 and index[k + 1] < frame[p, i]:
                    k += 1
                if size[p, i] > 0 and not (hits >> i) & 1:
                    chosen[steps_up] = k
                    steps_up += 1
            if steps_up and margin > 0:
                left, kept = positive_steps(
                    chosen[:steps_up], m, total, work, basis, where, top, inverse, amplitude, spread
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
        Arrays (K,). ``evidence``: log-likelihood gained over one level and slope, minus the code length of the
        path; ``margin``: evidence minus that of the best rival (nothing, one step, positive steps with a rate
        that is not negative, a decaying current), both 0 where the ramp needs no second level; ``amplitude``
        [DN] >= 0; ``transitions``; ``first_frame`` of the first flip, -1 without; ``downs``, flips downwards;
        ``duty``, fraction of reads in the high state; ``dwell_high``, ``dwell_low`` [reads], reads in a state
        per exit from it; ``level`` [DN] of the low state at the first read in use; ``rate``, ``rate_error``
        [DN per mean interval]; ``fit_quality``, R^2 of the two levels once the slope is removed; ``chi2`` left
        over [read variances]. Fitted values are NaN where ``margin`` never came out positive.
    """
    data = np.ascontiguousarray(ramps, np.float32)
    pixels = data.shape[0]
    out = np.full((11, pixels), np.nan, np.float32)
    out[:2] = 0.0
    counts = np.zeros((3, pixels), np.int32)
    counts[1] = -1
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
    )
    return Telegraph(out[0], out[1], out[2], counts[0], counts[1], counts[2], *out[3:])


def is_telegraph(
    result: Telegraph,
    min_evidence: float = 5.0,
    min_margin: float = 5.0,
    min_transitions: int = 3,
    min_dwell: float = 1.5,
) -> NDArray[np.bool_]:
    """Decide which ramps are telegraph noise."""
    dwell = np.minimum(result.dwell_high, result.dwell_low)
    enough = result.transitions >= min_transitions
    return np.asarray(
        (result.evidence > min_evidence)
        & (result.margin > min_margin)
        & enough
        & (result.downs > 0)
        & (dwell >= min_dwell)
    )
