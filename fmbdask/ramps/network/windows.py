"""The small patches that the network is asked about, cut out of an exposure that is read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...regions import Region
from ..prepare import Prepared
from ..region import region_features
from ..surroundings import ReadBlock
from .inputs import channels, limits_without

#: Reads, rows and columns of a patch.
PATCH = (64, 16, 16)
#: Patches are cut out of blocks of this edge, each of which is read once [pixel].
BLOCK = 128


@dataclass(frozen=True, order=True)
class Place:
    """Something that the network is asked about: a read of a pixel.

    ``frame`` is counted in the exposure.
    """

    integration: int
    y: int
    x: int
    frame: int


@dataclass(frozen=True)
class Window:
    """A patch around a place.

    Attributes
    ----------
    place : Place
    start : (int, int, int)
        First read after which there are values (counted in those in use), first row and first column.
    values : (channels, reads, rows, columns) float32 array
        :data:`~fmbdask.ramps.network.inputs.CHANNELS`.
    """

    place: Place
    start: tuple[int, int, int]
    values: NDArray[np.float32]


def windows(
    places: Sequence[Place], prepared: Sequence[Prepared], read: ReadBlock, unusable: NDArray[np.bool_]
) -> Iterator[tuple[int, Window]]:
    """Cut a patch around each place.

    Parameters
    ----------
    places : sequence of Place
    prepared : sequence of Prepared
        One an integration.
    read : callable
        Reads a region, (T, ny, nx).
    unusable : (integrations, y, x) bool
        Pixels that no read of may be used.

    Yields
    ------
    number : int
        Which place: they come block by block, the same whatever chunks the exposure is kept in.
    window : Window
        Smaller than :data:`PATCH` only where the exposure is. Where an edge is near, the place is not in the
        middle.
    """
    held: tuple[int, int, int] | None = None
    for number in by_block(places, prepared):
        place = places[number]
        p = prepared[place.integration]
        corner = _corner(place, p)
        rows, columns = p.detector.active
        tile = place.integration, corner[0] // BLOCK, corner[1] // BLOCK
        if tile != held:
            block = Region(
                place.integration,
                max(tile[1] * BLOCK, rows.start),
                min((tile[1] + 1) * BLOCK + PATCH[1], rows.stop),
                max(tile[2] * BLOCK, columns.start),
                min((tile[2] + 1) * BLOCK + PATCH[2], columns.stop),
            )
            data, held = read(block), tile
            # once for all patches of a tile: the fused pass over a patch is too narrow for its lanes
            planes = region_features(data, p, block, limits_without(p, block, unusable))
        y1, x1 = (
            min(c + size, axis.stop) for c, size, axis in zip(corner, PATCH[1:], (rows, columns), strict=True)
        )
        own = Region(place.integration, corner[0], y1, corner[1], x1)
        part = np.s_[:, own.y0 - block.y0 : own.y1 - block.y0, own.x0 - block.x0 : own.x1 - block.x0]
        first = int(np.clip(read_of(p, place.frame) - PATCH[0] // 2, 0, max(p.used.size - 1 - PATCH[0], 0)))
        values = channels(
            np.ascontiguousarray(data[part]), p, own, limits_without(p, own, unusable),
            slice(first, first + PATCH[0]), np.ascontiguousarray(planes[part]),
        )  # fmt: skip
        yield number, Window(place, (first, *corner), values)


def by_block(places: Sequence[Place], prepared: Sequence[Prepared]) -> list[int]:
    """Numbers of places, those of one block after each other."""
    corners = [_corner(place, prepared[place.integration]) for place in places]
    return sorted(
        range(len(places)),
        key=lambda k: (places[k].integration, *(c // BLOCK for c in corners[k]), places[k]),
    )


def read_of(p: Prepared, frame: int) -> int:
    """Place of a frame among the values of a patch: those after each read in use but the first."""
    return max(int(np.searchsorted(p.used, frame)) - 1, 0)


def _corner(place: Place, p: Prepared) -> tuple[int, int]:
    """First row and column of the patch around a place, inside the pixels that see light."""
    found = []
    for at, size, axis in zip((place.y, place.x), PATCH[1:], p.detector.active, strict=True):
        found.append(int(np.clip(at - size // 2, axis.start, max(axis.stop - size, axis.start))))
    return found[0], found[1]
