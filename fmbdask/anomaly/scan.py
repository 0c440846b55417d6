"""From errors of steps to a score of a sequence: its most surprising windows.

In windows of several lengths the errors, which are 0 on average with deviation 1 where all is ordinary, are
asked by a likelihood ratio whether they have another mean or another variance: larger (a spike, noise, a
forecast that fails) or smaller (a signal that stands still). Each length counts in units of what ordinary
sequences have, and the score is a smooth maximum over the lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: From one length of windows to the next.
STEP = 2
#: Errors of deviation 1 that every window is taken to have besides its own.
PRIOR = 4.0
#: Quantiles of ordinary sequences that become 0 and 1.
MIDDLE, UPPER = 0.5, 0.9


@dataclass(frozen=True)
class Scan:
    """What windows of ordinary errors have.

    Attributes
    ----------
    lengths : (w,) int64
        Steps of windows.
    middle, spread : (w,) float64
        Of the largest ratio of a sequence, for each length.
    """

    lengths: NDArray[np.int64]
    middle: NDArray[np.float64]
    spread: NDArray[np.float64]

    @staticmethod
    def of(errors: NDArray[np.float64]) -> Scan:
        """Learn from errors (n, steps, features) of ordinary sequences, NaN where a step is not valid."""
        lengths = [1]
        while lengths[-1] * STEP < errors.shape[1]:
            lengths.append(lengths[-1] * STEP)
        lengths.append(errors.shape[1])
        found = np.array(lengths, np.int64)
        ratios = largest(errors, found)
        middle, upper = np.quantile(ratios, [MIDDLE, UPPER], axis=0)
        return Scan(found, middle, np.maximum(upper - middle, 1e-6))

    def __call__(self, errors: NDArray[np.float64]) -> NDArray[np.float64]:
        """Score of each sequence, the logarithm of the sum of exponentials over the lengths; (n,)."""
        each = (largest(errors, self.lengths) - self.middle) / self.spread
        top = each.max(axis=1)
        found: NDArray[np.float64] = top + np.log(np.exp(each - top[:, None]).sum(axis=1))
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is saved."""
        return {"lengths": self.lengths, "middle": self.middle, "spread": self.spread}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Scan:
        """Inverse of :meth:`arrays`.

        Raises
        ------
        ValueError
            If they do not fit together.
        """
        lengths, middle, spread = (arrays[name] for name in ("lengths", "middle", "spread"))
        if not lengths.shape == middle.shape == spread.shape or not (spread > 0).all():
            raise ValueError(f"windows of {lengths.shape} lengths have spreads of {spread.shape}")
        return Scan(lengths, middle, spread)


def largest(errors: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Largest likelihood ratio of all windows of each length; (n, lengths).

    Parameters
    ----------
    errors : (n, steps, features) float64
        NaN where a step is not valid.
    lengths : (w,) int64

    Notes
    -----
    Of n errors of one feature with mean square m and variance v about their mean, against mean 0 and variance
    1: n (m - 1 - log v) / 2, summed over the features.
    """
    there = ~np.isnan(errors[..., :1])
    known = np.where(there, errors, 0.0)
    count, total, squares = (_before(a) for a in (there.astype(np.float64), known, known * known))
    out = np.empty((len(errors), len(lengths)))
    for place, length in enumerate(lengths.tolist()):
        n = count[:, length:] - count[:, :-length]
        s = total[:, length:] - total[:, :-length]
        q = squares[:, length:] - squares[:, :-length]
        if length == 1:
            ratio = 0.5 * q
        else:
            variance = (np.maximum(q - s * s / np.maximum(n, 1.0), 0.0) + PRIOR) / (n + PRIOR)
            ratio = 0.5 * (q - n - n * np.log(variance))
        out[:, place] = ratio.sum(axis=2).max(axis=1)
    return out


def _before(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of all steps before each, and of all: (n, steps + 1, features)."""
    out = np.zeros((len(values), values.shape[1] + 1, values.shape[2]))
    np.cumsum(values, axis=1, out=out[:, 1:])
    return out
