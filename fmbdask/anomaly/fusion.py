"""Several scores of one object made one: products of shares of ranks, or calibrated p-values combined.

``geo``, ``min`` and ``average`` multiply how unusual the match of the modalities is by how unusual they
are, each as the share of the objects of the list that rank lower. ``pvalue`` combines the p-values of all
scores there are: an object that one score finds is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..errors import InputError
from .calibration import LEAST

Fusion = Literal["pvalue", "geo", "min", "average"]
FUSIONS: tuple[str, ...] = get_args(Fusion)
#: A p-value of 1 must not outweigh small ones, so they count as this at most.
MOST = 0.99


def share_of_rank(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """How unusual each score is in its list: (N - rank + 1) / N, equal ones share the mean.

    Rank 1 is the highest. To be taken of the objects of one list, after a join. In (0, 1]; NaN stays and
    does not count in N.

    Examples
    --------
    >>> share_of_rank(np.array([3.0, 9.0, 1.0, 5.0])).tolist()
    [0.5, 1.0, 0.25, 0.75]
    """
    out = np.full(len(scores), np.nan)
    known = ~np.isnan(scores)
    count = int(known.sum())
    if count:
        out[known] = rankdata(scores[known]) / count
    return out


def fuse(
    mismatch: NDArray[np.float64],
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    fusion: Literal["geo", "min", "average"],
) -> NDArray[np.float64]:
    """Multiply shares of ranks: of the mismatch, and of both modalities.

    Parameters
    ----------
    mismatch, first, second : (n,)
        See :func:`share_of_rank`.
    fusion : {"geo", "min", "average"}
        Geometric mean, smaller one or arithmetic mean of the modalities.

    Returns
    -------
    (n,)
        In (0, 1], higher is more anomalous; NaN where a share is missing.
    """
    if fusion == "geo":
        both = np.sqrt(first * second)
    elif fusion == "min":
        both = np.minimum(first, second)
    elif fusion == "average":
        both = (first + second) / 2.0
    else:
        raise InputError(f"there is no fusion {fusion}: give one of {', '.join(FUSIONS)}")
    found: NDArray[np.float64] = mismatch * both
    return found


def uplift(
    mismatch: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the geometric fusion adds to the more unusual modality."""
    found: NDArray[np.float64] = fuse(mismatch, first, second, "geo") - np.maximum(first, second)
    return found


def combine(p_values: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Combine p-values of the same objects, whatever they have to do with each other.

    The Cauchy combination: its p-value is right in the tail under any dependence, and the smallest p-value
    decides it. Missing ones (NaN) are left out of the object's combination.

    Parameters
    ----------
    p_values : (scores, n)
        In (0, 1].

    Returns
    -------
    (n,)
        In (0, 1]; NaN where there is none.

    Notes
    -----
    Source: Liu & Xie 2020, Journal of the American Statistical Association 115, 393. Large p-values are cut
    at :data:`MOST`, after Fang et al. 2023, Statistica Sinica 33, 1115.

    Examples
    --------
    >>> combine(np.array([[0.01], [np.nan]])).round(6).tolist()
    [0.01]
    """
    p = np.clip(np.asarray(p_values, np.float64), LEAST, MOST)
    known = ~np.isnan(p)
    count = known.sum(axis=0)
    # Sorted, so that the sum is the same for any order of the scores.
    terms = np.sort(np.where(known, 1.0 / np.tan(np.pi * np.where(known, p, 0.5)), 0.0), axis=0)
    mean = terms.sum(axis=0) / np.maximum(count, 1)
    with np.errstate(divide="ignore"):
        combined = np.where(mean > 0, np.arctan(1.0 / mean), np.pi / 2 - np.arctan(mean)) / np.pi
    return np.where(count > 0, np.clip(combined, LEAST, 1.0), np.nan)


def reason(p_values: Mapping[str, NDArray[np.float64]]) -> NDArray[np.int64]:
    """Which score says most that an object is anomalous: place of its smallest p-value.

    Of equal ones the first; -1 where there is none.
    """
    p = np.array(list(p_values.values()))
    missing = np.isnan(p)
    found: NDArray[np.int64] = np.where(missing, np.inf, p).argmin(axis=0)
    return np.where(missing.all(axis=0), -1, found)
