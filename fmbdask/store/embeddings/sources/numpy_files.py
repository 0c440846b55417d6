"""`.npy` and `.npz` files: two-dimensional arrays are vectors, one-dimensional ones columns.

An `.npz` with ``X`` (object, feature) and ``y`` (object,) is a table with labels.

Both are read as streams, compressed or not, in the memory of a block.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ...readers.files import reason
from ..columns import Column
from ..layout import readable
from .protocol import Block, Found, choose, split_columns
from .tables import FEATURES, LABEL_NAMES, with_label

#: What an archive of a labelled table calls its features; the labels are ``y``.
TABLE = "X"
#: What it may call their names.
NAMES = ("feature_names", "columns", "names")


@dataclass(frozen=True)
class _Member:
    """An array in a file: how it is opened, its shape and type, and whether columns come first."""

    label: str
    opened: Callable[[], IO[bytes]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool


def _flat(member: _Member) -> _Member:
    """Labels that lie in a column, as one axis."""
    is_column = len(member.shape) == 2 and member.shape[1] == 1
    return replace(member, shape=member.shape[:1], fortran=False) if is_column else member


def _names(single: dict[str, NDArray[Any]], features: int, objects: int) -> tuple[str, ...]:
    """Names of the features of a table, taken out of the other arrays; x0, x1, ... where it has none."""
    for name in NAMES:
        found = single.get(name)
        if found is not None and len(found) == features and found.dtype.kind in "US":
            if features != objects:
                del single[name]
            return tuple(str(v) for v in found.astype("U"))
    return tuple(f"x{i}" for i in range(features))


def _describe(label: str, opened: Callable[[], IO[bytes]]) -> _Member:
    with opened() as stream:
        shape, fortran, dtype = _header(stream)
    if dtype.hasobject:
        raise InputError(f"{label} holds Python objects, which are not read: save numbers and text")
    return _Member(label, opened, tuple(shape), dtype, bool(fortran))


def _header(stream: IO[bytes]) -> tuple[Any, bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"version {version} of the format")
    return readers[version](stream)


class NumpyArrays:
    """The arrays of a `.npy` or `.npz` file.

    Parameters
    ----------
    path : path
        The file.
    wanted : mapping of str, optional
        Key by modality; of a `.npy` file one modality, whose key is not looked at.

    Raises
    ------
    InputError
        If the file is damaged, its arrays have different numbers of objects, or a `.npy` has no name.
    """

    def __init__(self, path: Path, wanted: Mapping[str, str] | None = None) -> None:
        self.path = str(path)
        try:
            members = self._members(path)
        except InputError:
            raise
        except Exception as error:  # damaged archives and headers raise anything
            raise InputError(
                f"{path} cannot be read as NumPy arrays ({reason(error)}): get a fresh copy of it"
            ) from error
        if path.suffix == ".npy":
            if not wanted or len(wanted) != 1:
                raise InputError(f"{path} does not say what its vectors are: name them with --modality NAME")
            wanted = dict.fromkeys(wanted, path.stem)
        members = {n: _flat(m) if n.lower() in LABEL_NAMES else m for n, m in members.items()}
        tables = {name: m for name, m in members.items() if len(m.shape) == 2}
        for name, member in members.items():
            if len(member.shape) > 2 or (name in tables and member.dtype.kind not in "fiu"):
                raise InputError(
                    f"{member.label} has shape {member.shape} and type {member.dtype}: give vectors "
                    "(object, feature) of real numbers"
                )
        chosen = choose(list(tables), wanted, self.path)
        if not wanted and TABLE in tables:
            chosen = {FEATURES if key == TABLE else name: key for name, key in chosen.items()}
        self._chosen = {name: tables[key] for name, key in chosen.items()}
        objects = next(iter(self._chosen.values())).shape[0]
        for member in self._chosen.values():
            if member.shape[0] != objects:
                raise InputError(
                    f"{member.label} has {member.shape[0]} rows, another array {objects}: give one row for "
                    "each object"
                )
        single = {n: self._whole(m) for n, m in members.items() if len(m.shape) == 1}
        names = _names(single, tables[TABLE].shape[1], objects) if TABLE in chosen.values() else ()
        self.ids: Column
        self.ids, self.columns, self.notes = split_columns(single, objects, self.path)
        self.notes += [
            f"{self.path}: {k} was not chosen and was left out" for k in tables if k not in chosen.values()
        ]
        if names:
            self.columns, more = with_label(self.columns, self.path)
            self.notes += more
        self.modalities = [
            Found(n, key, tables[key].shape[1], names if key == TABLE else ()) for n, key in chosen.items()
        ]

    @staticmethod
    def _members(path: Path) -> dict[str, _Member]:
        if path.suffix == ".npy":
            return {path.stem: _describe(str(path), partial(_open_file, path))}
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".npy")]
        return {
            n.removesuffix(".npy"): _describe(
                f"{path}[{n.removesuffix('.npy')}]", partial(_open_member, path, n)
            )
            for n in names
        }

    def _whole(self, member: _Member) -> NDArray[Any]:
        with member.opened() as stream:
            _header(stream)
            return self._rows(stream, member, member.shape[0])

    def blocks(self, size: int) -> Iterator[Block]:
        """Read ``size`` rows of every array at a time."""
        with ExitStack() as stack:
            streams = {}
            whole = {}
            for name, member in self._chosen.items():
                if member.fortran:
                    whole[name] = self._columns_first(member)
                else:
                    streams[name] = stack.enter_context(member.opened())
                    _header(streams[name])
            for start in range(0, len(self.ids), size):
                n = min(size, len(self.ids) - start)
                vectors = {k: self._rows(s, self._chosen[k], n) for k, s in streams.items()}
                vectors |= {k: v[start : start + n] for k, v in whole.items()}
                yield Block({k: np.asarray(v, np.float32) for k, v in vectors.items()})

    def _columns_first(self, member: _Member) -> NDArray[Any]:
        """An array in Fortran order: a memory map reads it by rows, out of an archive it is read whole."""
        if self.path.endswith(".npy"):
            return np.asarray(np.load(self.path, mmap_mode="r"))
        import psutil

        needed = math.prod(member.shape) * member.dtype.itemsize
        free = psutil.virtual_memory().available
        if 2 * needed > free:
            raise InputError(
                f"{member.label} lies in Fortran order, for which {readable(2 * needed)} of memory are "
                f"needed and {readable(free)} are free: save np.ascontiguousarray of it"
            )
        return self._whole(member).reshape(member.shape[::-1]).T

    @staticmethod
    def _rows(stream: IO[bytes], member: _Member, n: int) -> NDArray[Any]:
        """Read the next rows of a stream."""
        width = int(np.prod(member.shape[1:]))
        wanted = n * width * member.dtype.itemsize
        data = bytearray(wanted)
        view = memoryview(data)
        at = 0
        try:
            while at < wanted:
                got = stream.readinto(view[at:])  # type: ignore[attr-defined]
                if not got:
                    raise EOFError("it ends too early")
                at += got
        except Exception as error:  # damaged archives raise anything
            raise InputError(
                f"{member.label} cannot be read ({reason(error)}): get a fresh copy of it"
            ) from error
        return np.frombuffer(data, member.dtype).reshape(n, *member.shape[1:])


def _open_file(path: Path) -> IO[bytes]:
    return open(path, "rb")


def _open_member(path: Path, name: str) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    try:
        # the archive closes its file when the last member is closed
        return archive.open(name)
    finally:
        archive.close()
