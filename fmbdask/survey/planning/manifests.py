"""Tables of inputs: paths, and what is known of each without opening it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Found:
    """One input as it was found: its path, and what a manifest says about it."""

    path: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    size: int = -1
    mtime_ns: int = 0


@dataclass(frozen=True, eq=False)
class FoundTable(Sequence[Found]):
    """Inputs in columns; ``code`` says which of ``kinds``, pairs of shape and type, each of them is."""

    path: pa.LargeStringArray
    code: NDArray[np.int32]
    kinds: tuple[tuple[tuple[int, ...], str], ...]
    size: NDArray[np.int64]
    mtime_ns: NDArray[np.int64]

    @staticmethod
    def of(found: Iterable[Found]) -> FoundTable:
        """Put inputs into columns."""
        import pyarrow as pa

        rows = list(found)
        number: dict[tuple[tuple[int, ...], str], int] = {}
        codes = [number.setdefault((f.shape, f.dtype), len(number)) for f in rows]
        return FoundTable(
            pa.array([f.path for f in rows], pa.large_string()),
            np.array(codes, np.int32),
            tuple(number),
            np.array([f.size for f in rows], np.int64),
            np.array([f.mtime_ns for f in rows], np.int64),
        )

    @property
    def told(self) -> bool:
        """Whether shape and type of every input are known."""
        return all(shape and dtype for shape, dtype in self.kinds)

    def __len__(self) -> int:
        return len(self.path)

    @overload
    def __getitem__(self, place: int) -> Found: ...
    @overload
    def __getitem__(self, place: slice) -> list[Found]: ...
    def __getitem__(self, place: int | slice) -> Found | list[Found]:
        if isinstance(place, slice):
            return [self[n] for n in range(len(self))[place]]
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} inputs")
        shape, dtype = self.kinds[self.code[place]]
        path = self.path[place % len(self)].as_py()
        return Found(path, shape, dtype, int(self.size[place]), int(self.mtime_ns[place]))

    def __iter__(self) -> Iterator[Found]:
        return (self[place] for place in range(len(self)))


def read_manifest(path: str) -> FoundTable:
    """Read a table of inputs.

    Raises
    ------
    InputError
        If it cannot be read, has no column ``path``, or a shape cannot be understood.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
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
    if table["path"].null_count:
        raise InputError(f"{path} has a row without a path: complete it or take it out")
    count = len(table)
    paths = table["path"].cast(pa.large_string()).combine_chunks()
    if not (pc.all(pc.starts_with(paths, "/")).as_py() and not pc.any(_unusual(paths)).as_py()):
        here = os.getcwd()
        paths = pa.array([_absolute(p, here) for p in paths.to_pylist()], pa.large_string())
    known: dict[Any, tuple[int, ...]] = {}
    shapes, each = _distinct(table, "shape", count)
    shape_of = [_shape(value, known, path) for value in shapes]
    words, kind = _distinct(table, "dtype", count)
    dtype_of = [str(np.dtype(word)) if word else "" for word in words]
    pairs, code = np.unique(each * max(len(words), 1) + kind, return_inverse=True)
    kinds = [divmod(int(pair), max(len(words), 1)) for pair in pairs]
    return FoundTable(
        paths,
        code.astype(np.int32),
        tuple((shape_of[s], dtype_of[d]) for s, d in kinds),
        _numbers(table, "size", count, -1),
        _numbers(table, "mtime_ns", count, 0),
    )


def _unusual(paths: pa.LargeStringArray) -> Any:
    """Which paths are not as short as they could be."""
    import pyarrow.compute as pc

    return pc.or_(pc.match_substring(paths, "/."), pc.match_substring(paths, "//"))


def _absolute(path: str, here: str) -> str:
    whole = path if path.startswith("/") else os.path.join(here, path)
    return os.path.normpath(whole) if "/." in whole or "//" in whole else whole


def _numbers(table: Any, name: str, count: int, missing: int) -> NDArray[np.int64]:
    """A column of whole numbers; what is not there stands for itself."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if name not in table.column_names:
        return np.full(count, missing, np.int64)
    found: NDArray[np.int64] = pc.fill_null(table[name].cast(pa.int64()), missing).to_numpy()
    return found


def _distinct(table: Any, name: str, count: int) -> tuple[list[Any], NDArray[np.int64]]:
    """The few values of a column, and which of them each row has."""
    import pyarrow as pa

    if name not in table.column_names:
        return [None], np.zeros(count, np.int64)
    column = table[name].combine_chunks()
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        number: dict[Any, int] = {}
        keys = (None if v is None else tuple(v) for v in column.to_pylist())
        codes = [number.setdefault(key, len(number)) for key in keys]
        return list(number), np.array(codes, np.int64)
    coded = column.dictionary_encode(null_encoding="encode")
    return coded.dictionary.to_pylist(), coded.indices.to_numpy().astype(np.int64)


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
