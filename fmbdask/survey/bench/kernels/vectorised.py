"""The temporal features in vectorised NumPy: what the fused pass is measured against."""

from __future__ import annotations

import numpy as np
from fmbdask_kernels import covariance
from fmbdask_kernels.planes import MAD_SIGMA, PLANES, WINSOR
from fmbdask_kernels.tables import Offsets, Prior, Tables
from numpy.typing import NDArray

Float = NDArray[np.float32]


def lower_median(values: Float) -> Float:
    """The k-th smallest along the first axis, k = (size + 1) // 2."""
    k = (values.shape[0] + 1) // 2 - 1
    return np.asarray(np.partition(values, k, axis=0)[k])


def inverse_covariance(pattern: NDArray[np.float64], rho: float) -> Float:
    """Inverse of the covariance of the differences, in units of the variance of one read."""
    n = pattern.shape[1]
    model = np.zeros((5, n - 1))
    covariance.timing(pattern, np.arange(n), model)
    off = (model[3] + rho * model[4])[:-1]
    c = np.diag(model[1] + rho * model[2]) + np.diag(off, 1) + np.diag(off, -1)
    return np.linalg.inv(c).astype(np.float32)


def standardise(raw: Float, rss: Float, m: int, prior: Prior, nx: int) -> tuple[Float, Float]:
    """Significance and moderated variance, see :func:`fmbdask_kernels.noise.standardise`."""
    free = max(m - 2, 1)
    variance, dof = prior.variance[0, :nx], prior.dof[:nx]
    own = np.maximum(rss - raw**2, 1e-3) / free
    noisy = own > prior.noisy[:nx] * variance
    noise = np.where(noisy, own, (free * own + dof * variance) / (free + dof))
    nu = np.where(noisy, free, free + dof)
    size = (8 * nu + 1) / (8 * nu + 3) * np.sqrt(nu * np.log1p(raw**2 / noise / nu))
    return np.where(raw >= 0, size, -size), noise


def vectorised_features(
    data: NDArray[np.uint16],
    used: NDArray[np.int64],
    tables: Tables,
    prior: Prior,
    offsets: Offsets,
    pattern: NDArray[np.float64],
    appearance_sigma: float = 5.0,
) -> Float:
    """Every plane of :func:`fmbdask_kernels.temporal.temporal_features`, for blocks that need no mask.

    Whole-block operations only: ``np.partition`` for the medians, one matrix product with the inverse
    covariance for the scan of each bin of rho.

    Parameters
    ----------
    data : (T, ny, nx) array
        Counts [DN].
    used, tables, prior, offsets, pattern, appearance_sigma
        As for the kernel.

    Returns
    -------
    (planes, ny, nx) float32 array
    """
    nx = data.shape[2]
    x = data[used].astype(np.float32)
    n, m = used.size, used.size - 1
    d = np.diff(x, axis=0)
    column, gradient = offsets.column[:, None, :nx], offsets.gradient[:, None, :nx]
    corrected = d - column - offsets.height[:, None] * gradient - offsets.row[:, :, None]
    median = lower_median(d)
    distance = np.abs(d - median)
    mad = lower_median(distance)
    sigma = np.float32(MAD_SIGMA) * np.maximum(mad, 1)
    size = np.abs(d)
    peak = size.argmax(axis=0)
    above = x > x[0] + np.floor(appearance_sigma * sigma)
    kept = distance <= WINSOR * sigma
    interval = tables.interval[:, None, None]
    mean = (corrected * kept).sum(axis=0) / np.maximum((interval * kept).sum(axis=0), 1e-6)
    clipped = np.where(kept, corrected, mean * interval)
    slope = np.tensordot(tables.slope_weight, clipped, axes=(0, 0))
    bins = np.searchsorted(tables.edges, slope * prior.poisson[:nx] / prior.rho_variance[:nx])
    z, rss, rate = np.empty_like(corrected), np.empty_like(slope), np.empty_like(slope)
    for r in np.unique(bins):
        lanes = bins == r
        part = corrected[:, lanes]
        inverse = inverse_covariance(pattern, float(tables.rho[r]))
        unit = inverse @ tables.interval
        total = tables.interval @ unit
        solved = inverse @ part
        rate[lanes] = tables.interval @ solved / total
        rss[lanes] = (part * solved).sum(axis=0) - rate[lanes] ** 2 * total
        free = np.diag(inverse) - unit**2 / total
        z[:, lanes] = (solved - unit[:, None] * rate[lanes]) / np.sqrt(free)[:, None]
    best = z.argmax(axis=0)
    high = np.take_along_axis(z, best[None], axis=0)[0]
    significance, noise = standardise(high, rss, m, prior, nx)
    planes = {
        "slope": slope,
        "minimum": x.min(axis=0),
        "maximum": x.max(axis=0),
        "median_difference": median,
        "mad_difference": mad,
        "largest_difference": size.max(axis=0),
        "largest_difference_frame": used[peak + 1],
        "first_appearance": np.where(above.any(axis=0), used[above.argmax(axis=0)], -1),
        "persistence_count": above.sum(axis=0),
        "max_intensity": x.max(axis=0) - x[0],
        "intensity_variance": x.var(axis=0),
        "transition_count": (above[1:] != above[:-1]).sum(axis=0),
        "step_frame": used[best + 1],
        "step_amplitude": high * tables.scale[bins, best],
        "step_significance": significance,
        "step_r2": high**2 / np.maximum(rss, 1e-6),
        "drop_significance": standardise(z.min(axis=0), rss, m, prior, nx)[0],
        "read_variance": rss / (m - 1),
        "noise": np.sqrt(noise),
        "roughness": (z**2).mean(axis=0),
        "rate": rate,
        "rho_bin": bins,
        "reads": np.full_like(slope, n),
    }
    return np.stack([planes[name].astype(np.float32) for name in PLANES])
