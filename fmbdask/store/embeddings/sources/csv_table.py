"""Tables in text, comma-, semicolon- or tab-separated, read twice in blocks: once to learn what columns hold.

A column holds numbers if each of its cells is a number or empty (or ``NA``, ``NaN``, ``?``, ...). The first
block says what to expect; where a later cell is something else, the column is of a wider kind.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ...readers.files import reason
from ..columns import Column
from ..ids import typed
from .protocol import ID_NAMES, Block, Found, split_columns
from .tables import (
    ROW_NUMBERS,
    as_floats,
    check_names,
    choose_columns,
    column_name,
    in_blocks,
    is_number,
    text_notes,
    with_label,
)

#: Bytes that are parsed at a time: a line must fit.
BLOCK_BYTES = 8 * 2**20
#: Bytes in which the line of names must end.
HEADER_BYTES = 2**22
DELIMITERS = ",\t;|"
#: Cells that say nothing.
EMPTY = (
    "", "#N/A", "N/A", "n/a", "NA", "na", "NULL", "Null", "null", "NaN", "nan", "-nan", "-NaN", "None",
    "none", "?", "-", "--",
)  # fmt: skip
#: Kinds of columns, each holding what those before it hold.
WIDER = {"int64": "double", "bool": "string", "double": "string"}
#: Characters of a column of text above which it is left out.
LONGEST_TEXT = 2**28


class CsvTable:
    """A table in text with a line of names and one line an object.

    Parameters
    ----------
    path : path
        The file.
    wanted : mapping of str, optional
        Columns by modality, see :func:`~.tables.choose_columns`.
    aside : sequence of str
        Columns that are no features unless they are named.

    Raises
    ------
    InputError
        If the file is no such table.
    """

    def __init__(
        self, path: Path, wanted: Mapping[str, str] | None = None, *, aside: Sequence[str] = ()
    ) -> None:
        self.path = str(path)
        self._names, self._delimiter, self._start, self._lines = self._header(path)
        ids = next((n for usual in ID_NAMES for n in self._names if n.lower() == usual), None)
        ignored = [n for n in self._names if n.lower() in ROW_NUMBERS]
        self._kinds = self._first_kinds()
        if ids is not None:
            self._kinds[ids] = "string"
        while True:
            numbers = [n for n in self._names if self._kinds[n] != "string"]
            others = [n for n in self._names if self._kinds[n] == "string"]
            self._chosen = choose_columns(numbers, others, wanted, self.path, aside)
            taken = {column for chosen in self._chosen.values() for column in chosen.columns}
            single = [n for n in self._names if n not in taken and n not in ignored]
            wider = self._scan(single)
            if wider is None:
                break
            self._kinds[wider] = WIDER[self._kinds[wider]]
        values = {column_name(name): column for name, column in self._single.items()}
        if ids is not None and ids in values:
            values[ids] = typed([str(cell).strip() for cell in values[ids]])
        self.ids: Column
        self.ids, columns, self.notes = split_columns(values, self._rows, self.path)
        self.columns, more = with_label(columns, self.path)
        self.notes += more
        self.notes += text_notes(self.columns, self.path)
        self.notes += [f"{path}: {n} holds texts too long for a column: left out" for n in self._too_long]
        self.modalities = [
            Found(n, c.key, len(c.columns), c.columns if c.named else ()) for n, c in self._chosen.items()
        ]

    def _header(self, path: Path) -> tuple[list[str], str, int, int]:
        """Names, delimiter, where the lines of objects begin [bytes], and lines before them."""
        with open(path, "rb") as file:
            start = file.read(HEADER_BYTES)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in start[:4096]:
            raise InputError(f"{path} is no text in UTF-8: write it as UTF-8")
        at, lines = 3 * start.startswith(b"\xef\xbb\xbf"), 0
        while at < len(start):
            end = start.find(b"\n", at)
            end = len(start) if end < 0 else end
            line = start[at:end].rstrip(b"\r")
            at, lines = end + 1, lines + 1
            if line.strip() and not line.startswith(b"#"):
                break
        else:
            raise InputError(f"{path} is empty: give a table with a line of names and one line an object")
        try:
            words = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} has names of columns that are not UTF-8: write it as UTF-8") from error
        delimiter = max(DELIMITERS, key=words.count)
        names = [cell.strip() for cell in next(csv.reader([words], delimiter=delimiter))]
        check_names(names, str(path))
        if all(is_number(n) for n in names) and not _counts(names):
            raise InputError(
                f"{path} has numbers where the names of its columns should be: give it a line of names"
            )
        return names, delimiter, at, lines

    def _first_kinds(self) -> dict[str, str]:
        """Kind of each column as the first block has it."""
        import pyarrow.types as pt

        with self._opened(None) as reader:
            schema = reader.schema
        kinds = {}
        for field in schema:
            if pt.is_integer(field.type):
                kinds[field.name] = "int64"
            elif pt.is_floating(field.type) or pt.is_null(field.type):
                kinds[field.name] = "double"
            else:
                kinds[field.name] = "bool" if pt.is_boolean(field.type) else "string"
        return kinds

    def _scan(self, single: Sequence[str]) -> str | None:
        """Read everything once, keep the columns that are no features; a column that is of a wider kind."""
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in single}
        self._rows, letters = 0, {n: 0 for n in single if self._kinds[n] == "string"}
        try:
            with self._opened(self._names) as reader:
                for batch in reader:
                    self._rows += batch.num_rows
                    for name, kept in parts.items():
                        part = _plain(batch.column(name))
                        if name in letters and part.dtype.kind == "O":
                            letters[name] = max(letters[name], max(map(len, part), default=0))
                        kept.append(part)
        except _WiderError as error:
            return self._names[error.column]
        self._single = {
            name: np.concatenate(kept) if kept else np.empty(0)
            for name, kept in parts.items()
            if letters.get(name, 0) * self._rows < LONGEST_TEXT
        }
        self._too_long = [name for name in parts if name not in self._single]
        return None

    def blocks(self, size: int) -> Iterator[Block]:
        """Read ``size`` lines at a time."""
        columns = [column for chosen in self._chosen.values() for column in chosen.columns]
        ends = np.cumsum([len(chosen.columns) for chosen in self._chosen.values()])[:-1]
        with self._opened(list(dict.fromkeys(columns))) as reader:
            for block in in_blocks((_stacked(batch, columns) for batch in reader), size):
                pieces = np.split(block, ends, axis=1)
                yield Block(dict(zip(self._chosen, pieces, strict=True)))

    @contextmanager
    def _opened(self, columns: list[str] | None) -> Iterator[Any]:
        """Read some columns in batches, errors in a sentence; with their kinds, unless none are given."""
        import pyarrow as pa
        import pyarrow.csv as pc

        kinds = {"int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
        convert = pc.ConvertOptions(
            null_values=list(EMPTY),
            column_types=None if columns is None else {n: kinds[self._kinds[n]] for n in columns},
            include_columns=columns,
        )
        try:
            with open(self.path, "rb") as file:
                file.seek(self._start)
                if not file.read(HEADER_BYTES).strip():
                    raise InputError(f"{self.path} holds no objects: give at least one")
                file.seek(self._start)
                yield pc.open_csv(
                    file,
                    pc.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=self._names),
                    pc.ParseOptions(delimiter=self._delimiter),
                    convert,
                )
        except pa.ArrowException as error:
            raise self._told(str(error)) from error

    def _told(self, text: str) -> Exception:
        """What the library says, as a sentence of ours."""
        ragged = re.search(r"Row #(\d+): Expected (\d+) columns, got (\d+)", text)
        if ragged:
            line, expected, got = map(int, ragged.groups())
            return InputError(
                f"{self.path}: line {line + self._lines} has {got} cells and the line of names {expected}: "
                "give every line all cells"
            )
        if "UTF8" in text or "UTF-8" in text:
            return InputError(f"{self.path} is no text in UTF-8: write it as UTF-8")
        cell = re.search(r"In CSV column #(\d+)", text)
        if cell and "conversion error" in text:
            return _WiderError(int(cell[1]))
        if "straddling" in text:
            return InputError(f"{self.path} has a line of more than {BLOCK_BYTES} bytes: give it as Parquet")
        return InputError(f"{self.path} cannot be read as CSV ({reason(Exception(text))}): check its lines")


class _WiderError(Exception):
    """A column, counted from 0, holds a cell that is not of its kind."""

    def __init__(self, column: int) -> None:
        super().__init__(column)
        self.column = column


def _plain(column: Any) -> NDArray[Any]:
    """A column of a batch; None where a text or a whole number is missing, NaN where a number is."""
    import pyarrow.types as pt

    if pt.is_floating(column.type) or (column.null_count == 0 and not pt.is_string(column.type)):
        return np.asarray(column.to_numpy(zero_copy_only=False))
    if pt.is_string(column.type):
        return np.array(column.to_pylist(), object)
    return np.array([*column.to_pylist(), None], object)[:-1]


def _stacked(batch: Any, columns: Sequence[str]) -> NDArray[np.float32]:
    """Columns of a batch as vectors; a cell without a value is NaN, one too large for float32 infinite."""
    out = np.empty((batch.num_rows, len(columns)), np.float32)
    with np.errstate(over="ignore"):
        for i, name in enumerate(columns):
            out[:, i] = as_floats(batch.column(name))
    return out


def _counts(names: Sequence[str]) -> bool:
    """Whether names are 0, 1, 2, ... or 1, 2, 3, ..., as libraries call columns without names."""
    return any(list(names) == [str(i + first) for i in range(len(names))] for first in (0, 1))
