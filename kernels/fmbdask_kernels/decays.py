"""A step among the first reads against a decaying current, for pixels that fired."""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .covariance import INTERVAL, solve, timing
from .jit import ZERO, kernel
from .projection import (
    DEGENERATE,
    DIAGONAL,
    DIFFERENCE,
    FREE,
    LINK,
    SOLVED,
    UNIT,
    WEIGHT,
    WORK_ROWS,
    differences,
    recall,
    restart,
    tables,
)
from .smooth import EXPLAINED, decay_shape
from .steps import spread_over


@kernel
def _contest(ramps, used, variance, rho, pattern, order, lasting, out):
    """The loop behind :func:`step_or_decay`."""
    frames, decays = ramps.shape[1], lasting.size
    steps = out.shape[1] - decays
    work, model = np.zeros((WORK_ROWS, frames)), np.zeros((5, frames))
    shapes, information = np.zeros((decays, frames)), np.zeros(decays)
    index, known = np.zeros(frames, np.int64), np.zeros(frames, np.int64)
    n_known, rho_known, total = ZERO, -1.0, 0.0
    solved, free, diagonal, unit = work[SOLVED], work[FREE], work[DIAGONAL], work[UNIT]
    for p in order:
        n = differences(ramps[p], used[p], index, work[DIFFERENCE])
        m = n - 1
        if m < 3 or not variance[p] > 0:
            continue
        if not recall(index, known, n, n_known):
            timing(pattern, index[:n], model)
            n_known, rho_known = n, -1.0
        if rho[p] != rho_known:
            rho_known = rho[p]
            total = tables(model, m, rho_known, work)
            for s in range(decays):
                decay_shape(model[INTERVAL], m, lasting[s], shapes[s])
                square = solve(shapes[s], m, work[WEIGHT], work[LINK], solved)
                along = 0.0
                for i in range(m):
                    along += unit[i] * shapes[s, i]
                information[s] = square - along * along / total
                if information[s] <= EXPLAINED * square:
                    information[s] = np.inf
        restart(m, total, work)
        for i in range(m):
            if index[i + 1] > steps:
                break
            if solved[i] > 0 and free[i] > DEGENERATE * diagonal[i]:
                out[p, index[i + 1] - 1] = solved[i] * solved[i] / free[i] / variance[p]
        for s in range(decays):
            moment = 0.0
            for i in range(m):
                moment += shapes[s, i] * solved[i]
            if moment > 0:
                out[p, steps + s] = moment * moment / information[s] / variance[p]


def step_or_decay(
    ramps: ArrayLike,
    used: ArrayLike,
    variance: ArrayLike,
    rho: ArrayLike,
    pattern: ArrayLike,
    steps: int,
    lasting: ArrayLike,
) -> NDArray[np.float32]:
    """What one early step, and what one decaying current explains of each ramp, beside the slope.

    Sums over the pixels that rose together tell which of the two they share.

    Parameters
    ----------
    ramps, used, variance, rho, pattern
        As in :func:`fmbdask_kernels.steps.fit_steps`.
    steps : int
        Steps at frames 1 to ``steps`` are tried.
    lasting : (D,) array
        Decay times that are tried [mean interval].

    Returns
    -------
    (K, steps + D) array
        By how much chi^2 falls with a positive step at each frame, then with a current of each decay time; 0
        where that is negative or cannot be told.
    """
    data = np.ascontiguousarray(ramps, np.float32)
    pixels = data.shape[0]
    times = np.array(lasting, np.float64)
    out = np.zeros((pixels, steps + times.size), np.float32)
    rho_ = spread_over(rho, pixels)
    used_ = np.ascontiguousarray(used, np.bool_)
    # neighbours in this order share reads and tables
    order = np.lexsort((rho_, used_.sum(axis=1)))
    _contest(
        data, used_, spread_over(variance, pixels), rho_, np.ascontiguousarray(pattern, np.float64), order,
        times, out,
    )  # fmt: skip
    return out
