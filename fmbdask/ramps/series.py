"""Models of single ramps as curves: a line with steps and bends, or two levels, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Rounds of rate and covariance, which depend on each other.
ROUNDS = 3
#: Bends that a ramp may have beside its steps: decays over these many intervals, and a curvature.
DECAYS = (2.0, 4.0, 8.0, 16.0, 32.0)
#: Bends at most, and by how much minus twice the log-likelihood must fall for each of them.
MOST_BENDS, WORTH = 2, 25.0
#: Rounds of levels and path of a two-level model; it has settled long before.
PATH_ROUNDS = 20
#: Smallest and largest chance that a level changes from one read to the next.
LEAST_CHANGE, MOST_CHANGE = 1e-3, 0.5


def line_with_steps(
    counts: Floats,
    used: Bools,
    times: Floats,
    steps: Sequence[int],
    *,
    variance: float,
    poisson: float,
    rho_floor: float,
) -> tuple[Floats, Bools]:
    """Fit a line with steps at known frames by generalised least squares, and bends where they are needed.

    The covariance is that of the detector: read noise, independent from read to read, and shot noise, which
    accumulates; its rate is the fitted one, and at least ``rho_floor`` times the read variance per interval.

    Parameters
    ----------
    counts : (N,) array
        Corrected ramp [DN].
    used : (N,) bool array
        Reads to fit.
    times : (N,) array
        In units of the mean interval.
    steps : sequence of int
        First read of each new level.
    variance : float
        Of one read, positive [DN^2].
    poisson : float
        Variance per DN of signal [DN]; 0 where the gain is unknown.
    rho_floor : float
        Smallest accumulating variance per interval, in units of ``variance``.

    Returns
    -------
    (N,) array, (N,) bool array
        The model [DN], NaN before the first and after the last read in use, and everywhere where fewer than
        three are; and where a new level begins.
    """
    model, begins = np.full(counts.shape, np.nan), np.zeros(counts.shape, bool)
    at = np.flatnonzero(used)
    if at.size < 3:
        return model, begins
    t = times[at] - times[at[0]]
    known = sorted({k for k in steps if at[0] < k <= at[-1]})
    begins[known] = True
    every = np.arange(at[0], at[-1] + 1)
    since = times[every] - times[at[0]]
    whole = np.stack([np.ones(every.size), since, *((every >= k).astype(float) for k in known)], axis=1)
    bends = np.stack([since**2 / max(since[-1], 1.0), *(np.exp(-since / d) for d in DECAYS)], axis=1)
    shared = np.minimum.outer(t, t)

    def fit(design: Floats) -> tuple[Floats, float]:
        """Solution and minus twice the logarithm of its likelihood; the rate sets its own shot noise."""
        solution, cost = np.zeros(design.shape[1]), np.inf
        for _ in range(ROUNDS):
            rho = max(solution[1] * poisson / variance, rho_floor)
            factor = linalg.cholesky(np.eye(at.size) + rho * shared, lower=True)
            white = linalg.solve_triangular(
                factor, np.column_stack([design[at - at[0]], counts[at]]), lower=True
            )
            solution = np.linalg.lstsq(white[:, :-1], white[:, -1], rcond=None)[0].astype(np.float64)
            left = float(np.sum((white[:, -1] - white[:, :-1] @ solution) ** 2))
            cost = left / variance + 2 * float(np.sum(np.log(np.diag(factor))))
        return solution, cost

    solution, cost = fit(whole)
    for _ in range(min(MOST_BENDS, at.size - whole.shape[1] - 1)):
        tried = [np.column_stack([whole, bend]) for bend in bends.T]
        fits = [fit(design) for design in tried]
        k = int(np.argmin([c for _, c in fits]))
        if cost - fits[k][1] < WORTH:
            break
        whole, (solution, cost) = tried[k], fits[k]
    model[every] = whole @ solution
    return model, begins


def two_levels(
    counts: Floats,
    used: Bools,
    times: Floats,
    *,
    amplitude: float,
    dwell_high: float,
    dwell_low: float,
    variance: float,
) -> tuple[Floats, Bools]:
    """Fit a line that switches between two levels: the best path (Viterbi) and the levels, in turns.

    Parameters
    ----------
    counts, used, times, variance
        As in :func:`line_with_steps`.
    amplitude : float
        Difference of the levels to start from [DN].
    dwell_high, dwell_low : float
        Mean time in each level [frame].

    Returns
    -------
    (N,) array, (N,) bool array
        The model [DN], NaN where no read is in use; and where a new level begins.
    """
    model, begins = np.full(counts.shape, np.nan), np.zeros(counts.shape, bool)
    at = np.flatnonzero(used)
    if at.size < 4:
        return model, begins
    y, t = counts[at], times[at] - times[at[0]]
    chances = [float(np.clip(1 / max(d, 1e-9), LEAST_CHANGE, MOST_CHANGE)) for d in (dwell_low, dwell_high)]
    least = np.inf
    # the line may start in either level, and a slope that swallows flips must not trap the fit
    for slope in (float(np.median(np.diff(y) / np.diff(t))), float((y[-1] - y[0]) / t[-1])):
        rest = y - slope * t
        for low in (np.percentile(rest, 10), np.percentile(rest, 90) - amplitude):
            line, step, path = low + slope * t, amplitude, np.zeros(0)
            for _ in range(PATH_ROUNDS):
                found = _best_path(y - line, step, variance, chances)
                if np.array_equal(found, path):
                    break
                path = found
                if 0 < path.sum() < path.size:
                    design = np.stack([np.ones_like(t), t, path], axis=1)
                    a, b, step = np.linalg.lstsq(design, y, rcond=None)[0]
                    line = a + b * t
            left = float(np.sum((y - line - step * path) ** 2))
            if left < least:
                least = left
                model[at] = line + step * path
                begins[at[1:]] = np.diff(path) != 0
    return model, begins


def _best_path(rest: Floats, step: float, variance: float, chances: list[float]) -> Floats:
    """Most probable sequence of levels (0 or 1) of reads that are 0 or ``step`` above the line."""
    cost = np.stack([rest**2, (rest - step) ** 2], axis=1) / (2 * max(variance, 1e-12))
    stay = [-np.log(1 - c) for c in chances]
    leave = [-np.log(c) for c in chances]
    total, came = cost[0].copy(), np.zeros((rest.size, 2), np.int64)
    for i in range(1, rest.size):
        kept = total + stay
        changed = total[::-1] + leave[::-1]
        came[i] = np.where(changed < kept, [1, 0], [0, 1])
        total = np.minimum(kept, changed) + cost[i]
    path = np.empty(rest.size)
    state = int(np.argmin(total))
    for i in range(rest.size - 1, -1, -1):
        path[i] = state
        state = int(came[i, state])
    return path
