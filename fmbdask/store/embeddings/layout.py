"""How embedding stores lie on disk: names, chunks, shards, and the bytes they take.

A store is a Zarr v3 group. Each modality is a float32 array (object, feature) of uncompressed chunks that
hold all features of some objects; everything else is a column along ``object``. The number of objects is the
attribute ``objects`` of the group: arrays that are longer belong to an append that did not end.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...regions import BLOCK, CHUNK_LIMIT

KIND = "embeddings"
LAYOUT = 1
OBJECT = "object"
ITEM = 4
#: More chunks than this are put into shards, so that the number of files stays bounded.
MANY_CHUNKS = 2000
#: A shard holds at most this many objects, and at most this many bytes: one is held in memory to be written.
SHARD_OBJECTS, SHARD_LIMIT = 65536, 128 * 2**20
#: Objects in one chunk of a column.
COLUMN_CHUNK = 2**18
#: Room for metadata, and for what a file system needs for itself.
SMALL_FILES = 2**20


@dataclass(frozen=True)
class Modality:
    """One kind of vectors in a store, and where they come from.

    Attributes
    ----------
    name : str
        What the variable is called: ``image``, ``spectrum``, ``joint``, or any identifier.
    features : int
        Length of its vectors.
    model, version, weights_sha256, preprocessing : str
        What made the vectors; empty where unknown.
    embedding_key : str
        What the vectors were called in the file they were read from; empty where unknown.
    sequence : str
        Steps and features of vectors that are sequences (:class:`fmbdask.sequences.Shape`), else empty.
    feature_names : tuple of str
        What the numbers of a vector are, or of a step of a sequence; empty for embeddings, whose numbers have
        no names.
    units : str
        Of the numbers, where all have the same; else empty.
    """

    name: str
    features: int
    model: str = ""
    version: str = ""
    weights_sha256: str = ""
    preprocessing: str = ""
    embedding_key: str = ""
    sequence: str = ""
    feature_names: tuple[str, ...] = ()
    units: str = ""

    @property
    def attrs(self) -> dict[str, Any]:
        """Provenance, and what the numbers are where that is known, as the attributes of the variable."""
        told: dict[str, Any] = {key: str(getattr(self, key)) for key in PROVENANCE}
        return told | {key: value for key, value in self.meaning.items() if value}

    @property
    def meaning(self) -> dict[str, Any]:
        """What the numbers of a vector are: ``sequence``, ``feature_names`` (a list) and ``units``."""
        return {"sequence": self.sequence, "feature_names": list(self.feature_names), "units": self.units}

    @property
    def measured(self) -> bool:
        """Whether zeros are values as good as others: in an embedding a vector of zeros is none."""
        return bool(self.feature_names or self.sequence)

    @property
    def dims(self) -> tuple[str, str]:
        """Dimensions of the variable."""
        return OBJECT, f"{self.name}_feature"

    @classmethod
    def of(cls, name: str, features: int, attrs: Mapping[str, object]) -> Modality:
        """Describe a variable by its attributes."""
        told = {key: str(attrs.get(key) or "") for key in (*PROVENANCE, "sequence", "units")}
        names: Any = attrs.get("feature_names")
        listed = [names] if isinstance(names, str) else names if names is not None else []
        return cls(name, features, **told, feature_names=tuple(map(str, listed)))

    def renamed(self, name: str) -> Modality:
        """The same vectors under another name."""
        return replace(self, name=name)


PROVENANCE = ("model", "version", "weights_sha256", "preprocessing", "embedding_key")


def check_names(modalities: Iterable[Modality], columns: Iterable[str] = ()) -> None:
    """Refuse names that are no identifiers, that mean something else in a store, or that stand twice.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    seen = {OBJECT, "object_id", "ra", "dec"}
    for modality in modalities:
        name = modality.name
        if not name.isidentifier() or name.startswith("valid_") or name.endswith("_feature") or name in seen:
            raise InputError(
                f"{name!r} cannot be the name of a modality: choose another, of letters, digits and "
                "underscores (--modality NAME=KEY)"
            )
        if modality.features < 1:
            raise InputError(f"the vectors of {name} have no features: give vectors of at least one number")
        seen.add(name)
    for column in columns:
        if column in seen - {"object_id", "ra", "dec"} or column.startswith("valid_"):
            raise InputError(
                f"a column cannot be called {column}, which means something else in a store: rename it"
            )


def chunk_rows(features: int) -> int:
    """Choose the objects of a chunk: the largest power of two within a block whose bytes stay in the limit.

    Examples
    --------
    >>> chunk_rows(768), chunk_rows(2048)
    (4096, 2048)
    """
    rows = BLOCK
    while rows > 1 and rows * features * ITEM > CHUNK_LIMIT:
        rows //= 2
    return rows


def shard_rows(features: Iterable[int], objects: int) -> int | None:
    """Choose the objects of a shard, the same for all modalities; None where chunks are few enough.

    Parameters
    ----------
    features : iterable of int
        Length of the vectors of each modality.
    objects : int
        Number of objects that are expected.

    Returns
    -------
    int or None
        A whole number of blocks.

    Examples
    --------
    >>> shard_rows([768, 768], 1_000_000)
    >>> shard_rows([768], 10_000_000)
    32768
    """
    widths = list(features)
    if sum(-(-objects // chunk_rows(width)) for width in widths) <= MANY_CHUNKS:
        return None
    rows = SHARD_OBJECTS
    while rows > BLOCK and rows * max(widths) * ITEM > SHARD_LIMIT:
        rows //= 2
    return rows


def bytes_of(features: Iterable[int], objects: int, shard: int | None) -> int:
    """Bytes that the vectors of some objects take on disk, chunks and shards filled up."""
    total = 0
    for width in features:
        rows = shard or chunk_rows(width)
        total += -(-objects // rows) * rows * width * ITEM
    return total


def check_space(path: Path, needed: int) -> None:
    """Refuse to write what the disk has no room for.

    Parameters
    ----------
    path : Path
        What will be written; it need not exist yet.
    needed : int
        [bytes]

    Raises
    ------
    InputError
        Saying how much is needed and how much is free.
    """
    folder = Path(path).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed + SMALL_FILES > free:
        raise InputError(
            f"{path} needs {readable(needed + SMALL_FILES)} and {folder} has {readable(free)} free: "
            "make room there or choose another folder"
        )


def readable(nbytes: float) -> str:
    """Bytes as people say them.

    >>> readable(6_144_000_000)
    '6.14 GB'
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if nbytes >= size:
            return f"{nbytes / size:.3g} {unit}"
    return f"{nbytes:.0f} bytes"
