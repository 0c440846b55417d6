"""What the temporal kernels are told: covariance factors, noise prior and offsets of a block."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import covariance
from .lanes import LANES, padded

Float = NDArray[np.float32]

#: Bins of rho: the floor, then each 1.5 times the one before.
#: Half a bin beside the truth costs at most 0.25 % of significance.
RHO_RATIO = 1.5
RHO_BINS = 22


class Tables(NamedTuple):
    """Factors of the covariance for a grid of ``rho``, one row a bin; see :mod:`.covariance`.

    ``edges`` (bins - 1,) separate the bins. With the factors ``C = L L'`` of the covariance of the M
    differences, ``ahead`` (bins, 4 * size) holds four numbers a difference, as the scan going forward
    reads them: 0 (its place is taken by the row offset), gain and link of ``f = L^-1 d``, and the weight
    of the slope; ``back`` the gain, link and slope of the step statistic going backward, and 0.
    ``scale`` (bins, M) turns the statistic into an amplitude, ``total`` (bins,) is ``dt' C^-1 dt``.
    ``slope_weight`` (M,) and ``centred`` (size,) give the least-squares slope from differences and from
    reads, ``interval`` (M,) is the time between reads in units of its mean. ``size`` is M or N rounded
    up to whole chunks of rows, with zeros.
    """

    rho: Float
    edges: Float
    ahead: Float
    back: Float
    scale: Float
    total: Float
    slope_weight: Float
    centred: Float
    interval: Float


class Prior(NamedTuple):
    """What is known of the noise of each column, shape (nx,).

    ``variance`` (1, nx) or (ny, nx) of one read [DN^2] with ``dof`` degrees of freedom; ``noisy``: the ratio
    of variances above which a pixel keeps its own; ``poisson``: variance per DN of signal [DN] (1 / gain),
    with ``rho_variance`` [DN^2] so that ``rho = slope * poisson / rho_variance``.
    """

    variance: Float
    dof: Float
    noisy: Float
    poisson: Float
    rho_variance: Float


class Offsets(NamedTuple):
    """Offsets to subtract, as differences from read to read [DN], with their least-squares slopes and sums.

    The offset of a pixel is ``column`` (M, nx) + ``gradient`` (M, nx) * ``height`` (ny,) + ``row`` (M, ny).
    """

    column: Float
    gradient: Float
    height: Float
    row: Float
    column_slope: Float
    gradient_slope: Float
    row_slope: Float
    column_total: Float
    gradient_total: Float
    row_total: Float

    @property
    def has_gradient(self) -> bool:
        """Whether any offset depends on the row other than by ``row``."""
        return bool(self.gradient.any())


def make_tables(pattern: NDArray[np.float64], rho_floor: float) -> Tables:
    """Tables for the frames described by ``pattern`` (3, N), see :func:`.covariance.read_pattern`."""
    n = pattern.shape[1]
    m = n - 1
    model = np.zeros((5, m))
    covariance.timing(pattern, np.arange(n), model)
    rho = rho_floor * RHO_RATIO ** np.arange(RHO_BINS)
    weight, link, unit, scale = np.zeros((4, RHO_BINS, m))
    total = np.array(
        [covariance.factor(model, m, r, weight[i], link[i], unit[i], scale[i]) for i, r in enumerate(rho)]
    )
    ahead, back = np.zeros((2, RHO_BINS, padded(m), 4))
    root = np.sqrt(weight)
    ahead[:, :m, 1] = root
    ahead[:, 1:m, 2] = link[:, :-1] * root[:, :-1] * root[:, 1:]
    ahead[:, :m, 3] = unit
    # a place where no step can be told from the slope has a scale of zero, which would stop the recursion
    safe = np.maximum(scale, 1e-6)
    back[:, :m, 0] = root * safe
    back[:, : m - 1, 1] = (link * weight * safe)[:, :-1] / safe[:, 1:]
    back[:, :m, 2] = unit * safe
    time = pattern[0] - pattern[0].mean()
    centred = np.zeros(padded(n))
    centred[:n] = time / (time @ time)
    slope_weight = np.cumsum(centred[n - 1 :: -1])[::-1][1:]
    arrays = (
        rho, np.sqrt(rho[1:] * rho[:-1]), ahead.reshape(RHO_BINS, -1), back.reshape(RHO_BINS, -1), scale,
        total, slope_weight, centred, model[0],
    )  # fmt: skip
    return Tables(*(np.ascontiguousarray(a, np.float32) for a in arrays))


def make_prior(
    nx: int,
    variance: ArrayLike,
    dof: ArrayLike,
    noisy: ArrayLike,
    poisson: ArrayLike,
    rho_variance: ArrayLike,
) -> Prior:
    """A prior for ``nx`` columns from scalars or (nx,) arrays, padded to whole tiles.

    ``variance`` may be (ny, nx) as well: a prior of its own for every pixel.
    """
    own = np.atleast_2d(np.asarray(variance, np.float32))
    others = (np.broadcast_to(np.asarray(a, np.float32), (nx,)) for a in (dof, noisy, poisson, rho_variance))
    return Prior(_pad(np.broadcast_to(own, (own.shape[0], nx)), 1.0), *(_pad(a, 1.0) for a in others))


def make_offsets(
    tables: Tables,
    nx: int,
    ny: int,
    column: Float | None = None,
    gradient: Float | None = None,
    height: Float | None = None,
    row: Float | None = None,
) -> Offsets:
    """Offsets of a block from offsets per read; None is zero.

    ``column`` and ``gradient`` (N, nx), ``row`` (N, ny), ``height`` (ny,).
    """
    m = tables.interval.size

    def differences(values: Float | None, size: int) -> Float:
        if values is None:
            return np.zeros((m, size), np.float32)
        return np.diff(np.asarray(values, np.float64), axis=0).astype(np.float32)

    parts = [differences(column, nx), differences(gradient, nx), differences(row, ny)]
    weight = tables.slope_weight.astype(np.float64)
    slopes = [_pad((weight @ p).astype(np.float32), 0.0) for p in parts]
    totals = [_pad(p.sum(axis=0, dtype=np.float64).astype(np.float32), 0.0) for p in parts]
    return Offsets(
        _pad(parts[0], 0.0), _pad(parts[1], 0.0),
        np.zeros(ny, np.float32) if height is None else np.ascontiguousarray(height, np.float32),
        parts[2], *slopes, *totals,
    )  # fmt: skip


def _pad(values: Float, fill: float) -> Float:
    """Extend the last axis to whole tiles."""
    size = values.shape[-1]
    whole = -(-size // LANES) * LANES
    out = np.full((*values.shape[:-1], whole), fill, np.float32)
    out[..., :size] = values
    return out
