"""Lists of anomalous objects at a stated rate of false ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError


def largest_list(p_values: NDArray[np.float64], rate: float, *, objects: int | None = None) -> int:
    """How many objects a list holds whose share of false ones is expected to be at most ``rate``.

    Parameters
    ----------
    p_values : (n,)
        Rising; at least the smallest of all.
    rate : float
        False discovery rate, in (0, 1).
    objects : int, optional
        How many were tested, where ``p_values`` holds only the smallest of them.

    Notes
    -----
    Source: Benjamini & Hochberg 1995, Journal of the Royal Statistical Society B 57, 289.

    Examples
    --------
    >>> largest_list(np.array([0.001, 0.04, 0.3, 0.8]), 0.1)
    2
    """
    if not 0.0 < rate < 1.0:
        raise InputError(f"a false discovery rate of {rate} cannot be: give one between 0 and 1")
    places = np.arange(1, len(p_values) + 1)
    passing = np.flatnonzero(p_values <= rate * places / (len(p_values) if objects is None else objects))
    return int(passing[-1]) + 1 if len(passing) else 0


def discoveries(p_values: NDArray[np.float64], rate: float) -> NDArray[np.bool_]:
    """Which objects a list at a false discovery rate holds; (n,). NaN is never listed and does not count."""
    known = np.sort(p_values[~np.isnan(p_values)])
    count = largest_list(known, rate)
    found: NDArray[np.bool_] = p_values <= (known[count - 1] if count else -1.0)
    return found
