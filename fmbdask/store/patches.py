"""Training patches in Zarr stores: one row a patch in every array, one patch a chunk, many chunks a shard.

Each exposure writes a store of its own; :func:`join_patches` puts them behind one another.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..errors import InputError
from .layout import create_array, put_array

#: What a store of patches says it is, and the version of its layout.
KIND, LAYOUT = "patches", 1
#: Arrays that every store has, and the axes of a row of those that are large.
LARGE = {"values": ("channel", "time", "y", "x"), "classes": ("time", "y", "x"), "group": ("y", "x")}
#: Bytes of a shard of a large array before compression, and most patches of one.
SHARD_BYTES, SHARD_PATCHES = 2**26, 64
#: Threads that join stores: each holds a shard.
THREADS = 4

Columns = Mapping[str, NDArray[Any]]


def write_patches(path: Path, patches: Columns, attrs: Mapping[str, Any]) -> None:
    """Write the patches of one exposure.

    Parameters
    ----------
    path : Path
        A store that is not there yet.
    patches : mapping of arrays
        Equally many rows each; :data:`LARGE` and columns.
    attrs : mapping
        JSON values.
    """
    group = _created(path, attrs)
    for name, values in patches.items():
        if name in LARGE:
            array = _large(group, name, values.shape, values.dtype)
            step = _shard(values.shape, values.dtype)
            for start in range(0, len(values), step):
                array[start : start + step] = values[start : start + step]
        else:
            put_array(group, name, values, _dims(name, values.ndim))


def join_patches(parts: Sequence[Path], numbers: Sequence[int], path: Path, attrs: Mapping[str, Any]) -> None:
    """Put stores of patches behind one another, with the number of each row's exposure as ``exposure``.

    Parameters
    ----------
    parts : sequence of Path
        Stores of equally shaped patches.
    numbers : sequence of int
        Numbers of their exposures.
    path : Path
        A store that is not there yet.
    attrs : mapping
        JSON values.
    """
    stores = [PatchStore.open(part) for part in parts]
    group = _created(path, attrs)
    begins = np.cumsum([0, *(len(store) for store in stores)])
    exposure = np.repeat(np.array(numbers, np.int32), np.diff(begins))
    put_array(group, "exposure", exposure, ("patch",))
    first = stores[0]
    for name in first.names:
        if name not in LARGE:
            values = np.concatenate([store.column(name) for store in stores])
            put_array(group, name, values, _dims(name, values.ndim))
            continue
        kind = first.arrays[name]
        shape = (int(begins[-1]), *kind.shape[1:])
        array, step = _large(group, name, shape, kind.dtype), _shard(shape, kind.dtype)

        def copy(start: int, name: str = name, array: Any = array, step: int = step) -> None:
            stop = min(start + step, int(begins[-1]))
            rows = np.empty((stop - start, *array.shape[1:]), array.dtype)
            for number in np.flatnonzero((begins[:-1] < stop) & (begins[1:] > start)):
                low, high = max(start, int(begins[number])), min(stop, int(begins[number + 1]))
                source = stores[number].arrays[name]
                rows[low - start : high - start] = source[low - begins[number] : high - begins[number]]
            array[start:stop] = rows

        with ThreadPoolExecutor(THREADS) as pool:  # each shard is written once
            list(pool.map(copy, range(0, shape[0], step)))


@dataclass(frozen=True)
class PatchStore:
    """A store of patches.

    Attributes
    ----------
    path : Path
    arrays : mapping
        Zarr arrays by name; rows are read when they are asked for.
    attrs : mapping
    """

    path: Path
    arrays: Mapping[str, Any]
    attrs: Mapping[str, Any]

    @staticmethod
    def open(path: str | os.PathLike[str]) -> PatchStore:
        """Open a store.

        Raises
        ------
        InputError
            If it is none, or damaged.
        """
        place = Path(path)
        try:
            group = zarr.open_group(str(place), mode="r", zarr_format=3)
            attrs = dict(group.attrs)
            arrays = dict(group.arrays())
        except FileNotFoundError:
            raise InputError(
                f"{place} is no store of training patches: have it made by `fmbdask train unet`"
            ) from None
        except Exception as error:  # the library raises whatever its parsers raise
            words = " ".join(str(error).split())
            raise InputError(
                f"{place} cannot be read as training patches ({words}): make them again"
            ) from error
        if attrs.get("kind") != KIND or attrs.get("layout") != LAYOUT or not set(LARGE) <= set(arrays):
            raise InputError(
                f"{place} is no store of training patches of this version: have it made by "
                "`fmbdask train unet`"
            )
        if len({array.shape[0] for array in arrays.values()}) > 1:
            raise InputError(f"{place} is damaged, its arrays differ in length: make it again")
        return PatchStore(place, arrays, attrs)

    def __len__(self) -> int:
        return int(self.arrays["classes"].shape[0])

    @cached_property
    def names(self) -> list[str]:
        """All arrays, sorted."""
        return sorted(self.arrays)

    def column(self, name: str, rows: NDArray[np.int64] | slice | None = None) -> NDArray[Any]:
        """An array, or some of its rows.

        Raises
        ------
        InputError
            If it is not there, or cannot be read.
        """
        if name not in self.arrays:
            raise InputError(f"{self.path} lacks the array {name}: make the training patches again")
        try:
            array = self.arrays[name]
            if rows is None:
                return np.asarray(array[...])
            found = array[rows] if isinstance(rows, slice) else array.oindex[rows]
            return np.asarray(found)
        except Exception as error:  # the library raises whatever its codecs raise
            words = " ".join(str(error).split())
            raise InputError(
                f"{self.path}: {name} cannot be read ({words}): make the training patches again"
            ) from error

    def row(self, name: str, number: int) -> NDArray[Any]:
        """One row of an array."""
        found: NDArray[Any] = self.column(name, slice(number, number + 1))[0]
        return found


def _created(path: Path, attrs: Mapping[str, Any]) -> zarr.Group:
    own = {"kind": KIND, "layout": LAYOUT}
    return zarr.create_group(str(path), zarr_format=3, attributes=dict(attrs) | own)


def _dims(name: str, ndim: int) -> tuple[str, ...]:
    return ("patch", *LARGE.get(name, tuple(f"{name}_axis" for _ in range(ndim - 1))))


def _shard(shape: Sequence[int], dtype: Any) -> int:
    """Patches of a shard."""
    nbytes = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    return int(max(1, min(SHARD_PATCHES, SHARD_BYTES // max(1, nbytes))))


def _large(group: zarr.Group, name: str, shape: Sequence[int], dtype: Any) -> zarr.Array[Any]:
    inner = (1, *shape[1:])
    shard = (_shard(shape, dtype), *shape[1:])
    return create_array(group, name, shape, dtype, inner, _dims(name, len(shape)), shards=shard)
