"""Parquet: columns of lists, numbered columns with a prefix, or all columns of numbers are vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ...readers.files import reason
from ..columns import Column
from .protocol import Block, Found, choose, split_columns
from .tables import (
    ROW_NUMBERS,
    Chosen,
    as_floats,
    check_names,
    choose_columns,
    column_name,
    text_notes,
    with_label,
)


class ParquetTable:
    """A table with one row an object, read in batches of rows.

    Parameters
    ----------
    path : path
        The file.
    wanted : mapping of str, optional
        Column of lists, or columns of numbers, by modality, see :func:`~.tables.choose_columns`.

    aside : sequence of str
        Columns of numbers that are no features unless they are named.

    Raises
    ------
    InputError
        If the file is damaged or holds no vectors.
    """

    def __init__(
        self, path: Path, wanted: Mapping[str, str] | None = None, *, aside: Sequence[str] = ()
    ) -> None:
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
        check_names(schema.names, self.path)
        lists = [f.name for f in schema if _is_vector(f.type)]
        self._aside = aside
        self._chosen = self._choose(schema, lists, wanted)
        taken = {column for chosen in self._chosen.values() for column in chosen.columns}
        flat = [
            f.name
            for f in schema
            if f.name not in taken
            and f.name.lower() not in ROW_NUMBERS
            and f.name not in lists
            and not pa.types.is_nested(f.type)
        ]
        objects = self._file.metadata.num_rows
        if not objects:
            raise InputError(f"{path} holds no objects: give at least one")
        single = {column_name(name): self._column(name) for name in flat}
        self.ids: Column
        self.ids, self.columns, self.notes = split_columns(single, objects, self.path)
        if any(c.named for c in self._chosen.values()):
            self.columns, more = with_label(self.columns, self.path)
            self.notes += more
            self.notes += text_notes(self.columns, self.path)
        self.notes += [
            f"{path}: {n} was not chosen and was left out" for n in schema.names if n not in {*taken, *flat}
        ]
        self.modalities = [self._found(n, c, lists) for n, c in self._chosen.items()]

    def _choose(self, schema: Any, lists: list[str], wanted: Mapping[str, str] | None) -> dict[str, Chosen]:
        """Columns of each modality: one of lists, or some of numbers."""
        if lists and not wanted:
            wanted = choose(lists, None, self.path)
        asked = {n: k for n, k in (wanted or {}).items() if k not in lists}
        chosen = {n: Chosen(k, (k,), False) for n, k in (wanted or {}).items() if k in lists}
        if asked or not chosen:
            numbers = [f.name for f in schema if _is_number(f.type)]
            others = [n for n in schema.names if n not in numbers and n not in lists]
            chosen |= choose_columns(numbers, others, asked or None, self.path, self._aside)
        return {n: chosen[n] for n in wanted or chosen}

    def _found(self, name: str, chosen: Chosen, lists: list[str]) -> Found:
        """A modality, with what the field of an exported one says of its numbers."""
        if chosen.columns[0] not in lists:
            return Found(name, chosen.key, len(chosen.columns), chosen.columns if chosen.named else ())
        told = self._file.schema_arrow.field(chosen.key).metadata or {}
        text = {k.decode(): v.decode("utf-8", "replace") for k, v in told.items()}
        width = self._width(chosen.key)
        try:
            names = tuple(map(str, json.loads(text.get("feature_names", "[]"))))
        except (ValueError, TypeError):
            names = ()
        sequence = text.get("sequence", "")
        return Found(name, chosen.key, width, names, sequence, text.get("units", ""))

    def _column(self, name: str) -> NDArray[Any]:
        """A column of single values, None where there is none."""
        import pyarrow as pa

        try:
            column = self._file.read(columns=[name], use_threads=False).column(name)
        except (OSError, pa.ArrowException) as error:
            raise self._broken(error) from error
        if pa.types.is_temporal(column.type):
            column = column.cast(pa.string())
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

        columns = [column for chosen in self._chosen.values() for column in chosen.columns]
        start = 0
        try:
            for batch in self._file.iter_batches(size, columns=columns, use_threads=False):
                vectors, present = {}, {}
                for found in self.modalities:
                    names = self._chosen[found.name].columns
                    if _is_vector(batch.schema.field(names[0]).type):
                        pair = self._lists(batch.column(found.key), found, start)
                    else:
                        pair = _stacked([batch.column(n) for n in names])
                    vectors[found.name], there = pair
                    if not self._chosen[found.name].named:
                        present[found.name] = there
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


def _is_vector(kind: Any) -> bool:
    """Whether a column holds lists of numbers."""
    import pyarrow.types as pt

    of_lists = pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)
    return bool(of_lists and (pt.is_floating(kind.value_type) or pt.is_integer(kind.value_type)))


def _is_number(kind: Any) -> bool:
    import pyarrow.types as pt

    return bool(pt.is_floating(kind) or pt.is_integer(kind) or pt.is_boolean(kind) or pt.is_decimal(kind))


def _stacked(columns: list[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors of columns of numbers; a row in which nothing is known is missing."""
    there = np.zeros(len(columns[0]), bool)
    vectors = np.empty((len(columns[0]), len(columns)), np.float32)
    for i, column in enumerate(columns):
        with np.errstate(over="ignore"):
            vectors[:, i] = as_floats(column)
        there |= np.asarray(column.is_valid())
    return vectors, there
