"""The table of the items of a run: what each input is, where its regions are counted, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...errors import RunError
from .folder import write_durably


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a run.

    Attributes
    ----------
    index : int
        Its place in the run.
    name : str
        Name of its folder of products, different from all others.
    path : str
        The input; or what the pipeline makes of it.
    size, mtime_ns, header : int, int, str
        What identifies it: bytes, time of the last change, checksum of the header.
    shape : tuple of int
    dtype : str
    edge : int
        Rows and columns of a region, or objects of a span.
    regions : tuple of int
        Number of regions in each stage of the pipeline.
    nbytes, nbytes_out : int
        Bytes that are read, and written to its products.
    seconds : float
        Projected time in one thread [s].
    memory : int
        Projected anonymous memory of one thread's work, the larger of a region and the reduction [byte].
    generation : int
        How often it was begun anew because its input or configuration changed.
    problem : str
        Why it cannot be worked on; known when the run was planned.
    """

    index: int
    name: str
    path: str
    size: int = 0
    mtime_ns: int = 0
    header: str = ""
    shape: tuple[int, ...] = ()
    dtype: str = ""
    edge: int = 0
    regions: tuple[int, ...] = (0,)
    nbytes: int = 0
    nbytes_out: int = 0
    seconds: float = 0.0
    memory: int = 0
    generation: int = 0
    problem: str = field(default="")

    @property
    def units(self) -> int:
        """Number of regions of all stages."""
        return sum(self.regions)


_SCHEMA = pa.schema(
    {
        "index": pa.int64(), "name": pa.string(), "path": pa.string(), "size": pa.int64(),
        "mtime_ns": pa.int64(), "header": pa.string(), "shape": pa.list_(pa.int64()), "dtype": pa.string(),
        "edge": pa.int64(), "regions": pa.list_(pa.int64()), "nbytes": pa.int64(),
        "nbytes_out": pa.int64(), "seconds": pa.float64(), "memory": pa.int64(), "generation": pa.int64(),
        "problem": pa.string(),
    }
)  # fmt: skip


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write the table, whole or not at all, and wait until it is on the disk."""
    rows = list(items)
    columns = {name: [getattr(item, name) for item in rows] for name in _SCHEMA.names}
    content = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, _SCHEMA), content, compression="zstd")
    write_durably(path, content.getvalue().to_pybytes())


def read_items(path: Path) -> list[Item]:
    """Read the table.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    try:
        table = pq.read_table(path, schema=_SCHEMA)
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            f"{path} cannot be read ({error}): restore it from a copy or plan the run anew"
        ) from None
    rows: list[dict[str, Any]] = table.to_pylist()
    return [Item(**row | {n: tuple(row[n]) for n in ("shape", "regions")}) for row in rows]
