"""Inputs of a run: found by patterns, lists and manifests, identified, and named."""

from __future__ import annotations

import glob
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from ...errors import InputError
from ...store.catalog import result_names
from ...store.readers.files import stem_of
from ...store.run.items import Item, ItemTable
from ...store.run.suffixes import suffixes
from ..pipelines.protocol import Pipeline
from .manifests import Found, FoundTable, read_manifest

Report = Callable[[int, int, str], None]
#: Suffixes of manifests, which list inputs in a column ``path``.
MANIFESTS = (".csv", ".parquet")
#: Bytes from the start of a file whose checksum stands for its header.
HEADER_BYTES = 16 * 1024
#: Metadata of a Zarr store, which stand for it.
METADATA = ("zarr.json", ".zarray", ".zgroup")
#: Threads that read headers: file systems of clusters answer slowly but many at once.
THREADS = 8
#: Inputs that are described between two reports.
BATCH = 64


@dataclass(frozen=True)
class Identity:
    """What identifies an input: bytes, time of the last change, checksum of its header, and its inode."""

    size: int = 0
    mtime_ns: int = 0
    header: str = ""
    node: tuple[int, int] | None = None


def find(inputs: Sequence[str]) -> tuple[Sequence[Found], list[str]]:
    """Find the inputs that a configuration names.

    Parameters
    ----------
    inputs : sequence of str
        Paths, patterns with ``*``, ``?`` or ``**``, and manifests: CSV or Parquet files with a column
        ``path`` (relative paths begin in the working folder) and, where they are known, ``shape`` (such as
        ``1x450x2048x2048``), ``dtype``, ``size`` [byte] and ``mtime_ns``.

    Returns
    -------
    sequence of Found, list of str
        In the order of the inputs, those of a pattern by name; and the patterns that match nothing.

    Raises
    ------
    InputError
        If a manifest cannot be read.
    """
    if len(inputs) == 1 and _is_manifest(inputs[0]):  # as it is: it may have millions of rows
        return read_manifest(inputs[0]), []
    found: list[Found] = []
    empty = []
    for name in inputs:
        if _is_manifest(name):
            found += read_manifest(name)
        elif glob.has_magic(name) and not os.path.lexists(name):
            matches = sorted(glob.glob(name, recursive=True))
            found += map(Found, matches)
            empty += [] if matches else [name]
        else:
            found.append(Found(os.path.abspath(name)))
    return found, empty


def _is_manifest(name: str) -> bool:
    return name.lower().endswith(MANIFESTS) and not glob.has_magic(name)


def identify(path: str, *, header: bool = True) -> Identity:
    """Look up what identifies an input; a FIFO, socket or device is never opened.

    Raises
    ------
    InputError
        If there is no such file, or it is no file and no folder.
    """
    try:
        status = os.stat(path)
        node = status.st_dev, status.st_ino
        inner = path
        if stat.S_ISDIR(status.st_mode):
            names = [os.path.join(path, name) for name in METADATA]
            inner = next((name for name in names if os.path.isfile(name)), "")
            status = os.stat(inner) if inner else status
        elif not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} is {_kind(status.st_mode)}, not a file: give an exposure")
        digest = ""
        if header and inner:
            with open(inner, "rb", buffering=0) as file:
                digest = xxhash.xxh3_64_hexdigest(file.read(HEADER_BYTES))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions") from None
    return Identity(status.st_size, status.st_mtime_ns, digest, node)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def stacked(paths: Sequence[str]) -> str:
    """The path of an item that is made of several inputs."""
    return json.dumps(list(paths))


def members(path: str) -> list[str]:
    """The inputs of an item: several where :func:`stacked` put them together."""
    if not path.startswith("["):
        return [path]
    paths: list[str] = json.loads(path)
    return paths


def make_items(
    pipeline: Pipeline,
    found: Sequence[Found],
    *,
    first: int = 0,
    taken: Iterable[str] = (),
    progress: Report | None = None,
) -> ItemTable:
    """Describe, identify and name inputs.

    Parameters
    ----------
    pipeline : Pipeline
    found : sequence of Found
        Those with a shape and a type are not opened.
    first : int
        Number of the first item.
    taken : iterable of str
        Names of the items that the run has already.
    progress : callable, optional
        Called with (done, total, text).

    Returns
    -------
    ItemTable
        An input that cannot be used becomes one with a ``problem``.
    """
    if len(found) and not getattr(pipeline, "together", False):
        told = found if isinstance(found, FoundTable) else FoundTable.of(found)
        if told.told:
            return _told_items(pipeline, told, first, set(taken))
    items = _described_items(pipeline, found, first, progress)
    names = name_items([(item.path, item.name) for item in items], set(taken))
    return ItemTable.of([replace(item, name=name) for item, name in zip(items, names, strict=True)])


def _told_items(pipeline: Pipeline, found: FoundTable, first: int, taken: set[str]) -> ItemTable:
    """Items of inputs whose shapes a manifest gives: nothing is opened, each kind is worked out once."""
    codes, known = suffixes(found.path)
    pairs, code = np.unique(found.code * len(known) + codes, return_inverse=True)
    kinds = []
    for pair in pairs.tolist():
        (shape, dtype), suffix = found.kinds[pair // len(known)], known[pair % len(known)]
        model = pipeline.shaped(Item(0, "", ""), shape, dtype)
        kinds.append(replace(model, path=f"x{suffix}" if suffix else ""))
    size, time, problems = found.size, found.mtime_ns, {}
    unknown = np.flatnonzero(size < 0)
    if unknown.size:
        size, time = size.copy(), time.copy()
        for place in unknown.tolist():
            try:
                own = identify(found.path[place].as_py(), header=False)
                size[place], time[place] = own.size, own.mtime_ns
            except InputError as error:
                size[place], problems[place] = 0, str(error)
    return ItemTable.build(
        _names_of(found.path, taken), found.path, size, time, code, kinds,
        indices=np.arange(first, first + len(found)), problems=problems,
    )  # fmt: skip


def _names_of(paths: pa.LargeStringArray, taken: set[str]) -> pa.LargeStringArray | list[str]:
    """Names of many inputs: their stems, where these are different and nothing is special about them."""
    stems = pc.replace_substring_regex(paths, r"^.*/", "")
    plain = pc.all(pc.match_substring_regex(stems, r"^[^.].*\.[^.]+$")).as_py()
    if plain and not taken and not pc.any(pc.match_substring_regex(stems, r"\.([gf]z|\.)$")).as_py():
        stems = pc.replace_substring_regex(stems, r"\.[^.]+$", "")
        if pc.count_distinct(stems).as_py() == len(stems):
            return stems
    return name_items([(path, "") for path in paths.to_pylist()], taken)


def _described_items(
    pipeline: Pipeline, found: Sequence[Found], first: int, progress: Report | None
) -> list[Item]:
    """Items of inputs whose headers are read."""
    paths = [f.path for f in found]
    if getattr(pipeline, "together", False):
        return [_identified(item) for item in pipeline.items(paths, first)]

    def batch(start: int) -> list[Item]:
        described = pipeline.items(paths[start : start + BATCH], first + start)
        return [_identified(item) for item in described]

    items: list[Item] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for part in pool.map(batch, range(0, len(paths), BATCH)):
            items += part
            if progress is not None:
                progress(len(items), len(paths), "headers")
    return items


def make_items_again(pipeline: Pipeline, items: Sequence[Item]) -> list[Item]:
    """Describe the inputs of items as they are now; numbers and names stay."""
    again = []
    for item in items:
        described = pipeline.items(members(item.path), item.index)
        new = next((d for d in described if d.path == item.path), None)
        if new is None:  # a stack that lost an exposure
            new = replace(
                item, problem=f"the exposures of {item.name} are not those of before: begin a new run"
            )
        again.append(_identified(replace(new, index=item.index, name=item.name)))
    return again


def identity_of(path: str, *, header: bool = True) -> Identity:
    """What identifies the input of an item, or all of a stack together.

    Raises
    ------
    InputError
        If one does not exist, or is no file and no folder.
    """
    known = [identify(one, header=header) for one in members(path)]
    if len(known) == 1 and not path.startswith("["):
        return known[0]
    text = "".join(f"{k.size} {k.mtime_ns} {k.header};" for k in known)
    return Identity(
        sum(k.size for k in known), max(k.mtime_ns for k in known), xxhash.xxh3_64_hexdigest(text.encode())
    )


def _identified(item: Item) -> Item:
    try:
        known = identity_of(item.path)
    except InputError as error:
        return item if item.problem else replace(item, problem=str(error))
    return replace(item, size=known.size, mtime_ns=known.mtime_ns, header=known.header)


def name_items(inputs: Sequence[tuple[str, str]], taken: set[str]) -> list[str]:
    """Name the folders of products as ``ramps detect`` does, all different, also from those of the run.

    Parameters
    ----------
    inputs : sequence of (str, str)
        Path of each, and the name that it has already or nothing.
    taken : set of str
        Names of the items of the run.
    """
    paths = [path for path, own in inputs if not own]
    stems = [_stem(path) for path in paths]
    if len(set(stems)) != len(stems):
        unique = list(dict.fromkeys(paths))
        by_path = dict(zip(unique, result_names(unique), strict=True))
        stems = [by_path[path] for path in paths]
    rest = iter(stems)
    used = set(taken)
    chosen = []
    for path, own in inputs:
        base = free = own or next(rest)
        number = 1
        while free in used:
            digest = xxhash.xxh3_64_hexdigest(os.fsencode(path))[:8]
            free = f"{base}-{digest}" if number == 1 else f"{base}-{digest}-{number}"
            number += 1
        used.add(free)
        chosen.append(free)
    return chosen


def _stem(path: str) -> str:
    """As :func:`~fmbdask.store.readers.files.stem_of`, quick where nothing is special."""
    name = path[path.rfind("/") + 1 :]
    base, dot, suffix = name.rpartition(".")
    return base if dot and base and suffix not in ("", "gz", "fz") else stem_of(path)


def duplicates(items: Sequence[Item], earlier: Sequence[Item] = ()) -> list[tuple[str, str]]:
    """Pairs of paths that are the same input: by name, or by two names or links of one file."""
    both = ItemTable.of([*earlier, *items]) if len(earlier) else ItemTable.of(items)
    alike = _alike(both)
    if not alike.any():
        return []
    older, newer = (
        both.where(alike & (np.arange(len(both)) < len(earlier))),
        both.where(alike & (np.arange(len(both)) >= len(earlier))),
    )
    seen_paths = {path: path for item in older for path in members(item.path)}
    seen_nodes: dict[tuple[int, int], str] = {}
    # the same file has the same size and time: only such need a second look
    looks: dict[tuple[int, int], int] = {}
    for item in (*older, *newer):
        looks[item.size, item.mtime_ns] = looks.get((item.size, item.mtime_ns), 0) + 1
    for item in older:
        if looks[item.size, item.mtime_ns] > 1 and not item.problem:
            for path, node in _nodes(item.path):
                seen_nodes.setdefault(node, path)
    pairs = []
    for item in newer:
        again = False
        for path in members(item.path):
            if path in seen_paths:
                pairs.append((seen_paths[path], path))
                again = True
            seen_paths[path] = path
        single = not item.path.startswith("[")
        if again or item.problem or (single and looks[item.size, item.mtime_ns] == 1):
            continue
        for path, node in _nodes(item.path):
            if node in seen_nodes:
                pairs.append((seen_nodes[node], path))
            seen_nodes.setdefault(node, path)
    return pairs


def _alike(items: ItemTable) -> NDArray[np.bool_]:
    """Items that may be one input twice: of the same path, of the same size and time, or stacks."""
    found = pc.starts_with(items.path, "[").to_numpy(zero_copy_only=False)
    order = np.lexsort((items.mtime_ns, items.size))
    size, time = items.size[order], items.mtime_ns[order]
    same = (size[1:] == size[:-1]) & (time[1:] == time[:-1])
    found[order[1:]] |= same
    found[order[:-1]] |= same
    if pc.count_distinct(items.path).as_py() < len(items):
        coded = items.path.dictionary_encode().indices.to_numpy()
        found |= np.bincount(coded)[coded] > 1
    alike: NDArray[np.bool_] = found
    return alike


def _nodes(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
    for one in members(path):
        try:
            status = os.stat(one)
        except OSError:
            continue
        yield one, (status.st_dev, status.st_ino)
