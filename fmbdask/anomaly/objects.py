"""What users give to detectors, made uniform: an array, a labelled array, or an embedding store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .folds import FOLD_SEED, SAMPLE_SEED, keys_of
from .rows import Rows
from .summary import span_of

#: Dimension of the objects.
OBJECT = "object"
#: What belongs to a model about where its vectors came from.
PROVENANCE = ("model", "version", "weights_sha256", "preprocessing")

Data = xr.Dataset | xr.DataArray | ArrayLike


@dataclass(frozen=True)
class Objects:
    """Vectors of one or more modalities of the same objects.

    Attributes
    ----------
    arrays : mapping
        Modality -> lazy (n, width).
    ids : (n,) array
        The number of the row where there are none.
    known : mapping
        Modality -> (n,) bool: whether there is a vector.
    group : (n,) array, optional
        What keeps objects in the same fold.
    provenance : mapping
        Modality -> where its vectors came from.
    """

    arrays: Mapping[str, da.Array]
    ids: NDArray[Any]
    known: Mapping[str, NDArray[np.bool_]]
    group: NDArray[Any] | None
    provenance: Mapping[str, Mapping[str, Any]]

    @staticmethod
    def of(data: Data, modalities: Sequence[str] | None = None, group: str | None = None) -> Objects:
        """Make data uniform.

        Parameters
        ----------
        data : Dataset, DataArray or array
            An embedding store as :func:`fmbdask.open_embeddings` opens it; one modality of it, or any
            labelled array with the dimension ``object`` first; or (n, width) numbers.
        modalities : sequence of str, optional
            Which ones of a store; all by default.
        group : str, optional
            Coordinate along ``object``: objects of one value are in one fold.

        Raises
        ------
        InputError
            If there is no such modality or column, or an array is not (object, feature).
        """
        if isinstance(data, xr.Dataset):
            return _of_store(data, modalities, group)
        if not isinstance(data, xr.DataArray):
            values = data if isinstance(data, da.Array) else np.asarray(data)
            if values.ndim != 2:
                raise InputError(f"vectors have the shape {values.shape}: give (objects, features)")
            data = xr.DataArray(values, dims=(OBJECT, "feature"), name="feature")
        if data.ndim != 2 or data.dims[0] != OBJECT:
            raise InputError(f"vectors have the dimensions {data.dims}: give (object, feature)")
        name = str(data.name or "feature")
        return _of_store(data.to_dataset(name=name), modalities or [name], group)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities."""
        return tuple(self.arrays)

    @property
    def widths(self) -> dict[str, int]:
        """Modality -> features of a vector."""
        return {m: int(a.shape[1]) for m, a in self.arrays.items()}

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """Hash of each id for samples."""
        return keys_of(self.ids, SAMPLE_SEED)

    @cached_property
    def groups(self) -> NDArray[np.uint64]:
        """Hash of each id, or group, for folds."""
        return keys_of(self.ids if self.group is None else self.group, FOLD_SEED)

    def renamed(self, name: str) -> Objects:
        """The same objects with another name of their one modality."""
        (old,) = self.arrays
        return Objects(
            {name: self.arrays[old]}, self.ids, {name: self.known[old]}, self.group,
            {name: self.provenance[old]},
        )  # fmt: skip

    def rows(self, start: int, stop: int) -> Rows:
        """Read some consecutive objects."""
        span = slice(start, stop)
        vectors = {
            m: np.ascontiguousarray(a[span].compute(scheduler="synchronous"), np.float32)
            for m, a in self.arrays.items()
        }
        valid = {m: usable(v, self.known[m][span]) for m, v in vectors.items()}
        return Rows(start, vectors, valid, self.keys[span], self.groups[span])

    def spans(self) -> Iterator[Rows]:
        """All objects span by span, the next one read ahead."""
        size = span_of(len(self))
        starts = range(0, len(self), size)
        with ThreadPoolExecutor(1) as pool:  # one span is read while another is worked on
            waiting = []
            for start in starts:
                waiting.append(pool.submit(self.rows, start, min(start + size, len(self))))
                if len(waiting) == 2:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()


def usable(vectors: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which vectors (n, width) are there and finite."""
    found: NDArray[np.bool_] = np.logical_and(np.isfinite(vectors).all(axis=1), known)
    return found


def _of_store(data: xr.Dataset, modalities: Sequence[str] | None, group: str | None) -> Objects:
    there = [str(n) for n, v in data.data_vars.items() if v.ndim == 2 and v.dims[0] == OBJECT]
    names = list(modalities) if modalities is not None else there
    for name in names:
        if name not in there:
            raise InputError(f"there is no modality {name}: this store has {', '.join(there) or 'none'}")
    if not names:
        raise InputError("the store holds no vectors: give one with a modality of dims (object, feature)")
    count = int(data.sizes[OBJECT])
    ids = data["object_id"].values if "object_id" in data.coords else np.arange(count)
    if group is not None and group not in data.coords:
        known_columns = ", ".join(str(c) for c in data.coords if data[c].dims == (OBJECT,))
        raise InputError(f"there is no column {group} to group by: this store has {known_columns or 'none'}")
    arrays = {}
    known = {}
    for name in names:
        array = data[name].data
        if array.dtype.kind not in "fiu":
            raise InputError(f"the vectors of {name} are {array.dtype}: give numbers")
        arrays[name] = array if isinstance(array, da.Array) else da.from_array(array, chunks=(4096, -1))
        flag = f"valid_{name}"
        known[name] = data[flag].values.astype(bool) if flag in data.coords else np.ones(count, bool)
    provenance = {
        name: {key: data[name].attrs[key] for key in PROVENANCE if data[name].attrs.get(key)}
        for name in names
    }
    return Objects(arrays, ids, known, None if group is None else data[group].values, provenance)
