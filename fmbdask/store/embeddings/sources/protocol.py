"""What every file of embeddings gives, and how its names become modalities and columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ..columns import Column, as_column, as_ids

#: Names under which AstroPT, AstroCLIP and AION's benchmark files keep each modality.
KNOWN_KEYS = {
    "embedding_images": "image",
    "embedding_image": "image",
    "embedding_hsc": "image",
    "embedding_spectra": "spectrum",
    "embedding_spectrum": "spectrum",
    "embedding_joint": "joint",
    "embedding_hsc_desi": "joint",
}
ID_NAMES = ("object_id", "objectid", "object_ids", "id", "ids")
POSITION_NAMES = {"ra": ("ra", "ra_deg"), "dec": ("dec", "dec_deg")}


@dataclass(frozen=True)
class Found:
    """A modality in a file: its name in the store, what the file calls it, and the length of its vectors.

    ``feature_names``, ``sequence`` and ``units`` say what the numbers are, as
    :class:`~fmbdask.store.embeddings.Modality` does.
    """

    name: str
    key: str
    features: int
    feature_names: tuple[str, ...] = ()
    sequence: str = ""
    units: str = ""


@dataclass(frozen=True)
class Block:
    """Vectors of consecutive objects, and which of them the file has."""

    vectors: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)


class EmbeddingSource(Protocol):
    """A file of embeddings: ids and columns in memory, vectors block by block in the order of the ids."""

    @property
    def path(self) -> str: ...
    @property
    def ids(self) -> Column: ...
    @property
    def modalities(self) -> Sequence[Found]: ...
    @property
    def columns(self) -> Mapping[str, Column]: ...
    @property
    def notes(self) -> Sequence[str]:
        """What was left out of the file, in sentences."""

    def blocks(self, size: int) -> Iterator[Block]:
        """Read the vectors of ``size`` objects at a time, the last ones may be fewer."""


def choose(
    available: Sequence[str], wanted: Mapping[str, str] | None, path: str, *, prefixes: bool = False
) -> dict[str, str]:
    """Choose the modalities of a file.

    Parameters
    ----------
    available : sequence of str
        What the file calls its vectors.
    wanted : mapping of str, optional
        Key by modality; without it known keys get their modality, ``embedding_X`` becomes ``X`` and other
        names stay.
    path : str
        The file, for the message.
    prefixes : bool
        Whether a key that is not there may be the prefix of columns.

    Returns
    -------
    dict
        Key by modality.

    Raises
    ------
    InputError
        If there are none, one is not there, or two would have the same name.
    """
    if wanted:
        for name, key in wanted.items():
            if key not in available and not prefixes:
                shown = ", ".join(sorted(available)) or "none at all"
                raise InputError(f"{path} has no vectors {key} for {name}: it has {shown}")
        return dict(wanted)
    chosen: dict[str, str] = {}
    for key in available:
        name = KNOWN_KEYS.get(key, key.removeprefix("embedding_"))
        if name in chosen:
            raise InputError(
                f"{path} has {chosen[name]} and {key} for the modality {name}: choose one with "
                "--modality NAME=KEY"
            )
        chosen[name] = key
    if not chosen:
        raise InputError(f"{path} holds no embeddings: name them with --modality NAME=KEY")
    return chosen


def split_columns(
    values: Mapping[str, Any], objects: int, path: str
) -> tuple[Column, dict[str, Column], list[str]]:
    """Tell ids, positions and other columns from one another.

    Parameters
    ----------
    values : mapping of 1-D arrays
        By the names that the file uses.
    objects : int
        Number of objects.
    path : str
        The file, for messages.

    Returns
    -------
    ids, columns, notes
        Ids are row numbers, counted from 0, where the file has none, and the notes say so.

    Raises
    ------
    InputError
        If an id is missing or a column has another length.
    """
    lowered = {name.lower(): name for name in values}
    notes: list[str] = []
    taken = next((lowered[n] for n in ID_NAMES if n in lowered), None)
    if taken is None:
        ids = np.arange(objects)
        notes.append(f"{path} has no object ids: objects are numbered from 0 in its order")
    else:
        ids = as_ids(values[taken], path)
        if len(ids) != objects:
            raise InputError(f"{path}: {taken} has {len(ids)} values for {objects} objects: give one each")
    columns: dict[str, Column] = {}
    renamed = {lowered[n]: name for name, names in POSITION_NAMES.items() for n in names if n in lowered}
    for name, array in values.items():
        if name == taken:
            continue
        label = renamed.get(name, name)
        if not label.isidentifier() or label.startswith("valid_") or label.lower() in ("object", "object_id"):
            notes.append(f"{path}: {name} cannot be the name of a column and was left out")
            continue
        try:
            column = as_column(array, name, path)
        except InputError as error:
            notes.append(f"{error}; it was left out")
            continue
        if len(column) != objects:
            notes.append(f"{path}: {name} has {len(column)} values for {objects} objects and was left out")
            continue
        columns[label] = column.astype(np.float64) if label in POSITION_NAMES else column
    return ids, columns, notes
