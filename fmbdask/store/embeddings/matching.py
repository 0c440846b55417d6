"""Which objects of two lists are the same: by id, or by position on the sky."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .columns import Column, kind_of, places

Rows = NDArray[np.int64]
#: More pairs within the radius than this many for each object say that the radius is too large.
MOST_PAIRS = 50


def match_ids(left: Column, right: Column, names: tuple[str, str]) -> tuple[Rows, Rows]:
    """Match objects by id.

    Parameters
    ----------
    left, right : (n,), (m,) array
        Ids, each once.
    names : (str, str)
        What the message calls them.

    Returns
    -------
    a, b : (k,) int64 array
        Places in either list of each object of both: those of ``left`` in order, then those of ``right`` that
        it does not have. -1 where a list does not have the object.

    Raises
    ------
    InputError
        If the ids are of two kinds.
    """
    if left.dtype.kind != right.dtype.kind:
        raise InputError(
            f"ids are {kind_of(left)} in {names[0]} and {kind_of(right)} in {names[1]}: join on position, or "
            "import one of them again with ids of the other kind"
        )
    return _outer(places(left, right), len(right))


def match_positions(
    left: tuple[NDArray[np.float64], NDArray[np.float64]],
    right: tuple[NDArray[np.float64], NDArray[np.float64]],
    radius: float,
) -> tuple[Rows, Rows, NDArray[np.float64]]:
    """Match objects by position, one to one, the nearest pair first.

    Parameters
    ----------
    left, right : pair of (n,) arrays
        Right ascension and declination [deg]; NaN matches nothing.
    radius : float
        Largest separation [arcsec].

    Returns
    -------
    a, b : (k,) int64 array
        As :func:`match_ids` gives them.
    separation : (k,) array
        Of each pair [arcsec]; NaN where there is none.

    Raises
    ------
    InputError
        If the radius is not positive, above a degree, or holds very many pairs.
    """
    from scipy.spatial import cKDTree

    if not 0 < radius <= 3600:
        raise InputError(f"a radius of {radius:g} arcsec cannot match objects: give one between 0 and 3600")
    places = [np.flatnonzero(np.isfinite(ra) & np.isfinite(dec)) for ra, dec in (left, right)]
    trees = [
        cKDTree(unit_vectors(ra[at], dec[at])) if len(at) else None
        for (ra, dec), at in zip((left, right), places, strict=True)
    ]
    partner = np.full(len(left[0]), -1, np.int64)
    distance = np.full(len(left[0]), np.nan)
    if trees[0] is not None and trees[1] is not None:
        chord = 2 * np.sin(np.deg2rad(radius / 3600) / 2)
        pairs = int(trees[0].count_neighbors(trees[1], chord))
        if pairs > MOST_PAIRS * (len(places[0]) + len(places[1])):
            raise InputError(
                f"{pairs} pairs of objects lie within {radius:g} arcsec of one another: give a smaller radius"
            )
        near = trees[0].sparse_distance_matrix(trees[1], chord, output_type="ndarray")
        i, j, chords = _one_to_one(near["i"], near["j"], near["v"])
        partner[places[0][i]] = places[1][j]
        distance[places[0][i]] = np.rad2deg(2 * np.arcsin(chords / 2)) * 3600
    a, b = _outer(partner, len(right[0]))
    return a, b, np.concatenate([distance, np.full(len(a) - len(distance), np.nan)])


def unit_vectors(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions on the sphere: (n, 3), of right ascension and declination [deg]."""
    longitude, latitude = np.deg2rad(ra), np.deg2rad(dec)
    across = np.cos(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), np.sin(latitude)], axis=1)


def _one_to_one(
    i: NDArray[np.int64], j: NDArray[np.int64], distance: NDArray[np.float64]
) -> tuple[Rows, Rows, NDArray[np.float64]]:
    """Take pairs from the nearest on, each object once.

    A pair that is the nearest left of both its objects is what taking them one by one would take next, so all
    such pairs are taken at once, until none is left.
    """
    order = np.lexsort((j, i, distance))
    i, j, distance = i[order], j[order], distance[order]
    taken: list[tuple[Rows, Rows, NDArray[np.float64]]] = []
    while len(i):
        first = np.zeros((2, len(i)), bool)
        for side, ends in enumerate((i, j)):
            first[side, np.unique(ends, return_index=True)[1]] = True
        best = first.all(axis=0)
        taken.append((i[best], j[best], distance[best]))
        left = ~(np.isin(i, i[best]) | np.isin(j, j[best]))
        i, j, distance = i[left], j[left], distance[left]
    if not taken:
        return i, j, distance
    parts = [np.concatenate(column) for column in zip(*taken, strict=True)]
    return parts[0], parts[1], parts[2]


def _outer(partner: Rows, n: int) -> tuple[Rows, Rows]:
    """Rows of an outer join, from the partner of each object of the left list."""
    free = np.ones(n, bool)
    free[partner[partner >= 0]] = False
    rest = np.flatnonzero(free)
    a = np.concatenate([np.arange(len(partner)), np.full(len(rest), -1)])
    return a, np.concatenate([partner, rest])
