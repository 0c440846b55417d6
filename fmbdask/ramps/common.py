"""What the quiet pixels of a group of columns, or of a row, have in common from read to read.

A snowball lifts thousands of pixels in one read; a mean over all pixels of a narrow amplifier takes that for
an offset of the amplifier, and so would a median once half of them are hit. Pixels are therefore summed in
small cells first, where noise averages out and a halo does not; the cells that stand out in a read are left
out of the mean of that read.
"""

from __future__ import annotations

import numpy as np
from fmbdask_kernels.temporal import MAD_SIGMA
from numpy.typing import NDArray

from ..regions import Region

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

#: Rows and columns of a cell [pixel].
CELL = 16
#: A cell stands out from this many of its own standard deviations on.
OUTSTANDING = 2.5
ROUNDS = 4
#: Rows that are looked at together.
TOGETHER = 16
#: Least share of the pixels that must be quiet in a read.
QUIET = 0.5
#: Cells whose pixels rise by this share of the reach, all of them, and stay, are hit: no offset does that.
FULL = 0.98
#: A block holds a great event when so many cells rise by so many of their standard deviations and stay: its
#: halo may cover a row from end to end of the block.
GREAT_CELLS, GREAT = 3, 6.0


class Cells:
    """Sums over small cells of the blocks of an exposure; M differences, ``groups`` of columns, ny rows."""

    def __init__(self, differences: int, groups: int, rows: int) -> None:
        self.shape = differences, groups, rows
        self.values: list[NDArray[np.float32]] = []
        self.pixels: list[Int] = []
        self.group: list[Int] = []
        self.rows: list[tuple[Region, Int, Bool, NDArray[np.float32], Bool]] = []

    def add(
        self,
        block: Region,
        group: Int,
        good: Bool,
        sums: NDArray[np.float32],
        row_sums: NDArray[np.float32],
        reach: float,
    ) -> None:
        """Add a block.

        Parameters
        ----------
        block : Region
        group : (nx,) int array
            Group of each column.
        good : (ny, nx) bool array
            Pixels that are summed.
        sums, row_sums : (M, bands, nx), (M, ny, bands) array
            From :func:`fmbdask_kernels.reference.active_sums` [DN].
        reach : float
            Where differences are winsorised [DN].
        """
        order, starts = _cells_of(group)
        bands = np.arange(0, good.shape[0], CELL)
        count = np.add.reduceat(np.add.reduceat(good.astype(np.int64), bands, axis=0)[:, order], starts, 1)
        total = np.add.reduceat(sums[:, :, order], starts, axis=2).reshape(sums.shape[0], -1)
        some = count.ravel() > 0
        mean = (total[:, some] / count.ravel()[some]).astype(np.float32)
        self.values.append(_without_hit(mean, reach))
        self.pixels.append(count.ravel()[some])
        self.group.append(np.tile(group[order][starts], bands.size)[some])
        self.rows.append((block, group, good, row_sums, _great(mean)))

    def of_groups(self) -> tuple[Float, Int]:
        """Common difference of each group, (M, groups) [DN], and its pixels (groups,).

        Where too few cells of a group are quiet, the median of the other groups stands for it.
        """
        m, groups, _ = self.shape
        out, pixels = np.full((m, groups), np.nan), np.zeros(groups, np.int64)
        if self.values:
            values = np.concatenate(self.values, axis=1)
            count, group = np.concatenate(self.pixels), np.concatenate(self.group)
            for g in range(groups):
                mine = group == g
                pixels[g] = count[mine].sum()
                if mine.any():
                    out[:, g] = quiet_mean(values[:, mine], count[mine])
        known = np.isfinite(out)
        others = np.zeros(m)
        some = known.any(axis=1)
        others[some] = np.nanmedian(out[some], axis=1)
        return np.where(known, out, np.where(pixels > 0, others[:, None], 0.0)), pixels

    def of_rows(self, group: Float) -> tuple[Float, Int]:
        """Common difference of each row less that of its groups, (M, ny) [DN], and its pixels (ny,).

        Zero where too few cells of a row are quiet, or all its blocks hold a great event.
        """
        m, groups, rows = self.shape
        out, pixels = np.zeros((m, rows)), np.zeros(rows, np.int64)
        for span in sorted({(b.y0, b.y1) for b, *_ in self.rows}):
            parts, counts = [], []
            for block, own, good, sums, great in self.rows:
                if (block.y0, block.y1) != span:
                    continue
                starts = np.arange(0, good.shape[1], CELL)
                count = np.add.reduceat(good.astype(np.int64), starts, axis=1)
                # pixels of each group in each cell of each row
                member = good[:, :, None] & (own[:, None] == np.arange(groups))
                share = np.add.reduceat(member.astype(np.float64), starts, axis=1)
                mean = np.divide(sums, np.maximum(count, 1), dtype=np.float32)
                mean[great] = np.nan
                of_groups = np.einsum("mg,ycg->myc", group, share / np.maximum(count, 1)[..., None])
                parts.append(np.where(count > 0, mean - of_groups, np.nan))
                counts.append(count)
            values, count = np.concatenate(parts, axis=2), np.concatenate(counts, axis=1)
            found = quiet_mean(values, count)
            out[:, slice(*span)] = np.where(np.isfinite(found), found, 0.0)
            pixels[slice(*span)] = count.sum(axis=1)
        return out, pixels


def quiet_mean(values: NDArray[np.float32] | Float, pixels: Int) -> Float:
    """Mean of the cells that do not stand out in a read, less the median of each cell over the reads.

    Parameters
    ----------
    values : (M, ..., cells) array
        Mean of each cell in each read; NaN where all of a cell is hit, or it has no pixels.
    pixels : (..., cells) int array
        Pixels of each cell.

    Returns
    -------
    (M, ...) array
        NaN where less than half of the pixels are quiet.
    """
    if values.ndim > 2 and values.shape[1] > TOGETHER:  # what fits into the caches
        parts = range(0, values.shape[1], TOGETHER)
        found = [quiet_mean(values[:, i : i + TOGETHER], pixels[i : i + TOGETHER]) for i in parts]
        return np.concatenate(found, axis=1)
    # reads last: the axis that is longest and sorted most
    own = np.moveaxis(values, 0, -1).astype(np.float64, order="C")
    own -= _median(own)[..., None]
    seen = np.isfinite(own)
    own[~seen] = np.nan
    centre = _median(np.swapaxes(own, -1, -2))
    away = np.abs(own - centre[..., None, :])
    reach = (OUTSTANDING * MAD_SIGMA * _median(away))[..., None]
    own[~seen] = 0.0
    weight = pixels.astype(np.float64)
    weighted = own * weight[..., None]
    quiet, total = seen, np.zeros(centre.shape)
    for turn in range(ROUNDS):
        if turn:
            away = np.abs(own - centre[..., None, :])
        quiet = seen & (away <= reach)
        total = np.where(quiet, weight[..., None], 0.0).sum(axis=-2)
        mean = np.where(quiet, weighted, 0.0).sum(axis=-2) / np.maximum(total, 1.0)
        centre = np.where(total > 0, mean, centre)
    enough = (total > 0) & (total >= QUIET * weight.sum(axis=-1)[..., None])
    return np.moveaxis(np.where(enough, centre, np.nan), -1, 0)


def _median(values: Float) -> Float:
    """Median along the last axis of what is not NaN; NaN where nothing is."""
    size = values.shape[-1]
    ordered = values.copy(order="C")
    ordered.sort(axis=-1)  # NaN last
    if np.isfinite(ordered[..., 0]).all() and np.isfinite(ordered[..., -1]).all():
        return np.asarray((ordered[..., (size - 1) // 2] + ordered[..., size // 2]) / 2)
    count = np.isfinite(ordered).sum(axis=-1, keepdims=True)
    low, high = np.maximum((count - 1) // 2, 0), np.minimum(count // 2, size - 1)
    middle = [np.take_along_axis(ordered, at, -1)[..., 0] for at in (low, high)]
    return np.asarray((middle[0] + middle[1]) / 2)


def _cells_of(group: Int) -> tuple[Int, Int]:
    """Columns sorted into cells of one group each, and where each cell begins."""
    key = np.arange(group.size) // CELL * (int(group.max()) + 1) + group
    order = np.argsort(key, kind="stable")
    return order, np.flatnonzero(np.r_[True, np.diff(key[order]) > 0])


def _great(mean: NDArray[np.float32]) -> Bool:
    """Reads in which cells (M, cells) of a block show a great event."""
    own = mean.astype(np.float64)
    own -= _median(own.T)
    high = own > GREAT * MAD_SIGMA * _median(np.abs(own).T)
    high[:-1] &= own[1:] > -own[:-1] / 2
    return np.asarray(high.sum(axis=1) >= GREAT_CELLS)


def _without_hit(mean: NDArray[np.float32], reach: float) -> NDArray[np.float32]:
    """Means of cells, NaN where all pixels of a cell rise beyond reach in a read and stay."""
    full = mean >= FULL * reach
    full[:-1] &= mean[1:] > -FULL / 2 * reach
    return np.where(full, np.float32(np.nan), mean).astype(np.float32)
