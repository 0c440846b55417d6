"""Embedding stores written object by object, in the memory of a few blocks."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import zarr
from numpy.typing import NDArray

from ...atomic import check_free, discard, publish, temporary_name
from ...errors import FmbdaskError, InputError, LockedError
from ...regions import BLOCK
from .columns import as_column, as_ids, check_positions, refuse_repeated
from .layout import (
    KIND,
    LAYOUT,
    Modality,
    bytes_of,
    check_names,
    check_space,
    chunk_rows,
    shard_rows,
)
from .opening import Store, read_store
from .table import Table


class EmbeddingWriter:
    """Writes a store, or appends to one; objects get there when the ``with`` block ends without an error.

    A new store is written under a temporary name. What is appended is counted in only at the end, by one
    attribute: an append that dies leaves the store as it was. One process writes at a time.

    Parameters
    ----------
    path : path
        The store.
    modalities : sequence of Modality
        What it will hold; for an append those of the store, which is the default.
    objects : int, optional
        Number of objects that will be written, if known: then a disk too short is refused before the first
        byte, and a store of very many chunks is written in shards.
    append : bool
        Whether to go on after the last object of a store that is there.
    overwrite : bool
        Whether a store that is there is replaced.
    attrs : mapping, optional
        More attributes of the group.

    Raises
    ------
    InputError
        If a name cannot be used, the disk is too short, or, at the end, an id stands twice.
    OutputExistsError
        If the path exists and is neither to be appended to nor overwritten.
    LockedError
        If another process appends to the store.

    Examples
    --------
    >>> with EmbeddingWriter("new.zarr", [Modality("image", 768, model="aion")]) as writer:
    ...     valid = writer.write([17, 18], {"image": np.ones((2, 768), np.float32)})
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        modalities: Sequence[Modality] | None = None,
        *,
        objects: int | None = None,
        append: bool = False,
        overwrite: bool = False,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.append = append
        self._attrs = dict(attrs or {})
        self._old: Store | None = None
        if append:
            if overwrite:
                raise InputError(f"{path} cannot be appended to and overwritten at once: choose one")
            self._old = read_store(path)
            modalities = self._old.modalities
        else:
            check_free(self.path, overwrite)
        self.modalities = tuple(modalities or ())
        if not self.modalities:
            raise InputError(f"{path} would hold no modality: name at least one")
        check_names(self.modalities)
        widths = [m.features for m in self.modalities]
        if self._old is None:
            self.shard = shard_rows(widths, objects or 0)
            self.first, needed = 0, bytes_of(widths, objects or 0, self.shard)
        else:
            shards = self._old.arrays[self.modalities[0].name].shards
            self.shard = None if shards is None else shards[0]
            self.first = self._old.objects
            total = bytes_of(widths, self.first + (objects or 0), self.shard)
            needed = total - bytes_of(widths, self.first, self.shard)
        check_space(self.path, needed)
        self.objects = self.first
        self.modified: Path = self.path if append else temporary_name(self.path)
        self._span = self.shard or BLOCK
        self._buffers: dict[str, NDArray[np.float32]] = {}
        self._filled = 0
        self._table = Table(str(self.path))
        self._arrays: dict[str, Any] = {}
        self._lock: int | None = None

    def __enter__(self) -> Self:
        if self._old is not None:
            self._lock = _locked(self.path)
            self._old = read_store(self.path, "r+")
            if self._old.objects != self.first:
                self._release()
                raise LockedError(f"{self.path} grew while it was opened: append again")
            self._group = self._old.group
            for array in self._old.arrays.values():
                if array.shape[0] != self.first:  # left by an append that did not end
                    array.resize((self.first, *array.shape[1:]))
            self._arrays = {
                m.name: self._group[m.name].with_config({"write_empty_chunks": True})  # type: ignore[union-attr]
                for m in self.modalities
            }
            return self
        with _disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._group = zarr.create_group(str(self.modified), zarr_format=3)
            for m in self.modalities:
                self._arrays[m.name] = self._group.create_array(
                    m.name,
                    shape=(0, m.features),
                    dtype="float32",
                    chunks=(chunk_rows(m.features), m.features),
                    shards=None if self.shard is None else (self.shard, m.features),
                    compressors=None,
                    fill_value=np.nan,
                    dimension_names=m.dims,
                    attributes=dict(m.attrs),
                    config={"write_empty_chunks": True},
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with _disk_errors(self.path):
                    self._finish()
            elif self._old is not None:
                self._forget()
        except BaseException:
            if self._old is not None and kind is None:
                self._forget()
            raise
        finally:
            self._release()
            if self._old is None:
                discard(self.modified)

    def write(
        self,
        object_id: Any,
        vectors: Mapping[str, NDArray[Any]],
        columns: Mapping[str, Any] | None = None,
        present: Mapping[str, NDArray[np.bool_]] | None = None,
    ) -> dict[str, NDArray[np.bool_]]:
        """Add some objects after those that are there.

        Parameters
        ----------
        object_id : (n,) array or sequence
            Ids: integers or text.
        vectors : mapping of (n, features) arrays
            Vectors of each modality; one that is left out is missing for all these objects.
        columns : mapping of (n,) arrays, optional
            ``ra``, ``dec`` [deg] and other columns; unknown where left out.
        present : mapping of (n,) bool arrays, optional
            Which objects have a vector; the others are stored as NaN.

        Returns
        -------
        mapping of (n,) bool arrays
            Which vectors are valid: there, finite, and, unless their numbers have names, not all zero.

        Raises
        ------
        InputError
            If shapes, types or names do not fit.
        """
        where = str(self.path)
        ids = as_ids(object_id, where)
        n = len(ids)
        unknown = set(vectors) - {m.name for m in self.modalities}
        if unknown:
            raise InputError(f"{where} has no modality {min(unknown)}: name it when the store is made")
        blocks: dict[str, NDArray[np.float32] | None] = {}
        valid: dict[str, NDArray[np.bool_]] = {}
        for m in self.modalities:
            block = vectors.get(m.name)
            if block is None:
                blocks[m.name], valid[m.name] = None, np.zeros(n, bool)
                continue
            if block.shape != (n, m.features):
                raise InputError(
                    f"{where}: {m.name} has vectors of shape {block.shape} for {n} objects, "
                    f"not {(n, m.features)}: give one vector of {m.features} numbers for each"
                )
            floats = np.ascontiguousarray(block, np.float32)
            there = None if present is None else present.get(m.name)
            if there is not None and not there.all():
                floats = np.where(there[:, None], floats, np.float32(np.nan))
            blocks[m.name], valid[m.name] = floats, usable(floats, m.measured)
        table = {name: as_column(v, name, where) for name, v in (columns or {}).items()}
        check_names(self.modalities, table)
        check_positions(table, ids, where)
        for name, values in {"object_id": ids, **table}.items():
            if len(values) != n:
                raise InputError(f"{where}: {name} has {len(values)} values for {n} objects: give one each")
            self._table.add(name, self.objects, values)
        for name, flags in valid.items():
            self._table.add(f"valid_{name}", self.objects, flags)
        with _disk_errors(self.path):
            self._put(blocks, n)
        return valid

    def _put(self, blocks: Mapping[str, NDArray[np.float32] | None], n: int) -> None:
        """Gather rows into whole spans of chunks or shards and write those."""
        done = 0
        while done < n:
            start = self.objects - self._filled
            room = self._span - start % self._span - self._filled
            some = min(room, n - done)
            part = {k: None if v is None else v[done : done + some] for k, v in blocks.items()}
            if not self._filled and some == room and all(v is not None for v in part.values()):
                self.objects += some
                self._write_span(start, {k: v for k, v in part.items() if v is not None})
            else:
                for m in self.modalities:
                    if m.name not in self._buffers:
                        self._buffers[m.name] = np.empty((self._span, m.features), np.float32)
                    piece = part[m.name]
                    target = self._buffers[m.name][self._filled : self._filled + some]
                    target[...] = np.nan if piece is None else piece
                self._filled += some
                self.objects += some
                if some == room:
                    self._flush()
            done += some

    def _flush(self) -> None:
        if self._filled:
            start = self.objects - self._filled
            self._write_span(start, {k: v[: self._filled] for k, v in self._buffers.items()})
            self._filled = 0

    def _write_span(self, start: int, parts: Mapping[str, NDArray[np.float32]]) -> None:
        for name, part in parts.items():
            array = self._arrays[name]
            stop = start + len(part)
            if array.shape[0] < stop:
                array.resize((stop, array.shape[1]))
            array[start:stop] = part

    def _finish(self) -> None:
        """Write the last span and the columns, then count the objects in."""
        self._flush()
        added = self.objects - self.first
        if added:
            ids = self._table.whole("object_id", self.first, self.objects)
            refuse_repeated(ids, str(self.path), None if self._old is None else self._old.column("object_id"))
        if self._old is None:
            self._table.write(self._group, [m.name for m in self.modalities], self.objects)
            self._group.attrs.update(
                {
                    **self._attrs,
                    "kind": KIND,
                    "layout": LAYOUT,
                    "fmbdask": version("fmbdask"),
                    "modalities": [m.name for m in self.modalities],
                    "objects": self.objects,
                }
            )
            publish(self.modified, self.path)
        else:
            self._table.append(self._old, self.objects)
            self._group.attrs.update({**self._attrs, "objects": self.objects})

    def _forget(self) -> None:
        """Take back what an append wrote; a store that is read meanwhile counts its objects by itself."""
        if self._old is not None:
            with suppress(Exception):
                for name in self._old.arrays:
                    array: Any = self._group[name]
                    array.resize((self.first, *array.shape[1:]))

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def usable(vectors: NDArray[np.float32], zeros: bool = False) -> NDArray[np.bool_]:
    """Tell which vectors are finite and not all zero.

    Parameters
    ----------
    vectors : (n, features) array
    zeros : bool
        Whether vectors of zeros are as good as others.

    Returns
    -------
    (n,) bool array
    """
    with np.errstate(invalid="ignore", over="ignore"):
        sums = vectors.sum(axis=1)
    valid: NDArray[np.bool_] = np.isfinite(sums) & (sums != 0)
    # a finite sum means finite numbers; the others are looked at one by one
    doubtful = np.flatnonzero(~valid)
    if len(doubtful):
        rows = vectors[doubtful]
        valid[doubtful] = np.isfinite(rows).all(axis=1) & (zeros | rows.any(axis=1))
    return valid


def _locked(path: Path) -> int:
    """Lock a store for this process, until it ends at the latest."""
    handle = os.open(path, os.O_RDONLY)  # the folder: files in it are replaced
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(handle)
            raise LockedError(f"{path} is being appended to by another process: wait for it") from None
    return handle


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Say in one sentence that a disk was full, a quota reached or a folder not to be written to."""
    try:
        yield
    except OSError as error:
        if isinstance(error, FmbdaskError):
            raise
        raise InputError(
            f"{path} cannot be written ({error.strerror or error}): make room there or choose another folder"
        ) from error
