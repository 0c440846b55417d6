"""Columns gathered block by block, and written when all are there."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from ...errors import InputError
from ..layout import codec
from .columns import UNITS, Column, absent, joined, kind_of, known
from .layout import COLUMN_CHUNK, OBJECT
from .opening import Store


class Table:
    """Pieces of columns, each with the object it begins at; what nobody gave is unknown."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._parts: dict[str, list[tuple[int, Column]]] = {}

    def add(self, name: str, start: int, values: Column) -> None:
        """Keep a piece of a column."""
        self._parts.setdefault(name, []).append((start, values))

    def whole(self, name: str, first: int, stop: int, kind: Any = None) -> Column:
        """A column of the objects ``[first, stop)``.

        Raises
        ------
        InputError
            If some pieces are numbers and some are text.
        """
        parts = self._parts.get(name, [])
        dtype = np.dtype(kind) if kind is not None else parts[0][1].dtype
        pieces: list[Column] = []
        at = first
        for start, values in [*parts, (stop, np.empty(0, dtype))]:
            if start > at:
                pieces.append(absent(dtype, start - at))
            pieces.append(values)
            at = start + len(values)
        try:
            return joined([p for p in pieces if len(p)] or [np.empty(0, dtype)])
        except InputError as error:
            raise InputError(f"{self._path}: {name}: {error}") from error

    def write(self, group: zarr.Group, modalities: list[str], objects: int) -> None:
        """Write all columns of a new store; positions only where some object has one."""
        self._parts.setdefault("object_id", [(0, np.empty(0, np.int64))])
        for name in modalities:
            self._parts.setdefault(f"valid_{name}", [(0, np.empty(0, bool))])
        for name in list(self._parts):
            self._create(group, name, objects)
        _list_columns(group)

    def append(self, old: Store, objects: int) -> None:
        """Lengthen the columns of a store; one that it does not have is unknown for its objects so far.

        Raises
        ------
        InputError
            For a column that the store has with values of another kind.
        """
        for name in dict.fromkeys([*old.columns, *self._parts]):
            if name in old.columns and old.objects:
                self._extend(old, name, objects)
            else:
                if name in old.columns:
                    del old.group[name]
                self._create(old.group, name, objects)
        _list_columns(old.group)

    def _create(self, group: zarr.Group, name: str, objects: int) -> None:
        values = self.whole(name, 0, objects)
        if name in ("ra", "dec"):
            values = values.astype(np.float64)
            if not known(values).any():
                return
        array = group.create_array(
            name,
            shape=values.shape,
            dtype="string" if values.dtype.kind == "U" else values.dtype,
            chunks=(COLUMN_CHUNK,),
            compressors="auto" if values.dtype.kind == "U" else codec(),
            dimension_names=(OBJECT,),
            attributes={"units": UNITS[name]} if name in UNITS else {},
        )
        put(array, 0, values)

    def _extend(self, old: Store, name: str, objects: int) -> None:
        array = old.arrays[name]
        kind = np.dtype("U1") if array.dtype.kind in "TO" else array.dtype
        values = self.whole(name, old.objects, objects, kind)
        if values.dtype.kind == "i" and kind.kind == "f":
            values = np.where(known(values), values, np.nan)
        if values.dtype.kind != kind.kind:
            raise InputError(
                f"{self._path}: {name} holds {kind_of(np.empty(0, kind))}, what is appended "
                f"{kind_of(values)}: use one kind"
            )
        array.resize((objects,))
        put(array, old.objects, values)


def _list_columns(group: zarr.Group) -> None:
    """Tell xarray which arrays are coordinates."""
    group.attrs["coordinates"] = " ".join(name for name, array in group.arrays() if array.ndim == 1)


def put(array: Any, first: int, values: Column) -> None:
    """Write a column from an object on, chunk by chunk."""
    for start in range(0, len(values), COLUMN_CHUNK):
        part = values[start : start + COLUMN_CHUNK]
        if part.dtype.kind == "U":
            part = part.astype(np.dtypes.StringDType())
        array[first + start : first + start + len(part)] = part
