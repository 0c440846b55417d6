"""Geometry of regions: which block of an exposure one task owns, and whether chunks and shards agree with it.

A region holds **all** frames of a rectangle of pixels. Only whole chunks (and whole shards) may be written by
one task: two writers inside one chunk corrupt it without an error, so the check comes before the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .errors import ConfigError

#: Objects of a block of an embedding store, counted from object 0: sums over objects are taken block by
#: block, so that they do not depend on chunks or workers.
BLOCK = 4096
#: Largest chunk in bytes: larger buffers are mapped afresh by the allocator at every use.
CHUNK_LIMIT = 16 * 2**20
SMALLEST_EDGE, LARGEST_EDGE = 16, 512


@dataclass(frozen=True, order=True)
class Region:
    """All frames of the pixels ``[y0, y1) x [x0, x1)`` of one integration."""

    integration: int
    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def y(self) -> slice:
        """Rows."""
        return slice(self.y0, self.y1)

    @property
    def x(self) -> slice:
        """Columns."""
        return slice(self.x0, self.x1)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0


def edge_for(frames: int, itemsize: int, limit: int = CHUNK_LIMIT) -> int:
    """Choose the edge in pixels of a square chunk that holds all frames.

    Parameters
    ----------
    frames : int
        Number of frames.
    itemsize : int
        Bytes of one value.
    limit : int
        Largest chunk in bytes.

    Returns
    -------
    int
        The largest power of two between 16 and 512 whose chunk stays within the limit (16 if none does).

    Examples
    --------
    >>> edge_for(450, 2)
    128
    >>> edge_for(20, 2)
    512
    """
    edge = LARGEST_EDGE
    while edge > SMALLEST_EDGE and frames * edge * edge * itemsize > limit:
        edge //= 2
    return edge


def tile_regions(shape: Sequence[int], edge: int) -> list[Region]:
    """Cut an exposure into regions, row by row.

    Parameters
    ----------
    shape : sequence of int
        (integration, frame, y, x).
    edge : int
        Rows and columns of a region [pixels]; the last ones may be smaller.

    Returns
    -------
    list of Region
        Every pixel of every integration exactly once, in row-major order.

    Examples
    --------
    >>> tile_regions((1, 450, 100, 200), 128)
    [Region(integration=0, y0=0, y1=100, x0=0, x1=128), Region(integration=0, y0=0, y1=100, x0=128, x1=200)]
    """
    if edge < 1:
        raise ConfigError(f"the edge of a region is {edge}: give at least one pixel")
    integrations, _, rows, columns = shape
    return [
        Region(i, y, min(y + edge, rows), x, min(x + edge, columns))
        for i in range(integrations)
        for y in range(0, rows, edge)
        for x in range(0, columns, edge)
    ]


def check_alignment(
    edge: int, chunks: Sequence[int], shards: Sequence[int] | None = None, *, name: str = "the array"
) -> None:
    """Refuse regions that would share a chunk or a shard with a neighbour.

    Parameters
    ----------
    edge : int
        Rows and columns of a region [pixels].
    chunks, shards : sequence of int
        Chunk and shard shape of the array that is written; the last two axes are y and x.
    name : str
        What the message calls the array.

    Raises
    ------
    ConfigError
        If a region is not a whole number of chunks, or of shards, along y or x.
    """
    for kind, sizes in (("chunk", chunks), ("shard", shards)):
        if sizes is None:
            continue
        for axis, size in zip("yx", tuple(sizes)[-2:], strict=True):
            if edge % size:
                raise ConfigError(
                    f"regions of {edge} pixels cut the {kind}s of {size} pixels of {name} along {axis}: "
                    f"choose an edge that is a multiple of {size}"
                )
