"""The halo of a snowball: a profile that falls off exponentially from the edge of its core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Relative error below which a ring's mean is not believed: real halos are not exactly exponential.
MODEL_ERROR = 0.03
#: Least pixels of a ring, and least rings of a fit.
RING_PIXELS, RINGS = 3, 3

#: Share of the noise of a pixel from which the halo covers it: the profile is uncertain where it is faint.
COVERED = 0.8

#: Fall of chi^2 that a flat core has to bring to be believed.
PARAMETER_COST = 10.0


@dataclass(frozen=True)
class Halo:
    """Profile of one snowball.

    Attributes
    ----------
    radius : float
        Where the halo has fallen to the median noise of a pixel around it [pixel].
    core_radius : float
        Edge of the (saturated or flat) core [pixel].
    amplitude : float
        Step of the halo at the edge of the core [unit of the map]; 0 without a halo.
    scale : float
        Length over which it falls by e [pixel]; NaN without a halo.
    circularity : float
        Axis ratio of what stands out, 1 for a disk.
    centre : (float, float)
        Row and column in the window [pixel].
    covered : (h, w) bool array
        The core, and the pixels where the halo is at least ``COVERED`` times their noise.
    """

    radius: float
    core_radius: float
    amplitude: float
    scale: float
    circularity: float
    centre: tuple[float, float]
    covered: Bool


def fit_halo(
    steps: NDArray[Any],
    valid: Bool,
    core: Bool,
    centre: tuple[float, float],
    sigma: NDArray[Any],
) -> Halo:
    """Fit ``amplitude exp(-(r - core_radius) / scale)`` to the steps outside the core of a snowball.

    Medians of rings one pixel wide carry the fit, so single hits in the halo do no harm. Without saturated
    pixels the core is the flat disk, if any, that makes the rest fit best.

    Parameters
    ----------
    steps : (h, w) array
        Step amplitude of every pixel at the frame of the event [DN],
        as from :func:`fmbdask_kernels.steps.step_amplitude`.
    valid : (h, w) bool array
        Pixels whose step means something.
    core : (h, w) bool array
        Pixels that the event saturated; may be empty.
    centre : (float, float)
        Row and column of the event in the window; the centroid of ``core`` replaces it where there is one.
    sigma : (h, w) array
        Noise of every pixel [DN].

    Returns
    -------
    Halo
    """
    rows, columns = np.indices(steps.shape)
    if np.count_nonzero(core) >= RING_PIXELS:
        y, x = np.nonzero(core)
        centre = float(y.mean()), float(x.mean())
    distance = np.hypot(rows - centre[0], columns - centre[1])
    core_radius = math.sqrt(np.count_nonzero(core) / math.pi)
    good = valid & ~core & np.isfinite(steps) & (sigma > 0)
    if not good.any():
        return Halo(core_radius, core_radius, 0.0, math.nan, _axis_ratio(core), centre, core.copy())
    noise = float(np.median(sigma[good]))
    # a ring that holds the edge of the core is neither core nor halo
    outside = good & (distance > core_radius + 0.5) if core_radius > 0 else good
    radius, profile, error = _rings(distance[outside], steps[outside], noise)
    if core_radius == 0:
        core_radius = _flat_core(radius, profile, error)
    inner = core if core.any() else distance <= core_radius
    use = radius > core_radius + 0.5 * (core_radius > 0)
    amplitude, scale, _ = _exponential(radius[use] - core_radius, profile[use], error[use])
    if amplitude <= noise:
        return Halo(core_radius, core_radius, 0.0, math.nan, _axis_ratio(inner), centre, inner.copy())
    halo = amplitude * np.exp(-np.maximum(distance - core_radius, 0.0) / scale)
    covered = inner | (halo >= COVERED * np.where(sigma > 0, sigma, noise))
    end = core_radius + scale * math.log(amplitude / noise)
    level = max(amplitude / math.e, 3 * noise)
    standing = core | (good & (steps > level) & (distance <= end))
    return Halo(end, core_radius, amplitude, scale, _axis_ratio(standing), centre, covered)


def _rings(distance: Float, steps: NDArray[Any], noise: float) -> tuple[Float, Float, Float]:
    """Mean radius, median step and its error for rings one pixel wide."""
    ring = distance.astype(np.int64)
    order = np.lexsort((steps, ring))
    start = np.flatnonzero(np.r_[True, np.diff(ring[order]) > 0])
    count = np.diff(np.r_[start, ring.size])
    low, high = order[start + (count - 1) // 2], order[start + count // 2]
    median = 0.5 * (steps[low].astype(np.float64) + steps[high])
    mean_distance = np.add.reduceat(distance[order], start) / count
    error = np.hypot(1.2533 * noise / np.sqrt(count), MODEL_ERROR * median)
    keep = count >= RING_PIXELS
    return mean_distance[keep], median[keep], error[keep]


def _exponential(away: Float, profile: Float, error: Float) -> tuple[float, float, float]:
    """Amplitude, scale and chi^2 of the exponential through the rings; amplitude 0 where there is none."""
    if away.size < RINGS:
        return 0.0, math.nan, math.inf
    weight = 1 / error**2
    scales = np.geomspace(0.3, 3 * (away[-1] + 1), 200)
    best = (0.0, math.nan, math.inf)
    for _ in range(2):
        shape = np.exp((away[0] - away) / scales[:, None])
        amplitude = (shape * weight * profile).sum(axis=1) / (shape * shape * weight).sum(axis=1)
        chi2 = (weight * (profile - amplitude[:, None] * shape) ** 2).sum(axis=1)
        i = int(chi2.argmin())
        best = float(amplitude[i] * math.exp(away[0] / scales[i])), float(scales[i]), float(chi2[i])
        scales = np.geomspace(scales[max(i - 1, 0)], scales[min(i + 1, scales.size - 1)], 50)
    return best if best[0] > 0 else (0.0, math.nan, best[2])


def _flat_core(radius: Float, profile: Float, error: Float) -> float:
    """Edge of the flat disk inside of which nothing is fitted; 0 where the halo starts at the centre."""
    if radius.size < RINGS:
        return 0.0
    best, edge = _exponential(radius - radius[0], profile, error)[2], 0.0
    weight = 1 / error**2
    for i in range(2, radius.size - RINGS):  # the ring before i holds the edge and belongs to neither side
        inner = np.average(profile[: i - 1], weights=weight[: i - 1])
        chi2 = float((weight[: i - 1] * (profile[: i - 1] - inner) ** 2).sum())
        chi2 += _exponential(radius[i:] - radius[i], profile[i:], error[i:])[2]
        if chi2 < best - PARAMETER_COST:
            best, edge = chi2, float(radius[i - 1] + 0.25)
    return edge


def _axis_ratio(mask: Bool) -> float:
    """Axis ratio of the second moments of a mask; NaN for fewer than three pixels."""
    y, x = np.nonzero(mask)
    if y.size < 3:
        return math.nan
    values = np.linalg.eigvalsh(np.cov(np.stack([y, x])))
    return float(math.sqrt(max(values[0], 0.0) / values[1]))
