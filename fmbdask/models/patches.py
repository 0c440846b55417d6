"""Blocks of voxels through a network that sees patches: a grid, overlaps, and a smooth blend.

Patches lie on a grid that belongs to the whole exposure, and a voxel is the weighted mean of what all patches
over it say, in the order of the grid. So a voxel has the same value however the exposure was cut into blocks:
each block must hold all patches over the voxels that are wanted of it (:meth:`Grid.needed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, InputError
from .handles import OpenNetwork
from .inference import one_torch_thread

Floats = NDArray[np.float32]
#: Spans in (time, y, x), in voxels of the whole exposure.
Box = tuple[slice, slice, slice]
Shape = tuple[int, int, int]

#: Frames, rows and columns of a patch, and how many of them two patches share.
PATCH, OVERLAP = (64, 32, 32), (16, 8, 8)


@dataclass(frozen=True)
class Grid:
    """Patches over a whole exposure.

    Attributes
    ----------
    whole : tuple of int
        Frames, rows and columns of the exposure.
    patch : tuple of int
        Those of a patch.
    overlap : tuple of int
        How many of them neighbours share at least: the last patch of an axis is moved back so that it ends
        with the exposure.

    Raises
    ------
    ConfigError
        If there is no such grid.
    """

    whole: Shape
    patch: Shape = PATCH
    overlap: Shape = OVERLAP

    def __post_init__(self) -> None:
        if min(self.whole) < 1 or min(self.patch) < 1:
            raise ConfigError(f"patches {self.patch} of an exposure {self.whole} cannot be: give 1 or more")
        if any(not 0 <= shared < size for shared, size in zip(self.overlap, self.patch, strict=True)):
            raise ConfigError(
                f"patches of {self.patch} cannot overlap by {self.overlap}: give less than the patch"
            )

    def starts(self, axis: int) -> list[int]:
        """Where patches begin along an axis."""
        size, step = self.patch[axis], self.patch[axis] - self.overlap[axis]
        last = max(0, self.whole[axis] - size)
        return [*range(0, last, step), last]

    def over(self, core: Box) -> list[Shape]:
        """Where the patches begin that have voxels of a box, in the order of the grid."""
        times, rows, columns = (
            [s for s in self.starts(axis) if s < span.stop and s + self.patch[axis] > span.start]
            for axis, span in enumerate(core)
        )
        return list(product(times, rows, columns))

    def needed(self, core: Box) -> Box:
        """The box that a block must hold at least for the voxels of a box."""
        found = self.over(core)
        first, last = found[0], found[-1]
        spans = (
            slice(first[axis], min(last[axis] + self.patch[axis], self.whole[axis])) for axis in range(3)
        )
        time, rows, columns = spans
        return time, rows, columns

    def weights(self, axis: int) -> dict[int, Floats]:
        """Weight of each position of each patch along an axis, by where it begins: they sum to one."""
        size, shared = self.patch[axis], self.overlap[axis]
        place = np.arange(size) + 0.5
        edge = np.minimum(1.0, np.minimum(place, size - place) / max(shared, 0.5))
        bell = np.sin(0.5 * np.pi * edge) ** 2
        starts = self.starts(axis)
        total = np.zeros(max(self.whole[axis], size))
        for start in starts:
            total[start : start + size] += bell
        return {start: (bell / total[start : start + size]).astype(np.float32) for start in starts}


def segment(
    model: OpenNetwork,
    block: Floats,
    *,
    core: Box | None = None,
    origin: Shape = (0, 0, 0),
    grid: Grid | None = None,
    one_thread: bool = True,
) -> Floats:
    """Probability of each class in each voxel of a block of any size.

    Parameters
    ----------
    model : OpenNetwork
    block : (channels, time, y, x) float32
        Finite values, normalised as the network was trained.
    core : tuple of slice, optional
        Voxels that are wanted, in (time, y, x) of the whole exposure; all that the block has by default.
    origin : tuple of int
        Place of the first voxel of the block in the whole exposure.
    grid : Grid, optional
        Patches of the whole exposure; the block is the whole exposure by default.
    one_thread : bool
        Hold torch to one thread: parallel are the blocks.

    Returns
    -------
    (classes, time, y, x) float32
        Of the core.

    Raises
    ------
    InputError
        If the block has another number of channels than the network takes, or lacks voxels that patches over
        the core need (:meth:`Grid.needed`).

    Notes
    -----
    On a CPU the same bits however the exposure was cut and whatever runs beside it, in float32 as in bfloat16
    (on one type of CPU). Batches of other sizes: equal within 1e-5 in float32 and 0.05 in bfloat16.

    Source of the overlapping patches: Ronneberger, Fischer & Brox 2015, arXiv:1505.04597.
    """
    check_channels(model, block, 4)
    time, rows, columns = block.shape[1:]
    grid = grid or Grid((time, rows, columns))
    held = tuple(slice(o, o + n) for o, n in zip(origin, block.shape[1:], strict=True))
    core = core or (held[0], held[1], held[2])
    if any(not 0 <= span.start < span.stop <= n for span, n in zip(core, grid.whole, strict=True)):
        raise InputError(f"{_said(core)} is no box in an exposure of {grid.whole}: give one inside")
    needed = grid.needed(core)
    if any(n.start < h.start or n.stop > h.stop for n, h in zip(needed, held, strict=True)):
        raise InputError(
            f"a block of voxels {_said(held)} is too small for patches over {_said(core)}: "
            f"give {_said(needed)}"
        )
    starts = grid.over(core)
    weights = [grid.weights(axis) for axis in range(3)]
    made: Floats = np.zeros(
        (len(model.architecture.classes), *(span.stop - span.start for span in core)), np.float32
    )
    cut = (_cut(block, origin, start, grid) for start in starts)
    with _threads(one_thread):
        for start, found in zip(starts, rows_of(model, cut), strict=True):
            here, there, parts = [], [], []
            for axis, (begin, span) in enumerate(zip(start, core, strict=True)):
                low, high = max(begin, span.start), min(begin + grid.patch[axis], span.stop)
                here.append(slice(low - span.start, high - span.start))
                there.append(slice(low - begin, high - begin))
                parts.append(weights[axis][begin][there[-1]])
            weight = parts[0][:, None, None] * parts[1][:, None] * parts[2]
            made[:, here[0], here[1], here[2]] += weight * found[:, there[0], there[1], there[2]]
    return made


def classify_patches(
    model: OpenNetwork,
    patches: Iterable[Floats],
    *,
    reduce: Callable[[Floats], Any] | None = None,
    one_thread: bool = True,
) -> list[Any]:
    """Probability of each class in each voxel of patches of one size, or what is made of them.

    Parameters
    ----------
    model : OpenNetwork
    patches : iterable of (channels, time, y, x) float32
        Is read as it is needed.
    reduce : callable, optional
        Called with the (classes, time, y, x) probabilities of each patch; what it returns is kept instead.
    one_thread : bool
        Hold torch to one thread: parallel are the blocks.

    Returns
    -------
    list
        For each patch, in their order.

    Raises
    ------
    InputError
        If patches differ in shape, or have another number of channels than the network takes.

    Notes
    -----
    As reproducible as :func:`segment`.
    """

    def checked() -> Iterator[Floats]:
        for patch in patches:
            check_channels(model, patch, 4)
            yield patch

    with _threads(one_thread):
        # A copy: a view would keep the whole batch that it came in.
        rows = rows_of(model, checked())
        return [found.copy() if reduce is None else reduce(found) for found in rows]


def rows_of(model: OpenNetwork, patches: Iterable[Floats]) -> Iterator[Floats]:
    """What a network makes of each patch, in their order."""
    for found in model.batches(patches):
        yield from found


def check_channels(model: OpenNetwork, voxels: Floats, ndim: int) -> None:
    """Refuse voxels that a network does not take.

    Raises
    ------
    InputError
        Naming both shapes.
    """
    if voxels.ndim != ndim or voxels.shape[-4] != model.architecture.channels or not voxels.size:
        raise InputError(
            f"voxels of shape {voxels.shape} cannot go through a network that takes (channels "
            f"{model.architecture.channels}, time, y, x): give such blocks"
        )


def _threads(one: bool) -> AbstractContextManager[None]:
    return one_torch_thread() if one else nullcontext()


def _cut(block: Floats, origin: Shape, start: Shape, grid: Grid) -> Floats:
    """One patch; where the exposure is smaller, its last voxels are repeated."""
    spans, beyond = [slice(None)], [(0, 0)]
    for begin, first, size, whole in zip(start, origin, grid.patch, grid.whole, strict=True):
        stop = min(begin + size, whole)
        spans.append(slice(begin - first, stop - first))
        beyond.append((0, begin + size - stop))
    patch: Floats = block[tuple(spans)]
    return np.pad(patch, beyond, mode="edge") if any(after for _, after in beyond) else patch


def _said(box: Sequence[slice]) -> str:
    return " x ".join(f"{span.start}:{span.stop}" for span in box)
