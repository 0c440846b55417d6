"""Embedding stores as labelled, lazy arrays."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from dask.base import tokenize
from numpy.typing import NDArray

from ...errors import InputError
from ..readers.files import reason
from .columns import UNITS, Column, fixed_width
from .layout import KIND, LAYOUT, OBJECT, Modality
from .vectors import StoredVectors

#: Columns that are named before the others.
FIRST = ("object_id", "ra", "dec")
#: The arrays of stores that are open in this process, by the name of their dask array: any operation on one
#: changes its name, so an array that is found here is the stored one.
_STORED: WeakValueDictionary[str, StoredVectors] = WeakValueDictionary()


@dataclass(frozen=True)
class Store:
    """What the metadata of a store say: no vector and no column is read."""

    path: Path
    group: zarr.Group
    objects: int
    modalities: tuple[Modality, ...]
    arrays: dict[str, zarr.Array[Any]]

    @property
    def columns(self) -> list[str]:
        """Names of the columns along the objects, ids first."""
        names = [n for n, array in self.arrays.items() if array.ndim == 1]
        return sorted(names, key=lambda n: (FIRST.index(n) if n in FIRST else len(FIRST), n))

    def column(self, name: str) -> Column:
        """Read a column."""
        try:
            values = np.asarray(self.arrays[name][: self.objects])
        except Exception as error:  # the library raises whatever its codecs raise
            raise InputError(
                f"{self.path}: {name} cannot be read ({reason(error)}): write the store again"
            ) from error
        return fixed_width(values) if values.dtype.kind in "TO" else values

    def vectors(self, name: str) -> StoredVectors:
        """The vectors of a modality."""
        array = self.arrays[name]
        codecs = [type(codec).__name__ for codec in _inner_codecs(array)]
        shards = None if array.shards is None else array.shards[0]
        whole = array.chunks[1] == array.shape[1]
        metadata: Any = array.metadata
        default_keys = metadata.encode_chunk_key((0, 0)) == "c/0/0"
        return StoredVectors(
            path=str(self.path.absolute() / name),
            objects=self.objects,
            features=array.shape[1],
            chunk=array.chunks[0],
            shard=shards,
            plain=codecs == ["BytesCodec"] and array.dtype.str == "<f4" and whole and default_keys,
        )


def _inner_codecs(array: zarr.Array[Any]) -> tuple[Any, ...]:
    """Codecs of the chunks, inside shards where there are such, with their index at the end."""
    metadata: Any = array.metadata
    codecs = tuple(metadata.codecs)
    if len(codecs) == 1 and type(codecs[0]).__name__ == "ShardingCodec":
        sharding: Any = codecs[0]
        if str(getattr(sharding.index_location, "value", sharding.index_location)) != "end":
            return codecs
        return tuple(sharding.codecs)
    return codecs


def read_store(path: str | os.PathLike[str], mode: Any = "r") -> Store:
    """Read the metadata of a store.

    Raises
    ------
    InputError
        If there is no embedding store, or it is damaged or of a layout that this version does not know.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist: check the path")
    try:
        group = zarr.open_group(str(path), mode=mode, use_consolidated=False)
        attrs = dict(group.attrs)
        arrays = dict(group.arrays())
    except Exception as error:  # the library raises whatever the metadata lead it to
        raise InputError(
            f"{path} is no embedding store: make one with `fmbdask embeddings import`"
        ) from error
    if attrs.get("kind") != KIND:
        advice = "use `fmbdask ramps detect`" if "ramp" in arrays else "use `fmbdask embeddings import`"
        raise InputError(f"{path} is no embedding store: {advice}")
    if attrs.get("layout") != LAYOUT:
        raise InputError(
            f"{path} has layout {attrs.get('layout')!r}, this version reads {LAYOUT}: use the fmbdask that "
            "wrote it"
        )
    listed: Any = attrs.get("modalities") or []
    names = [str(n) for n in listed]
    objects = attrs.get("objects")
    lost = [n for n in ["object_id", *names, *(f"valid_{n}" for n in names)] if n not in arrays]
    if lost or not isinstance(objects, int):
        raise InputError(f"{path} lacks {', '.join(lost) or 'its number of objects'}: write the store again")
    short = [n for n, array in arrays.items() if array.shape[0] < objects]
    if short:
        raise InputError(f"{path}: {short[0]} holds fewer than {objects} objects: write the store again")
    modalities = tuple(Modality.of(n, arrays[n].shape[1], dict(arrays[n].attrs)) for n in names)
    return Store(path, group, objects, modalities, arrays)


def sources_of(store: Store) -> list[dict[str, Any]]:
    """The files a store was imported from: path, bytes, time of modification [ns] and objects of each."""
    files: Any = store.group.attrs.get("sources") or []
    return list(files)


def open_embeddings(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open an embedding store as a lazy labelled dataset; reads metadata and the columns, no vectors.

    Parameters
    ----------
    path : path
        A store that ``fmbdask embeddings import`` or
        :class:`~fmbdask.store.embeddings.EmbeddingWriter` wrote.

    Returns
    -------
    xarray.Dataset
        One variable for each modality (``image``, ``spectrum``, ...), float32, dimensions (object,
        <modality>_feature), one dask chunk for each chunk on disk. A vector that is missing is NaN.
        Coordinates along ``object``, in memory: ``object_id`` (int64 or text), ``ra`` and ``dec`` [deg; NaN
        unknown; absent where no object has one], ``valid_<modality>`` (bool: there is a vector, it is finite
        and not all zero), and whatever else was imported. Attributes of a variable: ``model``, ``version``,
        ``weights_sha256``, ``preprocessing``, ``embedding_key``; of the dataset: ``kind``, ``fmbdask``,
        ``layout``.

    Raises
    ------
    InputError
        If there is no embedding store, or it is damaged.

    Examples
    --------
    >>> import fmbdask
    >>> store = fmbdask.open_embeddings("astropt.zarr")
    >>> store["image"][store.valid_image.values].mean("object").compute().dims
    ('image_feature',)
    """
    store = read_store(path)
    dataset = xr.Dataset(
        {m.name: (m.dims, _lazy(store, m.name), m.attrs) for m in store.modalities},
        coords={
            name: (OBJECT, store.column(name), {"units": UNITS[name]} if name in UNITS else {})
            for name in store.columns
        },
        attrs={key: store.group.attrs[key] for key in ("kind", "fmbdask", "layout")},
    )
    dataset.encoding["source"] = str(store.path.absolute())
    return dataset


def _lazy(store: Store, name: str) -> da.Array:
    """A stored array as a dask array; its name tells one state of the store from another."""
    vectors = store.vectors(name)
    stamp = os.stat(store.path / "zarr.json")
    label = f"{name}-{tokenize(vectors, stamp.st_mtime_ns, stamp.st_ino)}"
    chunks = (vectors.chunk, vectors.features)
    # from_array keeps the object in its graph, and so the entry alive
    _STORED[label] = vectors
    lazy: da.Array = da.from_array(
        vectors, chunks=chunks, name=label, asarray=True, fancy=False, meta=np.empty((0, 0), np.float32)
    )
    return lazy


def rows_of(array: da.Array, rows: NDArray[np.int64]) -> da.Array:
    """Rows of an array in any order, lazily; a row of -1 gives NaN.

    Of an array as it is stored only the rows wanted are read; another one goes through dask's own indexing.

    Parameters
    ----------
    array : (object, feature) dask array
    rows : (n,) int64 array
        Places, counted from 0.

    Returns
    -------
    (n, feature) float32 dask array
        In chunks of as many rows as those of the array.
    """
    features = array.shape[1]
    size = max(1, array.chunks[0][0] if array.chunks[0] else 1)
    lazy: da.Array
    stored = _STORED.get(array.name)
    if not len(rows):
        lazy = da.empty((0, features), dtype=np.float32)
        return lazy
    places = da.from_array(rows, chunks=size)
    if stored is not None:
        lazy = da.map_blocks(
            _take,
            places,
            stored=stored,
            new_axis=1,
            chunks=(places.chunks[0], (features,)),
            dtype=np.float32,
            meta=np.empty((0, 0), np.float32),
        )
    elif not array.shape[0]:
        lazy = da.full((len(rows), features), np.nan, dtype=np.float32, chunks=(size, features))
    else:
        found = array[np.maximum(rows, 0)].rechunk((size, features))
        lazy = da.where((places >= 0)[:, None], found, np.float32(np.nan))
    return lazy


def _take(places: NDArray[np.int64], stored: StoredVectors) -> NDArray[np.float32]:
    return stored.take(places)
