"""The catalogue of a run of ramps: the events of all exposures, in files of one schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...errors import InputError
from ...ramps.reduce import COLUMNS
from ...store.catalog import COUNTS, LEVEL, TIME, UNITS, WORDS

#: Exposures of one file.
ITEMS_PER_FILE = 256
#: Columns that every event has a whole number for.
WHOLE = {"event_id", "integration", "first_frame"}


def schema(time_unit: str = "s") -> pa.Schema:
    """Schema of the catalogue: the columns of one exposure's table, and the exposure before them.

    Counts that do not apply to all kinds of events are integers that may be missing.
    """
    words = {LEVEL: "DN", TIME: time_unit}
    fields = [pa.field("exposure", pa.string(), metadata={"unit": "1"})]
    for name in COLUMNS:
        kind = pa.int64() if name in WHOLE | COUNTS else pa.string() if name in WORDS else pa.float64()
        unit = UNITS.get(name, "1")
        fields.append(pa.field(name, kind, metadata={"unit": words.get(unit, unit)}))
    return pa.schema(fields)


def write_catalog(
    tables: Sequence[tuple[str, Path]], target: Path, about: Mapping[str, Any] | None = None
) -> int:
    """Write the tables of events of many exposures as ``events-00000.parquet``, ...

    Times are in seconds; those of exposures whose read times are not known are missing (``first_frame`` says
    when), unless that is so for all of them.

    Parameters
    ----------
    tables : sequence of (str, Path)
        Name of each exposure and its table, in the order of the rows.
    target : Path
        Folder that exists.
    about : mapping, optional
        Values kept with each file, each as JSON: which network was asked.

    Returns
    -------
    int
        Number of events.

    Raises
    ------
    InputError
        If a table cannot be read.
    """
    units = {_time_unit(path) for _, path in tables}
    unit = "frame" if units == {"frame"} else "s"
    common = schema(unit)
    if about:
        common = common.with_metadata({name: json.dumps(value) for name, value in about.items()})
    total = 0
    for number in range(max(1, -(-len(tables) // ITEMS_PER_FILE))):
        group = tables[number * ITEMS_PER_FILE : (number + 1) * ITEMS_PER_FILE]
        with pq.ParquetWriter(target / f"events-{number:05d}.parquet", common) as writer:
            waiting: list[pa.Table] = []
            for name, path in group:
                waiting.append(_conform(_read(path), name, common, unit))
                if sum(t.num_rows for t in waiting) > 100_000:
                    total += _flush(writer, waiting)
            total += _flush(writer, waiting)
    return total


def _flush(writer: pq.ParquetWriter, waiting: list[pa.Table]) -> int:
    """Write the tables that wait as one group of rows."""
    if not waiting:
        return 0
    together = pa.concat_tables(waiting)
    writer.write_table(together, row_group_size=max(1, together.num_rows))
    waiting.clear()
    return int(together.num_rows)


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}): retry the exposure") from error


def _time_unit(path: Path) -> str:
    try:
        found = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read ({error}): retry the exposure") from error
    at = found.get_field_index("time")
    metadata: dict[bytes, bytes] = (found.field(at).metadata or {}) if at >= 0 else {}
    return metadata.get(b"unit", b"s").decode()


def _conform(table: pa.Table, name: str, common: pa.Schema, unit: str) -> pa.Table:
    """Bring the table of an exposure into the common schema."""
    known = set(table.column_names)
    at = table.schema.get_field_index("time")
    own_unit = ((table.schema.field(at).metadata or {}) if at >= 0 else {}).get(b"unit", b"s").decode()
    columns: list[Any] = [pa.repeat(pa.scalar(name), table.num_rows)]
    for field in list(common)[1:]:
        absent = field.name not in known or (field.name == "time" and own_unit != unit)
        column = pa.nulls(table.num_rows, field.type) if absent else table[field.name]
        if pa.types.is_integer(field.type) and pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=common)
