"""The nearest ordinary objects among a reference sample, of other folds than the object's own.

Searches are exact, or look into the nearest cells of the sample alone. Points to look for come in tiles of
one shape, so what is found for one does not depend on those beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Most objects of a reference: each object is compared with all of them.
REFERENCE_ROWS = 12_000
#: Share of the true neighbours that an approximate search finds at least, of points it was tried with.
RECALL = 0.95
#: Passes of k-means over the points of a reference, and fewest points of a cell.
PASSES, FEWEST_OF_CELL = 10, 40


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
        return {k: v for k, v in self.__dict__.items() if k != "_index"}  # made anew where it is used

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


@dataclass(frozen=True)
class Cells(Reference):
    """Points in cells of k-means, of which the nearest ones are searched: few of many points are compared.

    Attributes
    ----------
    centres : (cells, width) float32
    probes : int
        Cells that are searched.
    recall : float
        Share of the true neighbours that it found when it was tried.

    Notes
    -----
    Source: Sivic & Zisserman 2003, IEEE International Conference on Computer Vision, 1470 (inverted files),
    in the implementation of faiss.
    """

    centres: NDArray[np.float32]
    probes: int
    recall: float

    @staticmethod
    def of(exact: Reference, seed: int) -> Cells:
        """Cells of the points of a reference; all of them are searched until :meth:`tried`."""
        import faiss

        width = exact.points.shape[1]
        count = max(1, min(int(2 * np.sqrt(len(exact))), len(exact) // FEWEST_OF_CELL))
        with _one_thread():
            means = faiss.Kmeans(width, count, niter=PASSES, seed=seed % 2**31, verbose=False)
            means.train(np.ascontiguousarray(exact.points))
        return Cells(exact.points, exact.keys, np.ascontiguousarray(means.centroids), count, 1.0)

    def tried(
        self, exact: Reference, points: NDArray[np.float32], keys: NDArray[np.uint64], count: int
    ) -> Cells:
        """The same with as few probes as find :data:`RECALL` of the neighbours of these points."""
        _, true = exact.nearest(points, keys, count)
        probes, found = 1, self
        while probes < len(self.centres):
            found = replace(self, probes=probes)
            _, places = found.nearest(points, keys, count)
            hits = (places[:, :, None] == true[:, None, :]) & (true[:, None, :] >= 0)
            recall = float(hits.sum() / max(1, (true >= 0).sum()))
            if recall >= RECALL:
                return replace(found, recall=recall)
            probes *= 2
        return self

    @cached_property
    def _index(self) -> Any:
        import faiss

        cells = faiss.IndexFlatL2(self.centres.shape[1])
        cells.add(self.centres)
        index = faiss.IndexIVFFlat(cells, self.centres.shape[1], len(self.centres))
        index.own_fields = False
        index.is_trained = True
        index.nprobe = self.probes
        with _one_thread():
            index.add(np.ascontiguousarray(self.points))
        self.__dict__["_held"] = cells  # the index does not keep it alive
        return index

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_held"}

    def nearest(
        self, points: NDArray[np.float32], keys: NDArray[np.uint64], count: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find near ones of each point; where its cells hold too few, all points are compared."""
        distances, places = super().nearest(points, keys, count)
        for row in np.flatnonzero(places[:, -1] < 0):
            all_of_it = np.square(self.points - points[row]).sum(axis=1)
            all_of_it[self.keys == keys[row]] = np.inf
            order = np.argsort(all_of_it, kind="stable")[:count]
            own = slice(0, len(order))
            distances[row, own] = all_of_it[order]
            places[row, own] = np.where(np.isinf(all_of_it[order]), -1, order)
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
