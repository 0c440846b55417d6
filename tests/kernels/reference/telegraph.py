"""Plain reference of ``fmbdask_kernels.twolevel`` and its rivals: dense matrices, loops over hypotheses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Float = NDArray[np.float64]
Int = NDArray[np.int64]


def viterbi(
    y: Float, time: Float, read: Float, rho: float, amplitude: float, slope: float, cost: tuple[float, ...]
) -> Int:
    """Most likely path, every hypothesis with a Kalman filter of (level, slope) of its own."""
    stay_low, up, stay_high, down = cost
    price = np.array([[stay_low, up], [down, stay_high]])
    prior = np.diag([1e6, (6.0 / time[-1]) ** 2])
    # (cost, path, mean, covariance) per state; the level is that of the low state
    alive = []
    for state in (0, 1):
        gain = prior[:, 0] / (prior[0, 0] + read[0])
        alive.append(
            (0.0, [state], np.array([y[0] - amplitude * state, slope]), prior - np.outer(gain, prior[0]))
        )
    for i in range(1, y.size):
        dt = time[i] - time[i - 1]
        move = np.array([[1.0, dt], [0.0, 1.0]])
        new = []
        for state in (0, 1):
            options = []
            for before, (total, path, mean, spread) in enumerate(alive):
                ahead, wide = move @ mean, move @ spread @ move.T
                wide[0, 0] += rho * dt
                error, scale = y[i] - amplitude * state - ahead[0], wide[0, 0] + read[i]
                gain = wide[:, 0] / scale
                options.append(
                    (
                        total + price[before, state] + error**2 / (2 * scale),
                        [*path, state],
                        ahead + gain * error,
                        wide - np.outer(gain, wide[0]),
                    )
                )
            new.append(min(options, key=lambda option: option[0]))
        alive = new
    return np.array(min(alive, key=lambda option: option[0])[1])


def fit_regressor(d: Float, dt: Float, inverse: Float, shape: Float) -> tuple[float, float, float]:
    """(amplitude, its information, chi^2 left) of one regressor beside the slope."""
    design = np.column_stack([dt, shape])
    gram = np.linalg.inv(design.T @ inverse @ design)
    beta = gram @ design.T @ inverse @ d
    left = d - design @ beta
    return float(beta[1]), float(1 / gram[1, 1]), float(left @ inverse @ left)


def chi_square(d: Float, dt: Float, inverse: Float) -> float:
    """Chi^2 of the slope alone."""
    left = d - dt * (dt @ inverse @ d) / (dt @ inverse @ dt)
    return float(left @ inverse @ left)


def likelihood(rss: float, m: int, dof: float) -> float:
    """Log density of two multivariate t distributions, one of the prior and a rare wide one."""
    where, centre, shape = np.zeros(m), np.zeros(m), np.eye(m)
    where[0] = np.sqrt(rss)
    weight: Any = min(max(dof, 2.0), 300.0)
    known = stats.multivariate_t.logpdf(where, centre, shape, df=weight)
    noisy = stats.multivariate_t.logpdf(where, centre, shape, df=2)
    return float(np.logaddexp(known, noisy + np.log(1e-2)))


def filtered(
    y: Float,
    time: Float,
    read: Float,
    level: float,
    amplitude: float,
    slope: float,
    rho: float,
    up: float,
    down: float,
    scale: float,
) -> tuple[float, float]:
    """Log-likelihood and expected squares of two levels, each state by its normal density."""
    drift, r = rho / scale, float(read.mean())
    spread = float(np.roots([1.0, -drift, -drift * r]).max())  # the steady state of the Riccati equation
    gain, total = spread / (spread + r), spread + r
    chance = np.array([0.5, 0.5])
    move = np.array([[1 - up, up], [down, 1 - down]])
    log_likelihood = squares = 0.0
    for i in range(y.size):
        if i:
            level += slope * (time[i] - time[i - 1])
        error = y[i] - level - np.array([0.0, amplitude])
        weight = chance * stats.norm.pdf(error, scale=np.sqrt(total * scale))
        log_likelihood += float(np.log(weight.sum()))
        weight /= weight.sum()
        squares += float(weight @ error**2 / total)
        level += gain * float(weight @ error)
        chance = weight @ move
    # less what all models share: the normalisation by pi and by the scale
    return log_likelihood + 0.5 * y.size * float(np.log(2 * np.pi * scale)), squares


def positive_steps(d: Float, dt: Float, inverse: Float, where: list[int]) -> float:
    """Chi^2 left by steps and a rate none of which is negative (Lawson and Hanson)."""
    design = np.column_stack([dt, *(np.eye(d.size)[k] for k in where)])
    root = np.linalg.cholesky(inverse).T
    return float(optimize.nnls(root @ design, root @ d)[1] ** 2)
