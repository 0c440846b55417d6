"""Rates of the few pixels of a region that have steps or miss reads, each with the noise that it has."""

from __future__ import annotations

import numpy as np
from fmbdask_kernels.stepped import rates_with_steps
from fmbdask_kernels.steps import Steps
from numpy.typing import NDArray

from ..regions import Region
from .prepare import Prepared

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

#: Fewest reads between two steps, or in all, that tell a rate.
FEWEST = 2


def rates_of(
    ramps: Float,
    used: Bool,
    begins: Bool,
    p: Prepared,
    region: Region,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    high: Bool | None = None,
) -> tuple[Float, Float]:
    """Rate and error of single pixels of a region.

    Parameters
    ----------
    ramps, used, begins : (K, N) arrays
        Corrected counts [DN], whether a read is used, and whether a new level begins with it.
    p : Prepared
    region : Region
    rows, columns : (K,) arrays
        Where the pixels are in the region.
    high : (K, N) bool array, optional
        Reads in the upper one of two levels.

    Returns
    -------
    (K,) array, (K,) array
        [DN per interval], NaN where fewer than two reads lie between the same steps.
    """
    amplifier = p.detector.amplifier[region.x][columns]
    variance = p.noise.pixels(p.detector.amplifier, region)[rows, columns] / p.noise.rates.excess
    return rates_with_steps(
        ramps, used, begins, variance, p.noise.dof[amplifier], p.noise.noisy[amplifier], p.poisson, p.pattern,
        p.noise.rates.drift, high,
    )  # fmt: skip


def beginnings(steps: Steps, frames: int, chosen: NDArray[np.int64] | None = None) -> Bool:
    """Reads with which a new level begins, (K, frames), from fitted steps.

    Of ramp k only step i counts for which bit i of ``chosen[k]`` is set, where that is given.
    """
    out = np.zeros((steps.count.size, frames), np.bool_)
    number = np.arange(steps.frame.shape[1])
    some = number < steps.count[:, None]
    if chosen is not None:
        some &= (chosen[:, None] >> number) & 1 > 0
    k, i = np.nonzero(some)
    out[k, steps.frame[k, i]] = True
    return out
