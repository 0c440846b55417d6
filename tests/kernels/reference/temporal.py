"""NumPy reference of ``fmbdask_kernels.temporal``: one pixel, dense matrices, plain definitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .steps import covariance, gaussian

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """What is known of the noise of a pixel; the fields of ``fmbdask_kernels.tables.Prior``."""

    variance: float
    dof: float
    noisy: float
    poisson: float
    rho_variance: float


def lower_median(values: Float) -> float:
    return float(np.sort(values)[(values.size + 1) // 2 - 1])


def standardise(raw: float, rss: float, m: int, noise: Noise) -> tuple[float, float]:
    free = max(m - 2, 1)
    own = max(rss - raw * raw, 1e-3) / free
    if own > noise.noisy * noise.variance:
        return gaussian(raw / np.sqrt(own), free), own
    moderated = (free * own + noise.dof * noise.variance) / (free + noise.dof)
    return gaussian(raw / np.sqrt(moderated), free + noise.dof), moderated


def slope_of(
    reads: Float, offset: Float, time: Float, gap: NDArray[np.int64], median: float, reach: float
) -> float:
    """Least squares on reads whose outlying differences are replaced by the mean rate of the others."""
    d, dt = np.diff(reads - offset), np.diff(time)
    outlying = np.abs(np.diff(reads) - median * gap) > reach
    if outlying.all():
        return 0.0
    d[outlying] = dt[outlying] * d[~outlying].sum() / dt[~outlying].sum()
    ramp = np.concatenate([[0.0], np.cumsum(d)])
    return float(np.polyfit(time - time.mean(), ramp, 1)[0])


def scan(d: Float, dt: Float, c: Float) -> tuple[Float, Float, float, float]:
    """Statistic and amplitude of a step in each difference; residual sum of squares and slope of the line."""
    inverse = np.linalg.inv(c)
    total = dt @ inverse @ dt
    rate = float(dt @ inverse @ d / total)
    left = d - rate * dt
    free = np.diag(inverse) - (inverse @ dt) ** 2 / total
    z = inverse @ left / np.sqrt(free)
    return z, z / np.sqrt(free), float(left @ inverse @ left), rate


def features(
    reads: Float,
    good: NDArray[np.bool_],
    offset: Float,
    used: NDArray[np.int64],
    pattern: Float,
    noise: Noise,
    rho: Float,
    integer: bool,
    appearance_sigma: float = 5.0,
) -> dict[str, float]:
    """Every plane of a pixel with the reads (N,) of the ``used`` frames, and the statistic of every step."""
    where = np.flatnonzero(good)
    if where.size < 4:
        return {"reads": float(where.size)}
    x, frame, time, gap = reads[where], used[where], pattern[0, where], np.diff(where)
    raw = np.diff(x)
    direct = raw[gap == 1]
    if direct.size == 0:
        return {"reads": float(where.size)}
    median = lower_median(direct)
    mad = lower_median(np.abs(direct - median))
    sigma = 1.4826 * max(mad, 1.0 if integer else 1e-6)
    jump = appearance_sigma * sigma
    above = x > x[0] + (np.floor(jump) if integer else jump)
    largest = np.flatnonzero(gap == 1)[np.argmax(np.abs(direct))]
    slope = slope_of(x, offset[where], time, gap, median, 4.5 * sigma)
    edges = np.sqrt(rho[1:] * rho[:-1])
    bin_ = int((slope * noise.poisson / noise.rho_variance > edges).sum())
    m = where.size - 1
    z, amplitude, rss, rate = scan(
        np.diff(x - offset[where]), np.diff(time), covariance(pattern, where, rho[bin_])
    )
    best = int(np.argmax(z))
    up, variance = standardise(z[best], rss, m, noise)
    down, _ = standardise(z.min(), rss, m, noise)
    return {
        "slope": slope,
        "minimum": x.min(),
        "maximum": x.max(),
        "median_difference": median,
        "mad_difference": mad,
        "largest_difference": float(np.abs(direct).max()),
        "largest_difference_frame": float(frame[largest + 1]),
        "first_appearance": float(frame[np.argmax(above)]) if above.any() else -1.0,
        "persistence_count": float(above.sum()),
        "max_intensity": x.max() - x[0],
        "intensity_variance": float(x.var()),
        "transition_count": float((np.diff(above.astype(int)) != 0).sum()),
        "step_frame": float(frame[best + 1]),
        "step_amplitude": amplitude[best],
        "step_significance": up,
        "step_r2": z[best] ** 2 / max(rss, 1e-6),
        "drop_significance": down,
        "read_variance": rss / (m - 1),
        "noise": float(np.sqrt(variance)),
        "roughness": float((z**2).mean()),
        "rate": rate,
        "rho_bin": float(bin_),
        "reads": float(where.size),
    }
