"""Rates of ramps and their errors, under the noise that a ramp has rather than the one a search assumes.

A search for steps wants a short memory and assumes more accumulating noise than there is. Its two rates,
ordinary and generalised least squares, are both linear in the reads, so the variance of any mixture of them
is known for every noise model, and so is the best mixture: it comes within half a per cent of generalised
least squares with the true covariance. Ramps with steps or gaps are left to :mod:`.stepped`, which has the
model of the noise.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import planes as to
from .arrays import on_gpu
from .jit import ZERO, exact, kernel
from .rate_tables import MIXED, RateTables
from .stepped import LEAST, TELLING
from .tables import Offsets, Prior, Tables

Float = NDArray[np.float64]
f4 = np.float32


@exact
def _mix_bin(r, bins, general, scatter, free, prior, dof, noisy, poisson, tables, plain, rate, error):
    """Pixels of one row whose bin is ``r``, with :func:`.stepped.read_variance` without branches."""
    a0, b0, both0 = tables.read[0, r], tables.read[1, r], tables.read[2, r]
    a1, b1, both1 = tables.photon[0, r], tables.photon[1, r], tables.photon[2, r]
    quanta, whites = tables.poisson[r], tables.white[r]
    most = f4(1) if r < MIXED else f4(0)
    for x in range(plain.size):
        best, own = general[x], prior[x]
        light = max(best, f4(0)) * poisson[x]
        photons, white = light * quanta, own * whites
        told = max(scatter[x] * free - photons, f4(0)) / whites
        share = white / (white + photons)
        counts = free * share * share
        pooled = max((counts * told + dof[x] * own) / (counts + dof[x]), f4(LEAST) * own)
        told = told if (share > f4(TELLING)) & (told > noisy[x] * own) else pooled
        b, both = told * b0 + light * b1, told * both0 + light * both1
        apart = max(told * a0 + light * a1 + b - (both + both), f4(1e-6) * b)
        share = min(max((b - both) / apart, f4(0)), most)
        # the variance of a mixture is a parabola in its share
        spread = f4(math.sqrt(b - share * (f4(2) * (b - both) - share * apart)))
        mine = bins[x] == f4(r)
        rate[x] = best + share * (plain[x] - best) if mine else rate[x]
        error[x] = spread if mine else error[x]


@exact
def _mix(planes, plain, free, variance, dof, noisy, poisson, tables, out):
    """The loop behind :func:`rates`, ``out`` (2, ny, nx) being rate and error."""
    for y in range(plain.shape[0]):
        bins, last = planes[to.RHO_BIN, y], f4(-1)
        for x in range(bins.size):
            out[0, y, x] = out[1, y, x] = f4(np.nan)
            last = max(last, bins[x]) if bins[x] >= f4(0) else last
        for r in range(int(last) + 1):
            present = False
            for x in range(bins.size):
                present |= bins[x] == f4(r)
            if present:
                _mix_bin(
                    r, bins, planes[to.RATE, y], planes[to.READ_VARIANCE, y], free,
                    variance[min(y, variance.shape[0] - 1)], dof, noisy, poisson, tables, plain[y],
                    out[0, y], out[1, y],
                )  # fmt: skip


@kernel
def _clipped(planes, last):
    """Pixels of bins before ``last`` whose slope may leave an outlying difference out."""
    largest, median, mad, bins = planes[to.LARGEST], planes[to.MEDIAN], planes[to.MAD], planes[to.RHO_BIN]
    ny, nx = mad.shape
    marked, found = np.empty((ny, nx), np.uint8), ZERO
    for y in range(ny):
        for x in range(nx):
            reach = np.float32(to.WINSOR * to.MAD_SIGMA) * max(mad[y, x], np.float32(1))
            beyond = (largest[y, x] + abs(median[y, x]) > reach) & (bins[y, x] < np.float32(last))
            marked[y, x] = beyond
            found += beyond
    rows, columns, k = np.empty(found, np.int64), np.empty(found, np.int64), ZERO
    for y in range(ny):
        for x in range(nx):
            if marked[y, x]:
                rows[k], columns[k] = y, x
                k += 1
    return rows, columns


@exact
def _slopes(data, used, rows, columns, centred, out):
    """Least-squares slopes of single pixels, frame by frame: the reads of a pixel lie far apart."""
    first = np.empty(rows.size)
    for p in range(rows.size):
        first[p] = data[used[0], rows[p], columns[p]]
        out[p] = 0.0
    for t in range(1, used.size):
        frame, weight = data[used[t]], centred[t]
        for p in range(rows.size):
            out[p] += weight * (frame[rows[p], columns[p]] - first[p])


def rates(
    data: NDArray[Any],
    used: NDArray[np.int64],
    planes: NDArray[np.float32],
    prior: Prior,
    tables: Tables,
    offsets: Offsets,
    parts: RateTables,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Best rate of every pixel without steps, and its error; arrays of CuPy stay on their GPU.

    Parameters
    ----------
    data, used, prior, tables, offsets
        What made ``planes``.
    planes : (planes, ny, nx) array
        From :func:`fmbdask_kernels.temporal.temporal_features`.
    parts : RateTables
        From :func:`make_rates`.

    Returns
    -------
    (ny, nx) array, (ny, nx) array
        Rate and its error [DN per mean interval]; those of pixels of which not all reads are used mean
        nothing.
    """
    if on_gpu(data):
        from .cupy import rates as twin

        return twin.rates(data, used, planes, prior, tables, offsets, parts)
    plain = planes[to.SLOPE]
    rows, columns = _clipped(planes, MIXED)
    if rows.size:
        own = np.empty(rows.size)
        _slopes(data, used, rows, columns, tables.centred, own)
        shared = offsets.column_slope[columns] + offsets.height[rows] * offsets.gradient_slope[columns]
        plain = plain.copy()
        plain[rows, columns] = own - (shared + offsets.row_slope[rows])
    out = np.empty((2, *plain.shape), np.float32)
    variance = prior.variance / f4(parts.excess)
    _mix(
        planes, plain, f4(used.size - 2), variance, prior.dof, prior.noisy, prior.poisson, parts, out
    )  # fmt: skip
    return out[0], out[1]
