"""What kernels on a GPU are told, each part in one array: how ``common.cuh`` finds it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rate_tables import RateTables
from ..tables import Offsets, Prior, Tables

Float = NDArray[np.float32]

#: Differences that are solved again together, as in ``common.cuh``.
BLOCK = 16


def padded(m: int) -> int:
    """Round a number of differences up to whole blocks."""
    return -(-m // BLOCK) * BLOCK


def pack_tables(tables: Tables) -> Float:
    """Factors for the recursions in the form that needs fewest numbers and instructions.

    With pivots ``p_t = v_t + follow_t p_(t-1)`` of the differences ``v``, ``d' C^-1 d`` is the sum of
    ``weight_t p_t^2``; going backward ``s_t = p_t + precede_t s_(t+1)``, and the step statistic is
    ``gain_t s_t - rate centre_t``. These are the recursions of :mod:`fmbdask_kernels.covariance` with the
    inverse pivots taken out.
    """
    bins, m = tables.scale.shape
    ahead = tables.ahead.reshape(bins, -1, 4)[:, :m].astype(np.float64)
    back = tables.back.reshape(bins, -1, 4)[:, :m].astype(np.float64)
    root, linked, safe = ahead[..., 1], ahead[..., 2], back[..., 0] / ahead[..., 1]
    follow, precede = np.zeros((2, bins, m))
    follow[:, 1:] = linked[:, 1:] * root[:, :-1] / root[:, 1:]
    precede[:, :-1] = linked[:, 1:] * root[:, 1:] / root[:, :-1]
    parts: list[NDArray[Any]] = [
        follow, root**2, ahead[..., 3], precede, root**2 * safe, back[..., 2], tables.scale,
    ]  # fmt: skip
    whole = np.zeros((len(parts), bins, padded(m)), np.float32)
    for target, values in zip(whole, parts, strict=True):
        target[:, :m] = values
    single = np.zeros((3, padded(m)), np.float32)
    single[:, :m] = tables.centred[1 : m + 1], tables.slope_weight, tables.interval
    ends = (tables.total, tables.edges, tables.rho, tables.centred[:1])
    return np.concatenate([whole.ravel(), single.ravel(), *ends])


def pack_prior(prior: Prior, nx: int) -> Float:
    """Four rows for the columns of a block, then its read variances."""
    rows = (prior.dof, prior.noisy, prior.poisson, prior.rho_variance, *prior.variance)
    return np.concatenate([row[:nx] for row in rows])


def pack_offsets(offsets: Offsets, nx: int) -> Float:
    """Rows, columns (and gradients, if any), slopes and totals of these, then what belongs to rows."""
    m, ny = offsets.row.shape
    row = np.zeros((ny, padded(m)), np.float32)
    row[:, :m] = offsets.row.T
    parts: list[Float] = [row]
    for values in (offsets.column, offsets.gradient)[: 1 + offsets.has_gradient]:
        whole = np.zeros((padded(m), nx), np.float32)
        whole[:m] = values[:, :nx]
        # four differences of a column in a word of 16 bytes
        parts.append(whole.reshape(-1, 4, nx).transpose(0, 2, 1))
    columns = (
        offsets.column_slope, offsets.gradient_slope, offsets.column_total, offsets.gradient_total,
    )  # fmt: skip
    parts += [values[:nx] for values in columns]
    parts += [values[:ny] for values in (offsets.height, offsets.row_slope, offsets.row_total)]
    return np.concatenate([part.ravel() for part in parts])


def pack_rates(parts: RateTables) -> Float:
    """Variances of the two rates and their covariance, for read and photon noise, then what either adds."""
    return np.concatenate([parts.read.ravel(), parts.photon.ravel(), parts.poisson, parts.white])
