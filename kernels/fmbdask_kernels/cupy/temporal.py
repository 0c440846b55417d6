"""The fused pass on a GPU, and what limits it.

One thread does one pixel. Frames come first, so neighbouring threads read neighbouring addresses, and the
exposure is read **once**: its differences stay in shared memory, two of 16 bits a word, in a column that
only its own thread looks at, so there is nothing to synchronise. All further passes run on them:

1. read, moments, extremes, mean distance from the mean difference, count up to it (one pass);
2. median and median absolute deviation, exact, by counting bisection between the brackets of the CPU's
   kernel; each look counts two probes, the first beside a guess (two looks and three at usual noise);
3. forward recursion with the appearance of reads above a limit, whose bits are counted 16 at a time;
4. backward recursion. The solution of the forward one (float) has no room, so every 16 frames its state is
   kept, and the block is solved again from there.

A pixel that needs a mask puts itself on a list for the kernel ``masked``, which runs next without the host.

Roofline, per pixel and frame
-----------------------------
Memory: 2 bytes of counts, 92 bytes of planes a pixel (0.2 at 450 frames). Column offsets are shared by all
rows and come from the second-level cache (4 bytes a recursion, 8 in all, less where a block has several
rows). Instructions, counted in the machine code of the loops for sm_90: 57 in the passes 1, 3 and 4, 6 for
each look at the median and 7 for each at the deviation, which makes 90 at usual noise.

An H100 (132 multiprocessors, 128 instructions of threads a clock each, 1.755 GHz; 3.35 TB/s) reads 2 bytes in
0.6 ps and issues 18 instructions in that time, an H200 (4.8 TB/s) 12, an A100 (108, 1.41 GHz, 2.04 TB/s) 19.
The kernel has five to seven times as many: the rate of instructions limits it on all three, not the
bandwidth; at best it would take 3.0 ps on an H100 or H200 and 4.5 ps on an A100. A pixel of 450 reads takes a
kilobyte of shared memory: 192 threads fit on a multiprocessor of an H100 or H200, 128 on one of an A100, few
enough that instructions must hide latency by being independent, so every loop is unrolled over 16 frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..planes import COUNT
from ..tables import Offsets, Prior, Tables
from .card import READS, Card, current
from .packed import BLOCK, pack_offsets, pack_prior, pack_tables, padded

#: Threads side by side in a block: the pixels of one warp.
WIDTH = 32
#: Most rows of threads in a block, which share column offsets in the first-level cache.
ROWS = 4
#: Shared memory that the system takes of each block [byte].
RESERVED = 1024
#: Pixels of the masked kernel at a time where few are masked, and where all are.
FEW, MANY = 2048, 16384
#: Threads of a block of the masked kernel, and columns of float64 scratch that each of them has.
MASKED_BLOCK, MASKED_COLUMNS = 64, 8


@dataclass(frozen=True)
class Told:
    """What the kernels are told about a block, on the card."""

    frames: Any
    pattern: Any
    tables: Any
    prior: Any
    offsets: Any
    bins: int
    variance_rows: int
    with_gradient: bool

    @property
    def scalars(self) -> tuple[np.int32, np.int32]:
        """Rows of the read variance, and whether there is a gradient."""
        return np.int32(self.variance_rows), np.int32(self.with_gradient)


def tell_shared(
    card: Card, used: NDArray[np.int64], tables: Tables, pattern: NDArray[np.float64] | None
) -> tuple[Any, Any, Any]:
    """Frames, pattern and tables, which the blocks of an exposure share and the card keeps."""
    return (
        card.keep(used, lambda: used.astype(np.int32)),
        None if pattern is None else card.keep(pattern, lambda: np.ascontiguousarray(pattern)),
        card.keep(tables.ahead, lambda: pack_tables(tables)),
    )


def tell(
    card: Card,
    used: NDArray[np.int64],
    tables: Tables,
    prior: Prior,
    offsets: Offsets,
    nx: int,
    pattern: NDArray[np.float64] | None = None,
) -> Told:
    """Send what a block needs beside its counts."""
    return Told(
        *tell_shared(card, used, tables, pattern), card.xp.asarray(pack_prior(prior, nx)),
        card.xp.asarray(pack_offsets(offsets, nx)), tables.rho.size, prior.variance.shape[0],
        offsets.has_gradient,
    )  # fmt: skip


def geometry(n: int, per_block: int, per_processor: int) -> tuple[int, int]:
    """Rows of threads in a block and its shared memory [byte] for ``n`` reads; 0 byte: it does not fit.

    Most threads at a time on a multiprocessor; among equals several blocks, so that one fills the gap that
    another leaves at its end, and then many rows, which share offsets.
    """
    size = padded(n - 1)
    thread = 4 * (size // 2 + size // BLOCK)
    best, chosen = (0, False, 0), (1, 0)
    for rows in range(1, ROWS + 1):
        shared = rows * WIDTH * thread
        if shared + RESERVED > per_block:
            break
        blocks = per_processor // (shared + RESERVED)
        value = (blocks * rows, blocks > 1, rows)
        if value > best:
            best, chosen = value, (rows, shared)
    return chosen


def features(
    card: Card,
    data: Any,
    told: Told,
    level: Any,
    usable: Any = None,
    appearance_sigma: float = 5.0,
    seen: Any = None,
) -> Any:
    """Planes of a block whose frames are those in use, all on the card; nothing waits for the host.

    ``data`` and ``usable`` (N, ny, nx), ``level`` (ny, nx); ``seen`` (ny, nx) int32 gets the number of looks
    at the differences of each pixel that the median took, and 256 times that of the deviation.
    """
    xp, (n, ny, nx) = card.xp, data.shape
    out = xp.empty((COUNT, ny, nx), np.float32)
    fast = data.dtype == np.uint16
    listed = None
    if fast:
        rows, shared = geometry(n, card.per_block, card.per_processor)
        grid = -(-nx // WIDTH), -(-ny // rows)
        spill = None
        if not shared:
            size = padded(n - 1)
            spill = xp.empty(grid[0] * grid[1] * rows * WIDTH * (size // 2 + size // BLOCK), np.uint32)
        listed = xp.zeros(1 + ny * nx, np.int32)
        card.launch(
            "temporal", ("-DSPILL",) if spill is not None else (), grid, (WIDTH, rows), shared,
            (data, usable, level, told.frames, told.tables, told.prior, told.offsets, spill, out, listed,
             seen, np.int32(n), np.int32(told.bins), np.int32(ny), np.int32(nx), *told.scalars,
             np.float32(appearance_sigma)),
        )  # fmt: skip
    blocks = -(-min(ny * nx, FEW if fast else MANY) // MASKED_BLOCK)
    work = xp.empty(MASKED_COLUMNS * n * blocks * MASKED_BLOCK, np.float64)
    whole = np.issubdtype(data.dtype, np.integer)
    card.launch(
        "masked", (f"-DDATA={READS[data.dtype.str[1:]]}", f"-DWHOLE={int(whole)}"), (blocks, 1),
        (MASKED_BLOCK, 1), 0,
        (data, usable, level, told.frames, told.pattern, told.tables, told.prior, told.offsets, listed, work,
         out, np.int32(n), np.int32(told.bins), np.int32(ny), np.int32(nx), *told.scalars,
         np.float32(appearance_sigma)),
    )  # fmt: skip
    return out


def in_use(card: Card, data: Any, used: NDArray[np.int64]) -> Any:
    """Frames in use, contiguous; a copy only where frames are left out between others."""
    first, last = int(used[0]), int(used[-1]) + 1
    if last - first == used.size:
        return card.xp.ascontiguousarray(data[first:last])
    return data[card.xp.asarray(used)]


def known_type(data: Any) -> Any:
    """Counts of a type that kernels are compiled for: others become float64."""
    return data if data.dtype.str[1:] in READS and data.dtype.isnative else data.astype(np.float64)


def temporal_features(
    data: Any,
    used: NDArray[np.int64],
    tables: Tables,
    prior: Prior,
    offsets: Offsets,
    *,
    pattern: NDArray[np.float64],
    usable: Any = None,
    saturation: ArrayLike | None = None,
    appearance_sigma: float = 5.0,
    card: Card | None = None,
) -> Any:
    """Twin of :func:`fmbdask_kernels.temporal.temporal_features` for an array on a GPU.

    Parameters are those of the kernel for CPUs; ``usable`` and ``saturation`` may be anywhere, and ``card``
    is the GPU of this thread unless another is given. Integers are equal to those of the CPU, floats to the
    rounding of float32; a bin of rho may be the next one where rho is on an edge to that rounding.

    Returns
    -------
    (planes, ny, nx) float32 array
        On the GPU.
    """
    card = card or current()
    xp, (ny, nx) = card.xp, data.shape[1:]
    told = tell(card, used, tables, prior, offsets, nx, pattern)
    level = xp.empty((ny, nx), np.float32)
    level[...] = xp.asarray(np.inf if saturation is None else saturation, np.float32)
    mask = None if usable is None else in_use(card, xp.asarray(usable), used)
    return features(card, in_use(card, known_type(data), used), told, level, mask, appearance_sigma)
