"""Embedding stores as detectors want them: rows of a span, opened once a process, never all ids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...anomaly.folds import FOLD_SEED, SAMPLE_SEED, keys_of
from ...anomaly.matching import disagreement as differ
from ...anomaly.objects import PROVENANCE, SEQUENCE, labels_of, usable
from ...anomaly.rows import Rows
from ...errors import InputError
from ...store.embeddings.columns import fixed_width
from ...store.embeddings.opening import Store, read_store

#: Column of windows of series: those of different blocks share no step.
BLOCKS = "block"
#: Objects that are scored at once: their vectors and what is made of them fit into 100 MB.
ROWS = 8192


@dataclass(frozen=True)
class Kept:
    """A modality of a store: what its vectors are.

    Attributes
    ----------
    width : int
        Features of a vector.
    model : str
        What made them; the name of the store where it does not say.
    key : str
        What the vectors were called before they came into the store; the name of the modality if unknown.
    provenance : mapping
        What belongs to a detector about where its vectors came from.
    """

    width: int
    model: str
    key: str
    provenance: Mapping[str, Any]

    @property
    def sequences(self) -> bool:
        """Whether these are sequences."""
        return bool(self.provenance.get(SEQUENCE))


@dataclass(frozen=True)
class Known:
    """Columns of a store that say something of its objects beside their vectors.

    Attributes
    ----------
    group : str, optional
        Objects of one value are in one fold.
    labels : str, optional
        1 for anomalous objects, 0 for ordinary ones.
    """

    group: str | None = None
    labels: str | None = None

    def check(self, store: Store) -> None:
        """Refuse a store that lacks one of them.

        Raises
        ------
        InputError
        """
        for name, purpose in ((self.group, "group by"), (self.labels, "take labels from")):
            if name is not None and name not in store.columns:
                raise InputError(
                    f"{store.path} has no column {name} to {purpose}: it has "
                    f"{', '.join(store.columns) or 'none'}"
                )

    def note(self, store: Store, chosen: Mapping[str, Kept]) -> list[str]:
        """What a user should know of what is learnt from."""
        if self.group is None and BLOCKS in store.columns and any(k.sequences for k in chosen.values()):
            return [
                f"windows of {store.path} that share steps may be learnt from and scored at once: give "
                f"--group {BLOCKS} to keep them apart"
            ]
        return []


def opened(path: str | os.PathLike[str]) -> Store:
    """Open a store; once a process for one state of it.

    Raises
    ------
    InputError
        If it is no embedding store.
    """
    text = os.path.abspath(path)
    try:
        stamp = os.stat(os.path.join(text, "zarr.json"))
    except OSError:
        return read_store(text)  # which says what is wrong
    return _opened(text, stamp.st_mtime_ns, stamp.st_ino)


@lru_cache(maxsize=32)
def _opened(path: str, *_: int) -> Store:
    return read_store(path)


def described(store: Store) -> dict[str, Kept]:
    """The modalities of a store."""
    return {
        m.name: Kept(
            m.features,
            m.model or Path(store.path).name.partition(".")[0],
            m.embedding_key or m.name,
            {key: plain(getattr(m, key)) for key in PROVENANCE if getattr(m, key)},
        )
        for m in store.modalities
    }


def plain(value: Any) -> Any:
    """A value as JSON has it: lists for tuples."""
    return list(value) if isinstance(value, tuple) else value


def ids_of(store: Store, start: int, stop: int) -> NDArray[Any]:
    """Ids of consecutive objects: int64 or text."""
    return column_of(store, "object_id", start, stop)


def column_of(store: Store, name: str, start: int, stop: int) -> NDArray[Any]:
    """Part of a column.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        values = np.asarray(store.arrays[name][start:stop])
    except Exception as error:  # the library raises whatever its codecs raise
        words = " ".join(str(error).split())
        raise InputError(f"{store.path}: {name} cannot be read ({words}): write the store again") from error
    return fixed_width(values) if values.dtype.kind in "TO" else values


@dataclass(frozen=True)
class Columns:
    """What belongs to consecutive objects beside their vectors.

    Attributes
    ----------
    start : int
        The first object.
    known : mapping
        Modality -> (n,): whether the store says that there is a vector.
    keys, groups : (n,) uint64
    labels : (n,) int8, optional
        As :class:`~fmbdask.anomaly.rows.Rows` has them.
    """

    start: int
    known: Mapping[str, NDArray[np.bool_]]
    keys: NDArray[np.uint64]
    groups: NDArray[np.uint64]
    labels: NDArray[np.int8] | None = None

    def rows(
        self, vectors: Mapping[str, NDArray[np.float32]], which: slice | NDArray[np.int64], start: int
    ) -> Rows:
        """Some of these objects, with their vectors."""
        valid = {m: usable(v, self.known[m][which]) for m, v in vectors.items()}
        labels = None if self.labels is None else self.labels[which]
        return Rows(start, vectors, valid, self.keys[which], self.groups[which], labels)


def columns_of(store: Store, start: int, stop: int, modalities: Sequence[str], known: Known) -> Columns:
    """Read what belongs to consecutive objects, for the pieces that their vectors are read in.

    Raises
    ------
    InputError
        If a column is missing or cannot be read.
    """
    known.check(store)
    ids = ids_of(store, start, stop)
    groups = ids if known.group is None else column_of(store, known.group, start, stop)
    labels = None
    if known.labels is not None:
        try:
            labels = labels_of(column_of(store, known.labels, start, stop), stop - start)
        except InputError as error:
            raise InputError(f"{known.labels} of {store.path}: {error}") from None
    flags = {m: column_of(store, f"valid_{m}", start, stop) for m in modalities}
    return Columns(start, flags, keys_of(ids, SAMPLE_SEED), keys_of(groups, FOLD_SEED), labels)


def rows_of(store: Store, columns: Columns, start: int, stop: int) -> Rows:
    """Read consecutive objects, for which the columns are there.

    Raises
    ------
    InputError
        If they cannot be read.
    """
    vectors = {m: np.ascontiguousarray(store.vectors(m).read(start, stop)) for m in columns.known}
    return columns.rows(vectors, slice(start - columns.start, stop - columns.start), start)


def rows_at(
    store: Store, start: int, stop: int, below: np.uint64, modalities: Sequence[str], known: Known
) -> tuple[Rows, dict[str, int]]:
    """Read those of consecutive objects the hash of whose id is small enough, and nothing of the others.

    Returns
    -------
    Rows
    dict
        Modality -> objects among all of them that have no vector, as the store says.
    """
    columns = columns_of(store, start, stop, modalities, known)
    places = np.flatnonzero(columns.keys <= below)
    vectors = {m: store.vectors(m).take(start + places) for m in modalities}
    rows = columns.rows(vectors, places, start)
    return rows, {m: int(len(flag) - flag.sum()) for m, flag in columns.known.items()}


def disagreement(stores: Mapping[str, Mapping[str, Kept]]) -> str:
    """Why stores cannot be learned from together; empty if they can.

    Parameters
    ----------
    stores : mapping
        Path -> modalities.
    """
    items = iter(stores.items())
    first, wanted = next(items, ("", {}))
    for path, found in items:
        if set(found) != set(wanted):
            return (
                f"{path} holds {', '.join(found) or 'nothing'}, {first} holds {', '.join(wanted)}: stores of "
                "one survey must hold the same modalities"
            )
        for modality, kept in found.items():
            own, other = wanted[modality], kept
            if own.width != other.width:
                return (
                    f"vectors of {modality} have {other.width} features in {path}, {own.width} in {first}: "
                    "stores of one survey must be of one model"
                )
            why = differ(other.provenance, own.provenance)
            if why is not None:
                return (
                    f"vectors of {modality} have {why[0]} in {path} and {why[1]} in {first}: "
                    "stores of one survey must be of one model"
                )
    return ""
