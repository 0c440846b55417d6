"""Vectors of a store, read by rows.

Chunks are not compressed, so rows are read from their files straight into the array that is returned: several
times faster than through a codec pipeline, and a file that is missing or cut short is an error instead of
fill values. Arrays with other codecs are read by zarr. Source of the shard index: Zarr v3 specification,
codec ``sharding_indexed`` (an (offset, length) pair of uint64 for each chunk, and a CRC32C, at the end).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .layout import ITEM

NEVER_WRITTEN = 2**64 - 1


@dataclass(frozen=True)
class StoredVectors:
    """The vectors of one modality of a store: (object, feature), float32.

    Holds no open file and pickles by path.

    Attributes
    ----------
    path : str
        Folder of the array.
    objects, features : int
        Shape.
    chunk : int
        Objects of a chunk.
    shard : int or None
        Objects of a shard.
    plain : bool
        Whether chunks are the bytes of their values.
    """

    path: str
    objects: int
    features: int
    chunk: int
    shard: int | None
    plain: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Objects and features."""
        return self.objects, self.features

    @property
    def dtype(self) -> np.dtype[np.float32]:
        """Type of the values."""
        return np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return 2

    def __getitem__(self, key: Any) -> NDArray[np.float32]:
        """Rows, or a window, by slices or integers."""
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(self.objects)
            if step == 1:
                block = self.read(start, max(start, stop))
            else:
                block = self.take(np.arange(start, stop, step))
        else:
            block = self.read(int(rows), int(rows) + 1)[0]
            return np.asarray(block[tuple(rest)] if rest else block)
        return block[(slice(None), *rest)] if rest else block

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Read the objects ``[start, stop)``: (stop - start, features), C-contiguous."""
        if not self.plain:
            return np.asarray(_opened(self.path, self.objects)[start:stop], np.float32)
        out = np.empty((stop - start, self.features), np.float32)
        first = start
        while first < stop:
            last = min(stop, (first // self.chunk + 1) * self.chunk)
            with self._file(first) as file:
                file.read(first, out[first - start : last - start])
            first = last
        return out

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read single objects in any order; a row of -1 gives NaN.

        Only the rows that are named are read, those that follow one another together.

        Parameters
        ----------
        rows : (n,) int64 array
            Places of objects, counted from 0.

        Returns
        -------
        (n, features) float32 array
        """
        out = np.empty((len(rows), self.features), np.float32)
        order = np.argsort(rows, kind="stable")
        ordered = rows[order]
        begin = int(np.searchsorted(ordered, 0))
        out[order[:begin]] = np.nan
        places = ordered[begin:]
        if not len(places):
            return out
        if not self.plain:
            out[order[begin:]] = _opened(self.path, self.objects).oindex[places]
            return out
        chunks = places // self.chunk
        breaks = np.flatnonzero((np.diff(places) != 1) | (np.diff(chunks) != 0)) + 1
        found = np.empty((len(places), self.features), np.float32)
        file: _ChunkFile | None = None
        try:
            for a, b in zip([0, *breaks], [*breaks, len(places)], strict=True):
                first = int(places[a])
                if file is None or not file.holds(first):
                    if file is not None:
                        file.close()
                    file = self._file(first)
                file.read(first, found[a:b])
        finally:
            if file is not None:
                file.close()
        out[order[begin:]] = found
        return out

    def _file(self, row: int) -> _ChunkFile:
        return _ChunkFile(self, row)


class _ChunkFile:
    """The file of a chunk or a shard, open for reading."""

    def __init__(self, vectors: StoredVectors, row: int) -> None:
        self._vectors = vectors
        rows = vectors.shard or vectors.chunk
        self._number = row // rows
        self._first = self._number * rows
        self._rows = rows
        self.path = os.path.join(vectors.path, "c", str(self._number), "0")
        try:
            self._handle = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be read ({error.strerror}): write the store again"
            ) from error
        try:
            self._index = self._read_index()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> _ChunkFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)

    def holds(self, row: int) -> bool:
        """Whether an object lies in this file."""
        return self._first <= row < self._first + self._rows

    def read(self, row: int, out: NDArray[np.float32]) -> None:
        """Fill some rows of one chunk, from an object on."""
        width = self._vectors.features * ITEM
        inside = (row - self._first) % self._vectors.chunk
        if self._index is None:
            offset = 0
        else:
            offset, length = map(int, self._index[(row - self._first) // self._vectors.chunk])
            if offset == NEVER_WRITTEN or length != self._vectors.chunk * width:
                raise self._damaged()
        if os.preadv(self._handle, [out.data.cast("B")], offset + inside * width) != out.nbytes:
            raise self._damaged()

    def _read_index(self) -> NDArray[np.uint64] | None:
        size = os.fstat(self._handle).st_size
        whole = self._vectors.chunk * self._vectors.features * ITEM
        if self._vectors.shard is None:
            if size != whole:
                raise self._damaged()
            return None
        length = 16 * (self._vectors.shard // self._vectors.chunk)
        tail = os.pread(self._handle, length + 4, max(size - length - 4, 0))
        import google_crc32c

        if len(tail) != length + 4 or google_crc32c.value(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
            raise self._damaged()
        return np.frombuffer(tail[:-4], "<u8").reshape(-1, 2)

    def _damaged(self) -> InputError:
        return InputError(f"{self.path} is truncated or damaged: write the store again")


@lru_cache(maxsize=16)
def _opened(path: str, objects: int) -> Any:
    """An array with codecs of its own, opened once a process and length."""
    import zarr

    return zarr.open_array(path, mode="r")
