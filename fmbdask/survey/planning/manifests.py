"""Tables of inputs: paths, and what is known of each without opening it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError


@dataclass(frozen=True)
class Found:
    """One input as it was found: its path, and what a manifest says about it."""

    path: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    size: int = -1
    mtime_ns: int = 0


def read_manifest(path: str) -> list[Found]:
    """Read a table of inputs.

    Raises
    ------
    InputError
        If it cannot be read, has no column ``path``, or a shape cannot be understood.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    try:
        if path.lower().endswith(".csv"):
            text = {"path": pa.string(), "shape": pa.string(), "dtype": pa.string()}
            options = pyarrow.csv.ConvertOptions(column_types=text)
            table = pyarrow.csv.read_csv(path, convert_options=options)
        else:
            table = pq.read_table(path, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as a manifest ({error}): write it again") from None
    if "path" not in table.column_names:
        raise InputError(
            f"{path} has no column path, only {', '.join(table.column_names)}: name the column of the "
            "inputs path"
        )
    columns: dict[str, list[Any]] = {
        name: table[name].to_pylist()
        for name in ("path", "shape", "dtype", "size", "mtime_ns")
        if name in table.column_names
    }
    if None in columns["path"]:
        raise InputError(f"{path} has a row without a path: complete it or take it out")
    here = os.getcwd()
    paths = [p if p.startswith("/") else os.path.join(here, p) for p in columns["path"]]
    paths = [os.path.normpath(p) if "/." in p or "//" in p else p for p in paths]
    count = len(paths)
    shapes: Iterable[tuple[int, ...]] = [()] * count
    if "shape" in columns:
        known: dict[Any, tuple[int, ...]] = {}
        shapes = [_shape(value, known, path) for value in columns["shape"]]
    given = columns.get("dtype", [""] * count)
    kinds = {d: str(np.dtype(d)) if d else "" for d in set(given)}
    dtypes = [kinds[d] for d in given]
    sizes = [-1 if s is None else int(s) for s in columns.get("size", [-1] * count)]
    times = [int(t or 0) for t in columns.get("mtime_ns", [0] * count)]
    return [Found(*row) for row in zip(paths, shapes, dtypes, sizes, times, strict=True)]


def _shape(value: Any, known: dict[Any, tuple[int, ...]], path: str) -> tuple[int, ...]:
    """Shape from a list or from text; each distinct one is read once."""
    if value is None or value == "":
        return ()
    key = tuple(value) if isinstance(value, list) else value
    if key not in known:
        parts = key if isinstance(key, tuple) else str(key).strip("()[] ").replace("x", ",").split(",")
        try:
            shape = tuple(int(n) for n in parts if str(n).strip())
        except ValueError:
            shape = ()
        if len(shape) not in (3, 4) or min(shape) < 1:
            raise InputError(f"{path} has the shape {value!r}: write it like 1x450x2048x2048")
        known[key] = (1, *shape) if len(shape) == 3 else shape
    return known[key]
