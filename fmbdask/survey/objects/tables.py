"""Tables of objects, as CSV and as Parquet beside it, written piece by piece and whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...atomic import atomic

#: Rows that are written at once.
ROWS = 2**17
#: Characters that make a value of a CSV file need quotes.
SPECIAL = '[",\n\r]'


class TableWriter:
    """Writes a table as ``NAME.csv`` and ``NAME.parquet``; they appear when the ``with`` block ends well.

    Parameters
    ----------
    path : Path
        The CSV file.
    units : mapping, optional
        Units of columns, kept in the Parquet file.
    parquet : bool
        Whether the Parquet file is written.
    overwrite : bool
        Whether files that are there are replaced.

    Raises
    ------
    OutputExistsError
        If a file is there and is not to be replaced.
    """

    def __init__(
        self,
        path: Path,
        *,
        units: Mapping[str, str] | None = None,
        parquet: bool = True,
        overwrite: bool = False,
    ) -> None:
        self.path, self.units, self.parquet, self.overwrite = path, dict(units or {}), parquet, overwrite
        self.count = 0
        self._stack = ExitStack()
        self._csv: BinaryIO | None = None
        self._parquet: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None

    def __enter__(self) -> Self:
        self._csv_path = self._stack.enter_context(atomic(self.path, overwrite=self.overwrite))
        if self.parquet:
            other = self.path.with_suffix(".parquet")
            self._parquet_path = self._stack.enter_context(atomic(other, overwrite=self.overwrite))
        self._csv = self._stack.enter_context(self._csv_path.open("wb"))
        return self

    def write(self, columns: Mapping[str, Any]) -> None:
        """Add rows; every call has the same columns, and the first one says their types."""
        arrays = {name: _column(values) for name, values in columns.items()}
        assert self._csv is not None
        if self._schema is None:
            self._schema = pa.schema([self._field(name, array.type) for name, array in arrays.items()])
            self._csv.write((",".join(arrays) + "\n").encode())
        table = pa.table(arrays).cast(self._schema)
        if self.parquet:
            if self._parquet is None:
                writer = pq.ParquetWriter(self._parquet_path, self._schema, compression="zstd")
                self._parquet = self._stack.enter_context(writer)
            self._parquet.write_table(table, row_group_size=max(1, table.num_rows))
        options = pa.csv.WriteOptions(
            include_header=False, quoting_style="needed" if _needs_quotes(table) else "none"
        )
        pa.csv.write_csv(table, self._csv, options)
        self.count += table.num_rows

    def _field(self, name: str, kind: pa.DataType) -> pa.Field:
        return pa.field(name, kind, metadata={"unit": self.units[name]} if name in self.units else None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def _column(values: Any) -> pa.Array:
    """Values of a column; numbers that are not known are missing."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.data, mask=np.ma.getmaskarray(values))
    array = np.asarray(values)
    if array.dtype.kind == "S":
        return pa.array(array.astype(object), pa.binary()).cast(pa.string())
    if array.dtype.kind == "U":
        array = array.astype(object)
    return pa.array(array, from_pandas=True)


def _needs_quotes(table: pa.Table) -> bool:
    return any(
        pc.any(pc.match_substring_regex(column, SPECIAL)).as_py()
        for column in table.columns
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    )


def pieces(order: NDArray[np.int64], rows: int = ROWS) -> Iterator[NDArray[np.int64]]:
    """An order in pieces of at most so many objects."""
    for start in range(0, len(order), rows):
        yield np.asarray(order[start : start + rows])


def concatenated(parts: Sequence[Path], path: Path) -> Path:
    """Make one table of several with the same columns, each a CSV and a Parquet file, and remove those."""
    with atomic(path, overwrite=True) as temporary, temporary.open("wb") as out:
        for number, part in enumerate(parts):
            with part.open("rb") as file:
                if number:
                    file.readline()
                shutil.copyfileobj(file, out, 2**20)
    files = [pq.ParquetFile(part.with_suffix(".parquet")) for part in parts]
    schema = pa.unify_schemas([file.schema_arrow for file in files], promote_options="permissive")
    with (
        atomic(path.with_suffix(".parquet"), overwrite=True) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for file in files:
            for batch in file.iter_batches(ROWS):
                writer.write_table(pa.table(batch).cast(schema))
            file.close()
    for part in parts:
        part.unlink()
        part.with_suffix(".parquet").unlink()
    return path
