"""The halo of a snowball: an elliptical profile that falls off exponentially from the edge of its core."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Relative error below which a step is not believed: real halos are not exactly exponential.
MODEL_ERROR = 0.03
#: Least saturated pixels of a core, and the least share of its disk that they fill: wells differ in depth.
CORE_PIXELS, CORE_FILL = 9, 0.8
#: Least pixels of a ring, and least rings of a first fit.
RING_PIXELS, RINGS = 3, 3
#: Share of the noise of a pixel from which the halo covers it: the profile is uncertain where it is faint.
#: But not where this would make the radius larger by more than such a share: wide halos fall off slowly.
COVERED, LARGER = 0.65, 0.06
#: Fall of chi^2 that a flat core has to bring to be believed.
PARAMETER_COST = 10.0
#: Residuals of this many errors count half: hits and stars in the halo.
OUTLIER = 3.0
#: Most pixels that carry the fit: of larger windows every second one, third one, and so on in each direction.
ENOUGH = 40_000
#: How well the core tells the centre [pixel] and the shape of the halo [1], and how far the level around a
#: snowball may lie off zero [noise of a read].
CENTRE_ERROR, SHAPE_ERROR, LEVEL_ERROR = 0.5, 0.1, 0.3
#: Most rounds of the fit, and the change of the parameters at which it ends.
ROUNDS, SETTLED = 30, 1e-4


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
        The core, and the pixels where the halo is at least about ``COVERED`` times their noise.
    expected : (h, w) array
        Step that the profile says [unit of the map]; 0 in the core and without a halo.
    """

    radius: float
    core_radius: float
    amplitude: float
    scale: float
    circularity: float
    centre: tuple[float, float]
    covered: Bool
    expected: NDArray[np.float32]


def fit_halo(
    steps: NDArray[Any],
    valid: Bool,
    core: Bool,
    centre: tuple[float, float],
    sigma: NDArray[Any],
    error: NDArray[Any] | None = None,
    poisson: float = 0.0,
) -> Halo:
    """Fit ``amplitude exp(-(r - core_radius) / scale)`` to the steps outside the core of a snowball.

    Medians of circular rings give the first guess, and without saturated pixels the edge of the flat disk, if
    any, that makes the rest fit best. From there all pixels outside the core are fitted together: amplitude,
    scale, centre and the ellipse that ``r`` is measured with, which core and halo share. Large residuals
    weigh little, so single hits in the halo do no harm.

    Parameters
    ----------
    steps : (h, w) array
        Step amplitude of every pixel at the frame of the event [DN].
    valid : (h, w) bool array
        Pixels whose step means something.
    core : (h, w) bool array
        Pixels that the event saturated; may be empty.
    centre : (float, float)
        Row and column of the event in the window; the centroid of a full ``core`` replaces it.
    sigma : (h, w) array
        Noise of one read of every pixel [DN].
    error : (h, w) array, optional
        Error of the steps [DN]; ``sigma`` by default.
    poisson : float
        Variance per DN of signal [DN].

    Returns
    -------
    Halo
    """
    full = _fills_a_disk(core)
    if full:
        y, x = np.nonzero(core)
        centre = float(y.mean()), float(x.mean())
    good = valid & ~core & np.isfinite(steps) & (sigma > 0)
    core_radius = math.sqrt(np.count_nonzero(core) / math.pi)
    if not good.any():
        return _without(core, core_radius, centre)
    if not full:
        core_radius = 0.0
    noise = float(np.median(sigma[good]))
    rows, columns = (np.arange(n, dtype=np.float64) for n in steps.shape)
    distance = np.hypot(rows[:, None] - centre[0], columns - centre[1])
    # a ring that holds the edge of the core is neither core nor halo
    outside = good & (distance > core_radius + 0.5) if core_radius > 0 else good
    radius, profile, spread = _rings(distance[outside], steps[outside], noise)
    inner = core
    if core_radius == 0:
        core_radius = _flat_core(radius, profile, spread)
        inner = _bright_disk(steps, good, distance, core_radius, radius, profile)
        inner = inner | core
        if inner.any():
            core_radius = math.sqrt(np.count_nonzero(inner) / math.pi)
    use = radius > core_radius + 0.5 * (core_radius > 0)
    amplitude, scale, _ = _exponential(radius[use] - core_radius, profile[use], spread[use])
    if amplitude <= noise:
        return _without(inner, core_radius, centre)
    outside = good & ~ndimage.binary_dilation(inner, np.ones((3, 3), np.bool_)) & (steps < np.inf)
    start = _Profile(math.log(amplitude), math.log(scale), *centre, *_shape(inner), 0.0)
    fitted = _refine(start, core_radius, steps, outside, sigma if error is None else error, noise, poisson)
    away = fitted.distance(rows[:, None], columns) - core_radius
    amplitude, scale = math.exp(fitted.height), math.exp(fitted.scale)
    if amplitude <= noise:
        return _without(inner, core_radius, centre)
    halo = amplitude * np.exp(-np.maximum(away, 0.0) / scale)
    end = core_radius + scale * math.log(amplitude / noise)
    share = max(COVERED, math.exp(-LARGER * end / scale))
    covered = inner | (halo >= share * np.where(sigma > 0, sigma, noise))
    level = max(amplitude / math.e, 3 * noise)
    standing = core | (good & (steps > level) & (away <= end - core_radius))
    ratio = _axis_ratio(standing)
    expected = np.where(inner, 0.0, halo).astype(np.float32)
    return Halo(end, core_radius, amplitude, scale, ratio, (fitted.y, fitted.x), covered, expected)


def _fills_a_disk(core: Bool) -> bool:
    """Whether saturated pixels are the core: not few, and not scattered over one that is about full."""
    y, x = np.nonzero(core)
    if y.size < CORE_PIXELS:
        return False
    # the square of the radius of a disk is four times the mean of the two second moments
    return y.size >= CORE_FILL * math.pi * 2 * float(y.var() + x.var())


def _without(core: Bool, radius: float, centre: tuple[float, float]) -> Halo:
    """A core without a halo."""
    nothing = np.zeros(core.shape, np.float32)
    return Halo(radius, radius, 0.0, math.nan, _axis_ratio(core), centre, core.copy(), nothing)


@dataclass(frozen=True)
class _Profile:
    """Parameters of a halo: logarithms of amplitude and scale, centre, shape (two components), level."""

    height: float
    scale: float
    y: float
    x: float
    along: float
    across: float
    level: float

    @property
    def vector(self) -> Float:
        """The parameters as an array."""
        return np.array(
            [self.height, self.scale, self.y, self.x, self.along, self.across, self.level], np.float64
        )

    def metric(self) -> tuple[float, float, float]:
        """Symmetric matrix (yy, xx, xy) of determinant 1 that ``r^2`` is measured with."""
        size = math.hypot(self.along, self.across)
        share = math.sinh(size) / size if size > 0 else 1.0
        return (
            math.cosh(size) + share * self.along, math.cosh(size) - share * self.along, share * self.across,
        )  # fmt: skip

    def distance(self, y: Float, x: Float) -> Float:
        """Elliptical distance from the centre, of equal area as a circle [pixel]."""
        yy, xx, xy = self.metric()
        dy, dx = y - self.y, x - self.x
        return np.sqrt(np.maximum(yy * dy * dy + xx * dx * dx + 2 * xy * dy * dx, 0.0))


def _refine(
    start: _Profile,
    core_radius: float,
    steps: NDArray[Any],
    outside: Bool,
    error: NDArray[Any],
    noise: float,
    poisson: float,
) -> _Profile:
    """Fit all parameters to the pixels outside the core, from a first guess.

    Levenberg-Marquardt with weights ``1 / (variance + model error)`` that fall for outliers (Cauchy). The
    guess for centre and shape, and level zero, are priors.
    """
    stride = max(1, math.ceil(math.sqrt(outside.size / ENOUGH)))
    grid = np.zeros_like(outside)
    grid[::stride, ::stride] = outside[::stride, ::stride]
    y, x = (v.astype(np.float64) for v in np.nonzero(grid))
    if y.size < 4 * start.vector.size:
        return start
    value = steps[grid].astype(np.float64)
    own = error[grid].astype(np.float64)
    own = np.where(np.isfinite(own) & (own > 0), own, noise)
    prior = np.array([0, 0, CENTRE_ERROR, CENTRE_ERROR, SHAPE_ERROR, SHAPE_ERROR, LEVEL_ERROR * noise])
    information = np.divide(1.0, prior**2, out=np.zeros_like(prior), where=prior > 0)
    first = start.vector
    small = np.array([1e-5, 1e-5, 1e-4, 1e-4, 1e-5, 1e-5])

    def model(p: Float) -> Float:
        profile = _Profile(*p.tolist())
        away = np.maximum(profile.distance(y, x) - core_radius, 0.0)
        return np.asarray(math.exp(profile.height) * np.exp(-away / math.exp(profile.scale)) + profile.level)

    def cost(p: Float, residual: Float, spread: Float) -> float:
        pull = residual / (OUTLIER * spread)
        return float(OUTLIER**2 * np.log1p(pull * pull).sum() + (information * (p - first) ** 2).sum())

    p, damping = first.copy(), 1e-3
    fit = model(p)
    for _ in range(ROUNDS):
        bright = np.maximum(fit - p[-1], 0.0)
        spread = np.sqrt(own**2 + poisson * bright + (MODEL_ERROR * bright) ** 2)
        residual = value - fit
        before = cost(p, residual, spread)
        weight = 1 / (spread**2 + (residual / OUTLIER) ** 2)
        slopes = np.ones((p.size, y.size))
        for i, h in enumerate(small):
            nudged = p.copy()
            nudged[i] += h
            slopes[i] = (model(nudged) - fit) / h
        gradient = (slopes * (weight * residual)).sum(axis=1) + information * (first - p)
        curvature = np.einsum("ik,jk->ij", slopes * weight, slopes) + np.diag(information)
        size = np.sqrt(np.maximum(np.diag(curvature), 1e-300))
        moved = False
        while damping < 1e6:
            damped = curvature / np.outer(size, size) + damping * np.eye(p.size)
            change = np.linalg.solve(damped, gradient / size) / size
            # a step too far leaves where the profile means anything
            change[:2] = np.clip(change[:2], -0.5, 0.5)
            new = model(p + change)
            if cost(p + change, value - new, spread) <= before:
                p, fit, moved = p + change, new, True
                damping = max(damping / 10, 1e-9)
                break
            damping *= 10
        if not moved or float(np.abs(change * size).max()) < SETTLED * math.sqrt(y.size):
            break
    return _Profile(*p.tolist()) if np.isfinite(p).all() else start


def _shape(core: Bool) -> tuple[float, float]:
    """Two components of the ellipse that has the second moments of a core; none for a small one."""
    y, x = np.nonzero(core)
    if y.size < 4 * RING_PIXELS:
        return 0.0, 0.0
    dy, dx = y - y.mean(), x - x.mean()
    yy, xx, xy = ((a * b).mean() for a, b in ((dy, dy), (dx, dx), (dy, dx)))
    # the metric is the inverse of the moments, of determinant one: its logarithm has no trace
    half, cross = (xx - yy) / 2, -xy
    size, middle = math.hypot(half, cross), (yy + xx) / 2
    if size == 0 or size >= middle:
        return 0.0, 0.0
    log = math.atanh(size / middle)
    return log * half / size, log * cross / size


def _bright_disk(
    steps: NDArray[Any], good: Bool, distance: Float, edge: float, radius: Float, profile: Float
) -> Bool:
    """Pixels of a flat core, which need not be round: brighter than half-way from the halo to the core."""
    near = distance <= edge
    inside, beyond = profile[radius < edge - 0.5], profile[radius > edge + 0.5]
    if edge == 0 or not inside.size or not beyond.size or not beyond[0] > 0:
        return np.asarray(near & (edge > 0))
    level = math.sqrt(float(np.median(inside)) * float(beyond[0]))
    bright = (good & (steps > level) & (distance <= 1.3 * edge + 2)) | (near & ~good)
    return np.asarray(ndimage.binary_fill_holes(bright))


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
    behind = away[0] - away
    ends, count = (math.log(0.3), math.log(3 * (away[-1] + 1))), 200
    best = (0.0, math.nan, math.inf)
    for _ in range(2):
        logs = np.linspace(*ends, count)
        scales = np.exp(logs)
        shape = np.exp(behind / scales[:, None])
        weighted = shape * weight
        amplitude = (weighted * profile).sum(axis=1) / (weighted * shape).sum(axis=1)
        chi2 = (weight * (profile - amplitude[:, None] * shape) ** 2).sum(axis=1)
        i = int(chi2.argmin())
        best = float(amplitude[i] * math.exp(away[0] / scales[i])), float(scales[i]), float(chi2[i])
        ends, count = (float(logs[max(i - 1, 0)]), float(logs[min(i + 1, count - 1)])), 50
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
