"""Charge that events leave in pixels: the common currency of cosmic rays and snowballs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Deposits:
    """Charges that appear in pixels and stay, sorted by row, column, frame and event: each (n,).

    Attributes
    ----------
    y, x : array
        Pixel.
    frame : array
        First frame that holds the charge.
    event : array
        Number of the event.
    charge : array
        [electron]
    """

    y: Int
    x: Int
    frame: Int
    event: Int
    charge: Float

    @property
    def size(self) -> int:
        """Number of charges."""
        return int(self.y.size)

    def take(self, index: slice | NDArray[np.bool_] | Int) -> Deposits:
        """Pick some of them."""
        return Deposits(*(getattr(self, field.name)[index] for field in fields(self)))

    def rows(self, y0: int, y1: int) -> Deposits:
        """Those of rows ``y0`` to ``y1`` (exclusive)."""
        return self.take(slice(*np.searchsorted(self.y, [y0, y1])))


def gather(parts: Sequence[Deposits]) -> Deposits:
    """Join and sort; charges of one event in one pixel and frame are added."""
    columns = [np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Deposits)]
    y, x, frame, event, charge = columns
    order = np.lexsort((event, frame, x, y))
    y, x, frame, event, charge = (column[order] for column in columns)
    new = np.ones(y.size, np.bool_)
    new[1:] = (np.diff(y) != 0) | (np.diff(x) != 0) | (np.diff(frame) != 0) | (np.diff(event) != 0)
    total = np.bincount(np.cumsum(new) - 1, weights=charge).astype(np.float64)
    return Deposits(y[new], x[new], frame[new], event[new], total)


def nothing() -> Deposits:
    """No charge at all."""
    none = np.empty(0, np.int64)
    return Deposits(none, none, none, none, np.empty(0))


def coupled(deposits: Deposits, neighbour: float, corner: float, shape: tuple[int, int]) -> Deposits:
    """Give the steps that the read-out shows when neighbours share a signal; see ``read_charge``."""
    parts = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            share = (1 - 4 * neighbour - 4 * corner, neighbour, corner)[abs(dy) + abs(dx)]
            if share > 0:
                y, x = deposits.y + dy, deposits.x + dx
                moved = Deposits(y, x, deposits.frame, deposits.event, deposits.charge * share)
                parts.append(moved.take((y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])))
    return gather(parts)
