"""What users give to detectors, made uniform: an array, a labelled array, or an embedding store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..regions import BLOCK
from ..sequences import Shape, flatten
from .folds import FOLD_SEED, SAMPLE_SEED, keys_of
from .rows import Rows
from .summary import piece_of

#: Dimension of the objects.
OBJECT = "object"
#: What vectors are called that come without a name.
UNNAMED = "feature"
#: Dimension of the steps of a sequence, and the coordinate that says which of them are valid.
TIME, VALID_TIME = "time", "valid_time"
#: What belongs to a model about where its vectors came from, which steps and features they hold if they are
#: sequences, and what their numbers are called.
SEQUENCE, NAMES = "sequence", "feature_names"
PROVENANCE = ("model", "version", "weights_sha256", "preprocessing", SEQUENCE, NAMES)

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
    labels : (n,) int8, optional
        0 ordinary, 1 anomalous, -1 not known.
    """

    arrays: Mapping[str, da.Array]
    ids: NDArray[Any]
    known: Mapping[str, NDArray[np.bool_]]
    group: NDArray[Any] | None
    provenance: Mapping[str, Mapping[str, Any]]
    labels: NDArray[np.int8] | None = None

    @staticmethod
    def of(
        data: Data,
        modalities: Sequence[str] | None = None,
        group: str | None = None,
        labels: str | ArrayLike | None = None,
    ) -> Objects:
        """Make data uniform.

        Parameters
        ----------
        data : Dataset, DataArray or array
            An embedding store as :func:`fmbdask.open_embeddings` opens it; one modality of it, or any
            labelled array with the dimension ``object`` first; or (n, width) numbers, whose ids are the
            numbers of the rows. In memory or lazy, in any chunks. Integers and float64 become float32, in
            which all detectors work. Sequences have the dimensions (object, time, feature) and a coordinate
            ``valid_time`` (object, time), or ``valid_time_<modality>``; without it steps that are not finite
            are not valid. They become vectors, see :mod:`fmbdask.sequences`.
        modalities : sequence of str, optional
            Which ones of a store; all by default.
        group : str, optional
            Coordinate along ``object``: objects of one value are in one fold.
        labels : str or (n,) array, optional
            Coordinate along ``object``, or values: 0 or False ordinary, 1 or True anomalous, others not
            known.

        Raises
        ------
        InputError
            If there is no such modality or column, or an array is not (object, feature).
        """
        if isinstance(data, xr.Dataset):
            return _of_store(data, modalities, group, labels)
        if not isinstance(data, xr.DataArray):
            values = data if isinstance(data, da.Array) else np.asarray(data)
            if values.ndim not in (2, 3):
                raise InputError(
                    f"vectors have the shape {values.shape}: give (objects, features), or sequences "
                    "(objects, steps, features)"
                )
            dims = (OBJECT, UNNAMED) if values.ndim == 2 else (OBJECT, TIME, UNNAMED)
            data = xr.DataArray(values, dims=dims, name=UNNAMED)
        if not _is_modality(data):
            raise InputError(
                f"vectors have the dimensions {data.dims}: give (object, feature), or sequences (object, "
                "time, feature)"
            )
        name = str(data.name or UNNAMED)
        return _of_store(data.to_dataset(name=name), modalities or [name], group, labels)

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
        return replace(
            self,
            arrays={name: self.arrays[old]},
            known={name: self.known[old]},
            provenance={name: self.provenance[old]},
        )

    def rows(self, start: int, stop: int) -> Rows:
        """Read some consecutive objects."""
        return self._rows(start, {m: read(a[start:stop]) for m, a in self.arrays.items()})

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[Rows]:
        """Read consecutive objects a few blocks at a time, the next ones while these are worked on.

        Every chunk of an array is computed once, whatever its size.

        Parameters
        ----------
        start, stop : int
            First object, which begins a block, and the one after the last; all by default.
        """
        stop = len(self) if stop is None else stop
        starts = range(start, stop, piece_of(self.widths))
        cuts = [*starts, stop]
        windows = {m: _windows(a, cuts) for m, a in self.arrays.items()}

        def following(begin: int) -> Rows:
            return self._rows(begin, {m: next(w) for m, w in windows.items()})

        with ThreadPoolExecutor(1) as pool:
            waiting = []
            for begin in starts:
                waiting.append(pool.submit(following, begin))
                if len(waiting) == 2:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()

    def _rows(self, start: int, vectors: dict[str, NDArray[np.float32]]) -> Rows:
        span = slice(start, start + len(next(iter(vectors.values()))))
        group = self.ids if self.group is None else self.group
        return Rows(
            start,
            vectors,
            {m: usable(v, self.known[m][span]) for m, v in vectors.items()},
            keys_of(self.ids[span], SAMPLE_SEED),
            keys_of(group[span], FOLD_SEED),
            None if self.labels is None else self.labels[span],
        )


def read(array: da.Array) -> NDArray[np.float32]:
    """Compute vectors in this thread, as float32."""
    return as_float32(array.compute(scheduler="synchronous"))


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """The same numbers in float32; those too large for it become infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values, np.float32)


def usable(vectors: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which vectors (n, width) are there and finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: NDArray[np.bool_] = np.isfinite(vectors.sum(axis=1))
    large = np.flatnonzero(~found)  # the sum of finite numbers may be infinite
    found[large] = np.isfinite(vectors[large]).all(axis=1)
    return np.logical_and(found, known, out=found)


def _windows(array: da.Array, cuts: Sequence[int]) -> Iterator[NDArray[np.float32]]:
    """Rows between consecutive cuts; what a chunk holds beyond a cut is kept for the next."""
    ends = np.cumsum(array.chunks[0])
    held = np.empty((0, array.shape[1]), np.float32)
    upto = cuts[0]
    for begin, end in pairwise(cuts):
        if upto < end:
            goal = int(ends[np.searchsorted(ends, end)])
            more = read(array[upto : min(goal, cuts[-1])])
            held = np.concatenate([held, more]) if len(held) else more
            upto = min(goal, cuts[-1])
        window, held = held[: end - begin], held[end - begin :]
        if not len(held):
            held = held.copy()  # lets go of the window
        yield window


def _is_modality(array: xr.DataArray) -> bool:
    """Whether these are vectors, or sequences, of objects."""
    return array.dims[:1] == (OBJECT,) and (array.ndim == 2 or (array.ndim == 3 and array.dims[1] == TIME))


def _of_store(
    data: xr.Dataset,
    modalities: Sequence[str] | None,
    group: str | None,
    labels: str | ArrayLike | None = None,
) -> Objects:
    there = [str(n) for n, v in data.data_vars.items() if _is_modality(v)]
    names = list(modalities) if modalities is not None else there
    for name in names:
        if name not in there:
            raise InputError(f"there is no modality {name}: this store has {', '.join(there) or 'none'}")
    if not names:
        raise InputError("the store holds no vectors: give one with a modality of dims (object, feature)")
    if len(set(names)) < len(names):
        raise InputError(f"{', '.join(names)} names a modality twice: give each once")
    count = int(data.sizes[OBJECT])
    ids = data["object_id"].values if "object_id" in data.coords else np.arange(count)
    groups = None if group is None else _column(data, group, "group by")
    values = _column(data, labels, "take labels from") if isinstance(labels, str) else labels
    known = {}
    for name in names:
        flag = f"valid_{name}"
        known[name] = data[flag].values.astype(bool) if flag in data.coords else np.ones(count, bool)
    provenance = {
        name: {key: data[name].attrs[key] for key in PROVENANCE if data[name].attrs.get(key)}
        for name in names
    }
    arrays = {}
    for name in names:
        arrays[name] = _lazy(data[name])
        if data[name].ndim == 3:
            provenance[name][SEQUENCE] = str(Shape(*arrays[name].shape[1:]))
            arrays[name] = _flat(arrays[name], data, name)
    marks = None if values is None else labels_of(values, count)
    return Objects(arrays, ids, known, groups, provenance, marks)


def _column(data: xr.Dataset, name: str, purpose: str) -> NDArray[Any]:
    """Values along the objects."""
    if name not in data.coords or data[name].dims != (OBJECT,):
        columns = ", ".join(str(c) for c in data.coords if data[c].dims == (OBJECT,))
        raise InputError(f"there is no column {name} to {purpose}: this store has {columns or 'none'}")
    values: NDArray[Any] = data[name].values
    return values


def labels_of(values: ArrayLike, count: int) -> NDArray[np.int8]:
    """Labels of all objects: 0, 1, or -1 where they are neither."""
    given = np.asarray(values)
    if given.shape != (count,) or given.dtype.kind not in "bifu":
        raise InputError(
            f"labels are {given.dtype} of shape {given.shape}: give a number for each of {count} objects, 0 "
            "for an ordinary one, 1 for an anomalous one"
        )
    return np.where(given == 1, 1, np.where(given == 0, 0, -1)).astype(np.int8)


def _flat(array: da.Array, data: xr.Dataset, name: str) -> da.Array:
    """Sequences as vectors, lazily."""
    steps, features = array.shape[1:]
    array = array.rechunk({1: -1, 2: -1})
    said = next((c for c in (f"{VALID_TIME}_{name}", VALID_TIME) if c in data.coords), None)
    inputs: list[Any] = [array, "otf"]
    if said is not None:
        valid = data[said]
        if valid.dims == (TIME,):
            valid = valid.expand_dims({OBJECT: array.shape[0]})
        if valid.dims != (OBJECT, TIME):
            raise InputError(f"{said} has the dimensions {valid.dims}: give (object, time)")
        inputs += [da.asarray(valid.data).rechunk((array.chunks[0], -1)), "ot"]
    lazy: da.Array = da.blockwise(
        flatten, "ow", *inputs, new_axes={"w": Shape(steps, features).width}, concatenate=True,
        dtype=np.float32, meta=np.empty((0, 0), np.float32),
    )  # fmt: skip
    return lazy


def _lazy(vectors: xr.DataArray) -> da.Array:
    """A modality as a Dask array; what xarray has not read yet stays unread."""
    if vectors.dtype.kind not in "fiu":
        raise InputError(f"the vectors of {vectors.name} are {vectors.dtype}: give numbers")
    if not vectors.size and vectors.shape[0]:
        raise InputError(f"the vectors of {vectors.name} have no features: give some")
    array = vectors.variable._data  # .data would read what is lazy
    if isinstance(array, np.ndarray):  # name=False: not named after a hash of all its bytes
        lazy: da.Array = da.from_array(array, chunks=(BLOCK, *(-1,) * (array.ndim - 1)), name=False)
    else:
        lazy = (vectors if vectors.chunks is not None else vectors.chunk({OBJECT: BLOCK})).data
    return lazy
