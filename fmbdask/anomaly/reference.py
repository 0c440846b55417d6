"""The nearest ordinary objects among a reference sample: exact, of other folds than the object's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Most objects of a reference: each object is compared with all of them.
REFERENCE_ROWS = 12_000


@dataclass(frozen=True)
class Reference:
    """Points to look for neighbours among.

    Attributes
    ----------
    points : (n, width) float32
    keys : (n,) uint64
        Hash of the object's id.
    """

    points: NDArray[np.float32]
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {"points": self.points, "keys": self.keys}  # the index is made anew where it is used

    @cached_property
    def _index(self) -> Any:
        import faiss

        index = faiss.IndexFlatL2(self.points.shape[1])
        index.add(np.ascontiguousarray(self.points))
        return index

    def nearest(
        self, points: NDArray[np.float32], keys: NDArray[np.uint64], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the nearest ones of each point, never the object itself.

        Parameters
        ----------
        points : (n, width) float32
        keys : (n,) uint64
            Of the same objects.
        count : int
            How many; fewer are found in a reference that holds fewer.

        Returns
        -------
        distances : (n, count) float32
            Euclidean, squared, rising; infinite where there is none.
        places : (n, count) int64
            In the reference; -1 where there is none.
        """
        with _one_thread():
            distances, places = self._index.search(np.ascontiguousarray(points, np.float32), count + 1)
        itself = (self.keys[places] == keys[:, None]) | (places < 0)
        distances = np.where(itself, np.float32(np.inf), distances)
        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        distances = np.take_along_axis(distances, order, 1)
        places = np.where(np.isinf(distances), -1, np.take_along_axis(places, order, 1))
        return distances, places


def median_of(
    values: NDArray[np.float64], places: NDArray[np.int64], otherwise: float = 0.0
) -> NDArray[np.float64]:
    """Median of the neighbours' values for each object; (n,)."""
    chosen = np.where(places < 0, np.nan, values[places])
    out = np.full(len(places), otherwise)
    some = (places >= 0).any(axis=1)
    out[some] = np.nanmedian(chosen[some], axis=1)
    return out


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hold faiss to one thread in this thread."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
