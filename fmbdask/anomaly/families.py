"""Families of near-identical anomalies, so that one artefact does not fill a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Deviations of one family have at least this cosine with those of its first member.
ALIKE = 0.7


def families(
    deviations: NDArray[np.float32], kinds: Sequence[Any] | NDArray[Any], *, alike: float = ALIKE
) -> NDArray[np.int64]:
    """Group listed objects with the first one of the list that deviates as they do (leader clustering).

    Parameters
    ----------
    deviations : (n, width) float32
        How each object of the list, most anomalous first, differs from what is ordinary: whitened vectors,
        say. Raw vectors of ordinary objects of one class are alike as well.
    kinds : (n,)
        Only objects of one kind are of one family: the modality that put them into the list.
    alike : float
        Cosine, in (0, 1].

    Returns
    -------
    (n,) int64
        Place in the list of the family's first member, which represents it.

    Notes
    -----
    Source: Hartigan 1975, Clustering Algorithms, chapter 3.

    Examples
    --------
    >>> families(np.array([[1, 0], [0, 1], [2, 0.1]], np.float32), ["image"] * 3).tolist()
    [0, 1, 0]
    """
    lengths = np.linalg.norm(deviations, axis=1, keepdims=True)
    directions = deviations / np.where(lengths > 0, lengths, 1.0)
    names = np.asarray(kinds)
    out = np.arange(len(directions))
    leaders = np.empty(len(directions), np.int64)
    count = 0
    for place, direction in enumerate(directions):
        own = leaders[:count]
        own = own[names[own] == names[place]]
        cosines = directions[own] @ direction
        best = int(cosines.argmax()) if len(own) else -1
        if best >= 0 and cosines[best] >= alike:
            out[place] = own[best]
        else:
            leaders[count] = place
            count += 1
    return out


def sizes(family: NDArray[np.int64]) -> NDArray[np.int64]:
    """Members of the family of each object; (n,)."""
    found: NDArray[np.int64] = np.bincount(family, minlength=len(family))[family]
    return found
