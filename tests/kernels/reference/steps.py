"""Dense NumPy reference of ``fmbdask_kernels.steps``: full covariance matrices and pseudo-inverses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


def covariance(pattern: Float, reads: NDArray[np.int64], rho: float) -> Float:
    """Covariance of the differences, built from the covariance of the reads themselves."""
    mean, weighted, per_frame = pattern[:, reads]
    # Poisson noise shared by two frames: all of the earlier one's; a frame with itself: its weighted time
    shared = np.minimum.outer(mean, mean)
    np.fill_diagonal(shared, weighted)
    full = np.diag(per_frame) + rho * shared
    return np.asarray(np.diff(np.diff(full, axis=0), axis=1))


def gaussian(t: float, dof: float) -> float:
    if np.isinf(dof):
        return float(t)
    return float(np.sign(t) * (8 * dof + 1) / (8 * dof + 3) * np.sqrt(dof * np.log1p(t * t / dof)))


def moderated(rss: float, free: float, variance: float, dof: float) -> float:
    return variance if np.isinf(dof) else (max(rss, 0.0) + dof * variance) / (free + dof)


@dataclass
class Fit:
    rss: float
    rate: float
    rate_variance: float
    amplitude: Float
    amplitude_variance: Float


def regress(d: Float, dt: Float, inverse: Float, steps: list[int]) -> Fit:
    """Generalised least squares of the differences on the time step and one column per step."""
    design = np.column_stack([dt, *(np.eye(d.size)[k] for k in steps)])
    gram = np.linalg.inv(design.T @ inverse @ design)
    beta = gram @ design.T @ inverse @ d
    left = d - design @ beta
    return Fit(float(left @ inverse @ left), beta[0], gram[0, 0], beta[1:], np.diag(gram)[1:])


def candidates(d: Float, dt: Float, inverse: Float, steps: list[int]) -> Float:
    """Fall of chi^2 for one more step at each difference."""
    design = np.column_stack([dt, *(np.eye(d.size)[k] for k in steps)])
    gram = np.linalg.inv(design.T @ inverse @ design)
    projected = inverse - inverse @ design @ gram @ design.T @ inverse
    free = np.diag(projected)
    usable = free > 1e-9 * np.diag(inverse)
    return np.where(usable, (projected @ d) ** 2 / np.where(usable, free, 1.0), 0.0)


def select(
    d: Float,
    dt: Float,
    inverse: Float,
    variance: float,
    dof: float,
    threshold: float,
    max_steps: int,
    look_ahead: int = 2,
) -> list[int]:
    """Forward selection with the look-ahead of the kernel."""
    steps: list[int] = []
    kept = 0
    while len(steps) < max_steps:
        free = d.size - 2 - len(steps)
        if free < 1:
            break
        gains = candidates(d, dt, inverse, steps)
        k = int(gains.argmax())
        scatter = moderated(regress(d, dt, inverse, steps).rss - gains[k], free, variance, dof)
        if gains[k] <= 0 or scatter <= 0:
            break
        passed = gaussian(float(np.sqrt(gains[k] / scatter)), free + dof) >= threshold
        if not passed and (gains[k] < threshold**2 * variance or len(steps) - kept == look_ahead):
            break
        steps.append(k)
        if passed:
            kept = len(steps)
    return steps[:kept]


@dataclass
class Result:
    frame: NDArray[np.int64]
    amplitude: Float
    significance: Float
    rate: float
    rate_error: float
    rss: float
    rho: float


def grid(rho: float, floor: float) -> int:
    """Nearest ratio of the grid on which tables are kept."""
    return 0 if rho <= floor else int(np.log(rho / floor) / np.log(1.5) + 0.5)


def fit_one(
    ramp: Float,
    used: NDArray[np.bool_],
    variance: float,
    dof: float,
    rho: float,
    rho_floor: float,
    poisson: float,
    threshold: float,
    pattern: Float,
    max_steps: int = 12,
) -> Result | None:
    """One ramp through the whole method; None for fewer than four reads."""
    reads = np.flatnonzero(used & np.isfinite(ramp))
    if reads.size < 4:
        return None
    d, dt = np.diff(ramp[reads]), np.diff(pattern[0, reads])
    at = grid(rho, rho_floor)
    for turn in range(3):
        ratio = rho_floor * 1.5**at
        inverse: Float = np.linalg.inv(covariance(pattern, reads, ratio)).astype(np.float64)
        steps = select(d, dt, inverse, variance, dof, threshold, max_steps)
        fit = regress(d, dt, inverse, steps)
        if not (poisson > 0 and variance > 0) or turn == 2:
            break
        wanted = grid(fit.rate * poisson / variance, rho_floor)
        if wanted == at:
            break
        at = wanted
    while steps:
        free = d.size - 1 - len(steps)
        scatter = moderated(fit.rss, free, variance, dof)
        size = fit.amplitude**2 / fit.amplitude_variance
        if scatter > 0 and gaussian(float(np.sqrt(size.min() / scatter)), free + dof) >= threshold:
            break
        steps.pop(int(size.argmin()))
        fit = regress(d, dt, inverse, steps)
    free = d.size - 1 - len(steps)
    scatter = moderated(fit.rss, free, variance, dof)
    order = np.argsort(steps)
    t = fit.amplitude / np.sqrt(fit.amplitude_variance * scatter)
    z = np.array([gaussian(v, free + dof) for v in t])
    frame = reads[np.array(steps, int) + 1]
    error = float(np.sqrt(fit.rate_variance * scatter))
    return Result(
        frame[order], fit.amplitude[order], z[order], float(fit.rate), error, max(fit.rss, 0.0), ratio
    )
