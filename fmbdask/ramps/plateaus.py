"""Pixels that are full below the stated saturation level: where their ramps stop to grow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

#: Share of the saturation level from which a pixel may be full; wells scatter by a few per cent.
FULL = 0.8
#: A pixel is full from so many sigma below its plateau on.
NOISE = 6.0
#: Fewest reads on the way to a plateau, and fewest on it.
READS = 8
#: Share of the rate before the plateau that may be left on it.
LEFT = 0.02
#: Shares of its height between which a ramp is half-way to its plateau: a hit that fills a pixel jumps.
HALFWAY = (0.25, 0.75)


def before_plateau(ramps: Float, used: Bool, level: Float, sigma: Float) -> Bool:
    """Leave out the reads in which a pixel is full although it stays below the stated saturation level.

    A ramp that grows fast and is flat for the rest has neither the mean rate nor the Poisson noise that a fit
    to all of it assumes, and what chance does in its steep part passes for steps.

    Parameters
    ----------
    ramps : (K, N) array
        Counts [DN].
    used : (K, N) bool array
        Reads that may be used.
    level : (K,) array
        Stated saturation level [DN]; no pixel is full where it is not finite.
    sigma : (K,) array
        Noise of one read [DN].

    Returns
    -------
    (K, N) bool array
        ``used`` up to the last read but one before the plateau of each ramp that has one.
    """
    out = used.copy()
    reads = used.sum(axis=1)
    high = np.where(used, ramps, -np.inf).max(axis=1, initial=-np.inf)
    for i in np.flatnonzero(np.isfinite(level) & (high >= FULL * level) & (reads >= 2 * READS)):
        at = np.flatnonzero(used[i])
        values = ramps[i, at].astype(np.float64)
        top = _median(values[-READS:])
        full = int(np.argmax(values >= top - NOISE * sigma[i]))
        if full < READS or at.size - full < READS:
            continue
        rise = (values[full] - values[0]) / full
        plateau = values[full:]
        half = plateau.size // 2
        growth = (_median(plateau[-half:]) - _median(plateau[:half])) / (plateau.size - half)
        # medians of few reads scatter
        limit = LEFT * rise + 2 * sigma[i] / (np.sqrt(half) * half)
        halfway = (values[full // 2] - values[0]) / (values[full] - values[0])
        if top >= FULL * level[i] and abs(growth) <= limit and HALFWAY[0] < halfway < HALFWAY[1]:
            out[i, at[full - 1] :] = False
    return out


def _median(values: NDArray[np.float64]) -> float:
    """Median of a few numbers, in a tenth of the time of the function of NumPy."""
    ordered = np.sort(values)
    return float((ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2]) / 2)
