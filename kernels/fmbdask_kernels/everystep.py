"""Significance of a step after every read of a ramp, where :mod:`.temporal` keeps the largest.

The covariance of differences of reads is tridiagonal, so its factors solve for all reads at once in two
recursions. Ramps side by side are SIMD lanes; lanes share a ratio of Poisson to read variance, and so the
factors.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import covariance
from .jit import kernel

f4 = np.float32

#: Ramps that are solved together.
LANES = 16


@dataclass(frozen=True)
class StepTables:
    """What turns M differences into significances, by ratio: see :func:`fmbdask_kernels.covariance.factor`.

    Attributes
    ----------
    weight, link, unit, scale : (ratios, M) float32 arrays
        ``scale`` is the error of the amplitude of a step beside a free slope as well, in units of the noise
        of one read.
    total : (ratios,) float32 array
    """

    weight: NDArray[np.float32]
    link: NDArray[np.float32]
    unit: NDArray[np.float32]
    scale: NDArray[np.float32]
    total: NDArray[np.float32]


def step_tables(pattern: NDArray[np.float64], reads: int, rho: NDArray[np.float32]) -> StepTables:
    """Factor the covariances of differences, in float64.

    Parameters
    ----------
    pattern : (3, N) float64 array
        Timing of the N reads in use, see :func:`fmbdask_kernels.covariance.timing`.
    reads : int
        N.
    rho : (ratios,) float32 array
        Ratios of Poisson to read variance.
    """
    m = reads - 1
    model = np.zeros((5, m))
    covariance.timing(pattern, np.arange(reads), model)
    tables = np.zeros((4, len(rho), m))
    total = np.zeros(len(rho))
    for k, ratio in enumerate(rho.astype(np.float64)):
        total[k] = covariance.factor(model, m, ratio, *tables[:, k])
    weight, link, unit, scale = tables.astype(np.float32)
    return StepTables(weight, link, unit, scale, total.astype(np.float32))


@kernel
def _solve(above, order, bins, noise, weight, link, unit, scale, total, out):
    """The loop behind :func:`every_step`: in ``order``, ramps of one ratio follow each other."""
    m = above.shape[1]
    values = np.zeros(m * LANES, f4)
    last, along = np.empty(LANES, f4), np.empty(LANES, f4)
    start = 0
    while start < order.size:
        own = bins[order[start]]
        lanes = 1
        while lanes < LANES and start + lanes < order.size and bins[order[start + lanes]] == own:
            lanes += 1
        inverse, near, even, size = weight[own], link[own], unit[own], scale[own]
        for j in range(lanes):
            ramp = above[order[start + j]]
            for k in range(m):
                values[k * LANES + j] = ramp[k]
        for j in range(LANES):
            last[j], along[j] = f4(0), f4(0)
        for k in range(m):
            row, pivot, rise = values[k * LANES : (k + 1) * LANES], inverse[k], even[k]
            back = near[k - 1] if k > 0 else f4(0)
            for j in range(LANES):
                along[j] += rise * row[j]
                last[j] = (row[j] + back * last[j]) * pivot
                row[j] = last[j]
        for j in range(LANES):
            along[j] /= total[own]
            last[j] = f4(0)
        for k in range(m - 1, -1, -1):
            row, ahead, rise, wide = (
                values[k * LANES : (k + 1) * LANES],
                near[k] * inverse[k],
                even[k],
                size[k],
            )
            for j in range(LANES):
                last[j] = row[j] + ahead * last[j]
                row[j] = wide * (last[j] - rise * along[j])
        for j in range(lanes):
            p = order[start + j]
            found, one = out[p], f4(1) / noise[p]
            for k in range(m):
                found[k] = values[k * LANES + j] * one
        start += lanes


def every_step(
    above: NDArray[np.float32], bins: NDArray[np.int64], noise: NDArray[np.float32], tables: StepTables
) -> NDArray[np.float32]:
    """Significances of a step after each read but the first, beside a free slope.

    Parameters
    ----------
    above : (pixels, M) float32 array
        Differences of reads, less any constant of the pixel; 0 where a read is missing.
    bins : (pixels,) int64 array
        Which ratio of Poisson to read variance.
    noise : (pixels,) float32 array
        Of one read, in the units of ``above``.
    tables : StepTables

    Returns
    -------
    (pixels, M) float32 array
        Estimates of a step by generalised least squares, over their errors. The same bits whatever ramps are
        beside it.
    """
    out = np.empty_like(above)
    order = np.argsort(bins, kind="stable")
    _solve(
        np.ascontiguousarray(above), order, bins, np.ascontiguousarray(noise, f4), tables.weight,
        tables.link, tables.unit, tables.scale, tables.total, out,
    )  # fmt: skip
    return out
