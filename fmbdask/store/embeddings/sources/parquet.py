"""Embeddings in Parquet: columns of lists or many numbered columns with a prefix, are vectors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ...readers.files import reason
from ..columns import Column
from .protocol import Block, Found, choose, split_columns


class ParquetTable:
    """A table with one row an object, read in batches of rows.

    Parameters
    ----------
    path : path
        The file.
    wanted : mapping of str, optional
        Column of lists, or prefix of numbered columns, by modality.

    Raises
    ------
    InputError
        If the file is damaged or holds no vectors.
    """

    def __init__(self, path: Path, wanted: Mapping[str, str] | None = None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = str(path)
        try:
            self._file = pq.ParquetFile(path, memory_map=True, pre_buffer=False)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{path} cannot be read as Parquet ({reason(error)}): get a fresh copy of it"
            ) from error
        schema = self._file.schema_arrow
        lists = [
            f.name
            for f in schema
            if (
                pa.types.is_list(f.type)
                or pa.types.is_large_list(f.type)
                or pa.types.is_fixed_size_list(f.type)
            )
            and (pa.types.is_floating(f.type.value_type) or pa.types.is_integer(f.type.value_type))
        ]
        chosen = choose(lists, wanted, self.path, prefixes=True)
        self._sources = {n: [key] if key in lists else self._numbered(n, key) for n, key in chosen.items()}
        taken = {column for columns in self._sources.values() for column in columns}
        flat = [
            f.name
            for f in schema
            if f.name not in taken and f.name not in lists and not pa.types.is_nested(f.type)
        ]
        objects = self._file.metadata.num_rows
        if not objects:
            raise InputError(f"{path} holds no objects: give at least one")
        single = {name: self._column(name) for name in flat}
        self.ids: Column
        self.ids, self.columns, self.notes = split_columns(single, objects, self.path)
        self.notes += [
            f"{path}: {n} was not chosen and was left out" for n in schema.names if n not in {*taken, *flat}
        ]
        self.modalities = [
            Found(n, chosen[n], len(columns) if columns != [chosen[n]] else self._width(chosen[n]))
            for n, columns in self._sources.items()
        ]

    def _numbered(self, name: str, prefix: str) -> list[str]:
        """Columns of a prefix and a number, in the order of their numbers."""
        found = {
            int(m[1]): n
            for n in self._file.schema_arrow.names
            if (m := re.fullmatch(rf"{re.escape(prefix)}_?(\d+)", n))
        }
        order = sorted(found)
        if not found or order != list(range(order[0], order[0] + len(order))):
            raise InputError(
                f"{self.path} has no vectors {prefix} for {name}: neither a column of lists of that name nor "
                f"consecutive columns {prefix}0, {prefix}1, ..."
            )
        return [found[i] for i in order]

    def _column(self, name: str) -> NDArray[Any]:
        """A column of single values, None where there is none."""
        import pyarrow as pa

        try:
            column = self._file.read(columns=[name], use_threads=False).column(name)
        except (OSError, pa.ArrowException) as error:
            raise self._broken(error) from error
        if pa.types.is_floating(column.type):
            return np.asarray(column.to_numpy())
        if column.null_count == 0 and (pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
            return np.asarray(column.to_numpy())
        return np.array([*column.to_pylist(), None], object)[:-1]

    def _width(self, key: str) -> int:
        import pyarrow as pa

        kind = self._file.schema_arrow.field(key).type
        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        try:
            for batch in self._file.iter_batches(1024, columns=[key], use_threads=False):
                lengths = batch.column(0).value_lengths().drop_null()
                if len(lengths):
                    return int(lengths[0].as_py())
        except (OSError, pa.ArrowException) as error:
            raise self._broken(error) from error
        raise InputError(f"{self.path}: {key} holds no vector: leave it out")

    def blocks(self, size: int) -> Iterator[Block]:
        """Read ``size`` rows at a time; a row without a list is missing."""
        import pyarrow as pa

        columns = [column for group in self._sources.values() for column in group]
        start = 0
        try:
            for batch in self._file.iter_batches(size, columns=columns, use_threads=False):
                vectors, present = {}, {}
                for found in self.modalities:
                    names = self._sources[found.name]
                    if names == [found.key]:
                        pair = self._lists(batch.column(found.key), found, start)
                    else:
                        pair = _stacked([batch.column(n) for n in names])
                    vectors[found.name], present[found.name] = pair
                start += batch.num_rows
                yield Block(vectors, present)
        except (OSError, pa.ArrowException) as error:
            raise self._broken(error) from error

    def _lists(self, column: Any, found: Found, start: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Vectors of a column of lists, all of one length."""
        lengths = column.value_lengths()
        there = np.asarray(column.is_valid())
        known = np.asarray(lengths.drop_null())
        if np.any(known != found.features):
            first = int(np.flatnonzero(there)[np.argmax(known != found.features)])
            raise InputError(
                f"{self.path}: {found.key} of object {self.ids[start + first]} has "
                f"{lengths[first].as_py()} numbers, others {found.features}: give vectors of one length"
            )
        vectors = np.full((len(column), found.features), np.nan, np.float32)
        values = column.drop_null().flatten()
        vectors[there] = np.asarray(values.to_numpy(zero_copy_only=False), np.float32).reshape(
            -1, found.features
        )
        return vectors, there

    def _broken(self, error: Exception) -> InputError:
        return InputError(f"{self.path} cannot be read ({reason(error)}): get a fresh copy of it")


def _stacked(columns: list[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of numbered columns; a row in which nothing is known is missing."""
    there = np.zeros(len(columns[0]), bool)
    vectors = np.empty((len(columns[0]), len(columns)), np.float32)
    for i, column in enumerate(columns):
        vectors[:, i] = column.to_numpy(zero_copy_only=False)
        there |= np.asarray(column.is_valid())
    return vectors, there
