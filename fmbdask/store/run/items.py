"""The table of the items of a run: what each input is, where its regions are counted, and what it costs.

Items are kept in columns, as in the file: a million of them take a hundred megabytes, and one is made when
somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import eq
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...errors import RunError
from .folder import write_durably
from .suffixes import suffix_of, suffixes


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


#: Columns of a table; those of what many items have in common are kept once each.
_COMMON: dict[str, pa.DataType] = {
    "shape": pa.list_(pa.int64()), "dtype": pa.string(), "edge": pa.int64(), "regions": pa.list_(pa.int64()),
    "nbytes": pa.int64(), "nbytes_out": pa.int64(), "seconds": pa.float64(), "memory": pa.int64(),
}  # fmt: skip
_SCHEMA = pa.schema(
    {
        "index": pa.int64(), "name": pa.string(), "path": pa.string(), "size": pa.int64(),
        "mtime_ns": pa.int64(), "header": pa.string(), **_COMMON, "generation": pa.int64(),
        "problem": pa.string(),
    }
)  # fmt: skip
#: Rows that are read and written at once.
_ROWS = 65_536

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ItemTable(Sequence[Item]):
    """Items in columns, in the order of their indices.

    Attributes
    ----------
    indices, size, mtime_ns, generation : (n,) int array
    name, path, header : LargeStringArray of n
    code : (n,) int array
        Which of ``kinds`` an item is.
    kinds : tuple of Item
        What items have in common; the path is nothing but a suffix.
    problems : mapping
        Place of an item to its problem.
    """

    indices: Int
    name: pa.LargeStringArray
    path: pa.LargeStringArray
    size: Int
    mtime_ns: Int
    header: pa.LargeStringArray
    generation: Int
    code: NDArray[np.int32]
    kinds: tuple[Item, ...]
    problems: Mapping[int, str]

    @staticmethod
    def of(items: Iterable[Item]) -> ItemTable:
        """Put items into columns."""
        if isinstance(items, ItemTable):
            return items
        rows = list(items)
        groups = _Groups()
        return ItemTable.build(
            [i.name for i in rows],
            [i.path for i in rows],
            [i.size for i in rows],
            [i.mtime_ns for i in rows],
            [groups.of(i) for i in rows],
            groups.kinds,
            indices=[i.index for i in rows],
            header=[i.header for i in rows],
            generation=[i.generation for i in rows],
            problems={place: i.problem for place, i in enumerate(rows) if i.problem},
        )

    @staticmethod
    def build(
        name: Any,
        path: Any,
        size: Any,
        mtime_ns: Any,
        code: Any,
        kinds: Sequence[Item],
        *,
        indices: Any,
        header: Any = None,
        generation: Any = None,
        problems: Mapping[int, str] | None = None,
    ) -> ItemTable:
        """Put columns together; ``header`` and ``generation`` may be left out."""
        count = len(indices)
        return ItemTable(
            np.asarray(indices, np.int64),
            _text(name),
            _text(path),
            np.asarray(size, np.int64),
            np.asarray(mtime_ns, np.int64),
            _text(pa.repeat("", count) if header is None else header),
            np.zeros(count, np.int64) if generation is None else np.asarray(generation, np.int64),
            np.asarray(code, np.int32),
            tuple(kinds),
            dict(problems or {}),
        )

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> ItemTable: ...
    def __getitem__(self, place: int | slice) -> Item | ItemTable:
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} items")
        place %= len(self)
        return next(self._some(slice(place, place + 1)))

    def _some(self, places: slice) -> Iterator[Item]:
        """Make the items of some places."""
        kinds, problems = self.kinds, self.problems
        texts = (column[places].to_pylist() for column in (self.name, self.path, self.header))
        numbers = (c[places].tolist() for c in (self.indices, self.size, self.mtime_ns, self.generation))
        codes = self.code[places].tolist()
        columns = zip(*texts, *numbers, codes, strict=True)
        for place, (name, path, header, index, size, time, generation, code) in enumerate(
            columns, places.start
        ):
            k = kinds[code]
            yield Item(
                index, name, path, size, time, header, k.shape, k.dtype, k.edge, k.regions, k.nbytes,
                k.nbytes_out, k.seconds, k.memory, generation, problems.get(place, ""),
            )  # fmt: skip

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), _ROWS):
            yield from self._some(slice(start, start + _ROWS))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def take(self, places: Int) -> ItemTable:
        """Some of the items, in their order."""
        names = ("indices", "name", "path", "size", "mtime_ns", "header", "generation", "code")
        columns = {name: getattr(self, name).take(places) for name in names}
        problems = {}
        if self.problems:
            problems = {n: p for n, place in enumerate(places.tolist()) if (p := self.problems.get(place))}
        return replace(self, problems=problems, **columns)

    def where(self, wanted: NDArray[np.bool_]) -> ItemTable:
        """The items that are wanted."""
        return self if wanted.all() else self.take(np.flatnonzero(wanted))

    @property
    def usable(self) -> ItemTable:
        """The items without a problem."""
        return self.where(self.sound)

    @property
    def unusable(self) -> set[int]:
        """Indices of the items with a problem."""
        return set(self.indices[list(self.problems)].tolist())

    @property
    def sound(self) -> NDArray[np.bool_]:
        """Whether each item has no problem, (n,)."""
        sound = np.ones(len(self), np.bool_)
        sound[list(self.problems)] = False
        return sound

    def counts(self, wanted: NDArray[np.bool_] | None = None) -> list[tuple[Item, int]]:
        """What items have in common, and how many of those that are wanted are of each kind."""
        codes = self.code if wanted is None else self.code[wanted]
        found = np.bincount(codes, minlength=len(self.kinds)).tolist()
        return [(kind, n) for kind, n in zip(self.kinds, found, strict=True) if n]

    def place(self, index: int) -> int | None:
        """Where the item of an index is; None if it is none of these."""
        place = int(np.searchsorted(self.indices, index))
        return place if place < len(self) and self.indices[place] == index else None

    @property
    def by_index(self) -> Mapping[int, Item]:
        """Items by their index."""
        return _ByIndex(self)

    def changed(self, change: Callable[[Item], Item]) -> ItemTable:
        """Items that have something else in common: ``change`` is told what it was, with the suffix."""
        return replace(self, kinds=tuple(change(kind) for kind in self.kinds))


class _ByIndex(Mapping[int, Item]):
    """Items of a table by their index."""

    def __init__(self, table: ItemTable) -> None:
        self._table = table

    def __getitem__(self, index: int) -> Item:
        place = self._table.place(index)
        if place is None:
            raise KeyError(index)
        return self._table[place]

    def __iter__(self) -> Iterator[int]:
        return iter(self._table.indices.tolist())

    def __len__(self) -> int:
        return len(self._table)


def _text(values: Any) -> pa.LargeStringArray:
    """A column of text in one piece."""
    if isinstance(values, pa.ChunkedArray):
        values = values.cast(pa.large_string()).combine_chunks()
    if isinstance(values, pa.Array):
        return values.cast(pa.large_string())
    return pa.array(values, pa.large_string())


class _Groups:
    """Numbers what items have in common."""

    def __init__(self) -> None:
        self.kinds: list[Item] = []
        self._codes: dict[Any, int] = {}

    def of(self, item: Item) -> int:
        """Number of the kind of an item."""
        common = tuple(getattr(item, name) for name in _COMMON)
        return self.number(suffix_of(item.path), common)

    def number(self, suffix: str, common: tuple[Any, ...]) -> int:
        """Number of a suffix and the values of the columns that items share."""
        key = suffix, common
        if key not in self._codes:
            self._codes[key] = len(self.kinds)
            path = f"x{suffix}" if suffix else ""
            self.kinds.append(Item(0, "", path, **dict(zip(_COMMON, common, strict=True))))
        return self._codes[key]

    def of_columns(self, rows: pa.RecordBatch) -> Int:
        """Numbers of many items: those that follow one another are most often equal."""
        codes, known = suffixes(_text(rows["path"]))
        words = rows["dtype"].dictionary_encode()
        whole = [codes, words.indices.to_numpy(), rows["seconds"].to_numpy().view(np.int64)]
        whole += [rows[name].to_numpy() for name in ("edge", "nbytes", "nbytes_out", "memory")]
        whole += [column for name in ("shape", "regions") for column in _padded(rows[name])]
        table = np.stack(whole, axis=1)
        new = np.r_[True, (table[1:] != table[:-1]).any(axis=1)]
        heads = np.flatnonzero(new)
        seen: dict[bytes, int] = {}
        numbers = np.empty(len(heads), np.int64)
        for place, head in enumerate(heads.tolist()):
            key = table[head].tobytes()
            if key not in seen:
                row = {name: rows[name][head].as_py() for name in _COMMON}
                common = tuple(tuple(v) if isinstance(v, list) else v for v in row.values())
                seen[key] = self.number(known[codes[head]], common)
            numbers[place] = seen[key]
        found: Int = numbers[np.cumsum(new) - 1]
        return found


def _padded(lists: pa.ListArray) -> list[Int]:
    """Columns of a table of lists; -1 where one is shorter."""
    lengths = pc.list_value_length(lists).to_numpy()
    table = np.full((len(lists), int(lengths.max(initial=0))), -1, np.int64)
    table[np.arange(table.shape[1]) < lengths[:, None]] = lists.flatten().to_numpy()
    return list(table.T)


def write_items(path: Path, items: Iterable[Item]) -> None:
    """Write the table, whole or not at all, and wait until it is on the disk."""
    table = ItemTable.of(items)
    common = {name: pa.array([getattr(k, name) for k in table.kinds], kind) for name, kind in _COMMON.items()}
    problems = [table.problems.get(place, "") for place in range(len(table))] if table.problems else None
    content = pa.BufferOutputStream()
    with pq.ParquetWriter(content, _SCHEMA, compression="zstd") as writer:
        for start in range(0, len(table), _ROWS) or [0]:
            rows = slice(start, start + _ROWS)
            codes = pa.array(table.code[rows])
            own = {
                name: getattr(table, name)[rows].cast(pa.string()) for name in ("name", "path", "header")
            } | {name: pa.array(getattr(table, name)[rows]) for name in ("size", "mtime_ns", "generation")}
            own["index"] = pa.array(table.indices[rows])
            own["problem"] = pa.array(problems[rows]) if problems else pa.repeat("", len(codes))
            own |= {name: column.take(codes) for name, column in common.items()}
            writer.write_batch(pa.record_batch([own[name] for name in _SCHEMA.names], schema=_SCHEMA))
    write_durably(path, content.getvalue().to_pybytes())


def read_items(path: Path) -> ItemTable:
    """Read the table.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    groups = _Groups()
    codes: list[Int] = [np.zeros(0, np.int64)]
    problems: dict[int, str] = {}
    kept = []
    names = [name for name in _SCHEMA.names if name not in _COMMON]
    count = 0
    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.names != _SCHEMA.names:
                raise pa.ArrowInvalid("its columns are others")
            for batch in file.iter_batches(_ROWS):
                rows = batch.cast(_SCHEMA)
                codes.append(groups.of_columns(rows))
                bad = np.flatnonzero(pc.not_equal(rows["problem"], "").to_numpy(zero_copy_only=False))
                problems |= {count + n: rows["problem"][n].as_py() for n in bad.tolist()}
                kept.append(rows.select(names))
                count += len(rows)
        table = pa.Table.from_batches(kept, pa.schema([_SCHEMA.field(name) for name in names]))
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            f"{path} cannot be read ({error}): restore it from a copy or plan the run anew"
        ) from None
    numbers = {name: table[name].to_numpy() for name in ("size", "mtime_ns", "generation")}
    numbers["indices"] = table["index"].to_numpy()
    texts = {name: table[name] for name in ("name", "path", "header")}
    code = np.concatenate(codes)
    return ItemTable.build(code=code, kinds=groups.kinds, problems=problems, **numbers, **texts)
