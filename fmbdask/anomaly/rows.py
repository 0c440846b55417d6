"""Objects in memory: vectors of each modality, which of them count, and hashes for their folds.

A model is applied to tiles of :data:`TILE` rows of one fold, the last one padded: a product of matrices
of one shape gives a row the same bits whatever else is in the tile, so that a score does not
depend on the chunk, the batch or the store an object comes in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..regions import BLOCK

T = TypeVar("T")
#: Rows of every matrix that a model is applied to.
TILE = 512


@dataclass(frozen=True)
class Rows:
    """Consecutive objects of a store, or any others.

    Attributes
    ----------
    start : int
        Place of the first one in the store.
    vectors : mapping
        Modality -> (n, width), float32.
    valid : mapping
        Modality -> (n,): whether there is a vector, and all of it is finite.
    keys : (n,) uint64
        Hash of the object's id, see :func:`~fmbdask.anomaly.folds.keys_of`.
    groups : (n,) uint64
        Hash that decides about the fold: of the id, or of what a user groups objects by.
    labels : (n,) int8, optional
        What a user says of the objects that are learnt from: 0 ordinary, 1 anomalous, -1 not known.
    """

    start: int
    vectors: Mapping[str, NDArray[np.float32]]
    valid: Mapping[str, NDArray[np.bool_]]
    keys: NDArray[np.uint64]
    groups: NDArray[np.uint64]
    labels: NDArray[np.int8] | None = None
    _made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.keys)

    def all_valid(self, modalities: Sequence[str]) -> NDArray[np.bool_]:
        """Objects that have all of these modalities."""
        found: NDArray[np.bool_] = np.logical_and.reduce([self.valid[m] for m in modalities])
        return found

    def folds(self, count: int) -> NDArray[np.int64]:
        """Fold of each object."""
        return (self.groups % np.uint64(count)).astype(np.int64)

    def made(self, key: Any, make: Callable[[], T]) -> T:
        """What several detectors need of these objects (coordinates in one basis, say) is made once."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

    def take(self, which: NDArray[Any]) -> Rows:
        """Some of the objects, by mask or places."""
        return Rows(
            self.start,
            {m: v[which] for m, v in self.vectors.items()},
            {m: v[which] for m, v in self.valid.items()},
            self.keys[which],
            self.groups[which],
            None if self.labels is None else self.labels[which],
        )

    def having(self, modalities: Sequence[str]) -> Rows:
        """The objects that have all of these modalities; taken once, so that detectors share."""
        valid = self.all_valid(modalities)
        return self if valid.all() else self.made(("having", tuple(modalities)), lambda: self.take(valid))

    def part(self, begin: int, end: int) -> Rows:
        """Some consecutive objects, without a copy."""
        span = slice(begin, end)
        return Rows(
            self.start + begin,
            {m: v[span] for m, v in self.vectors.items()},
            {m: v[span] for m, v in self.valid.items()},
            self.keys[span],
            self.groups[span],
            None if self.labels is None else self.labels[span],
        )

    def ordinary(self) -> NDArray[np.bool_]:
        """Objects that no label says are anomalous; (n,)."""
        return np.ones(len(self), bool) if self.labels is None else self.labels != 1

    def parts(self, size: int) -> Iterator[Rows]:
        """All objects, so many at a time, without copies."""
        for begin in range(0, len(self), size):
            yield self.part(begin, min(begin + size, len(self)))

    def blocks(self) -> Iterator[Rows]:
        """Cut where blocks of :data:`~fmbdask.regions.BLOCK` objects begin, counted from object 0."""
        first = self.start - self.start % BLOCK
        for start in range(first, self.start + len(self), BLOCK):
            begin = max(start - self.start, 0)
            yield self.part(begin, min(start - self.start + BLOCK, len(self)))


def by_tiles(
    rows: Sequence[NDArray[Any]],
    folds: NDArray[np.int64],
    count: int,
    apply: Callable[..., NDArray[Any]],
) -> NDArray[Any]:
    """Apply a model to tiles of equal shape, each of objects of one fold.

    Parameters
    ----------
    rows : sequence of (n, ...) arrays
        What the model takes of each object.
    folds : (n,) int
    count : int
        Number of folds.
    apply : callable
        Called with a fold and a tile of each array, :data:`TILE` rows; returns :data:`TILE` rows. Rows beyond
        the objects of a fold repeat its first one.

    Returns
    -------
    (n, ...) array
    """
    out: NDArray[Any] | None = None
    for fold in range(count):
        places = np.flatnonzero(folds == fold)
        for begin in range(0, len(places), TILE):
            own = places[begin : begin + TILE]
            full = own if len(own) == TILE else np.concatenate([own, np.full(TILE - len(own), own[0])])
            found = apply(fold, *[np.ascontiguousarray(array[full]) for array in rows])
            if out is None:
                out = np.empty((len(folds), *found.shape[1:]), found.dtype)
            out[own] = found[: len(own)]
    if out is None:  # no rows: one tile of zeros tells the shape
        nothing = [np.zeros((TILE, *array.shape[1:]), array.dtype) for array in rows]
        out = apply(0, *nothing)[:0]
    return out
