"""Lists of object ids in files, and objects chosen by their ids."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...errors import InputError
from ..readers.files import reason
from .columns import Column, as_ids, places
from .layout import OBJECT
from .opening import rows_of
from .sources.protocol import ID_NAMES


def read_ids(path: str | os.PathLike[str]) -> Column:
    """Read object ids from a file.

    Parameters
    ----------
    path : path
        Text with one id a line, CSV or Parquet with a column ``object_id`` (such as a ranked list), or
        ``.npy``. Ids are integers where all of them are written as such without leading zeros or signs.

    Returns
    -------
    (n,) array
        int64 or text.

    Raises
    ------
    InputError
        If the file cannot be read or holds no ids.
    """
    path = Path(path)
    try:
        values = _read(path)
    except InputError:
        raise
    except Exception as error:  # the libraries raise whatever they stumble over
        raise InputError(
            f"{path} cannot be read as a list of ids ({reason(error)}): give text, CSV, .npy or Parquet"
        ) from error
    if not len(values):
        raise InputError(f"{path} holds no ids: write one a line")
    return as_ids(values, str(path))


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix in (".parquet", ".pq"):
        import pyarrow.parquet as pq

        table = pq.read_table(path, columns=[_id_name(pq.read_schema(path).names, path)])
        return np.array([*table.column(0).to_pylist(), None], object)[:-1]
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    rows = [row for row in csv.reader(lines) if row and row[0].strip()]
    if not rows:
        return []
    header = [cell.strip().lower() for cell in rows[0]]
    if len(header) > 1 or header[0] in ID_NAMES:
        at = header.index(_id_name(header, path))
        texts = [row[at].strip() for row in rows[1:]]
    else:
        texts = [row[0].strip() for row in rows]
    return typed(texts)


def _id_name(names: Sequence[str], path: Path) -> str:
    found = next((n for n in names if n.lower() in ID_NAMES), None)
    if found is None:
        raise InputError(f"{path} has no column object_id: name one so")
    return found


def typed(texts: Sequence[str]) -> NDArray[Any]:
    """Ids as integers where all of them are written as such, else as text.

    >>> typed(["3", "12"])
    array([ 3, 12])
    >>> typed(["3", "012"]).tolist()
    ['3', '012']
    """
    try:
        whole = [int(text) for text in texts]
        if all(str(number) == text for number, text in zip(whole, texts, strict=True)):
            return np.array(whole, np.int64)
    except (ValueError, OverflowError):
        pass
    return np.array(texts, str)


def select_objects(dataset: xr.Dataset, ids: Any, *, missing_ok: bool = False) -> xr.Dataset:
    """Choose objects by their ids, lazily.

    Parameters
    ----------
    dataset : Dataset
        From :func:`fmbdask.open_embeddings`.
    ids : (n,) array or sequence
        Integers or text, as the dataset has them; text that says the same numbers is taken for integers and
        the other way round.
    missing_ok : bool
        Whether ids that are not there are passed over.

    Returns
    -------
    Dataset
        The objects, each once, in the order of the dataset. Only their rows are read.

    Raises
    ------
    InputError
        If an id is not there.
    """
    own = np.asarray(dataset["object_id"].values)
    wanted = alike(as_ids(ids, "the ids"), own)
    there = places(wanted, own) >= 0
    if not missing_ok and not there.all():
        gone = int((~there).sum())
        raise InputError(
            f"the object {wanted[int(np.argmin(there))]} is not in the store, like {gone - 1} others of "
            f"{len(wanted)} ids: check the ids"
        )
    return take_objects(dataset, np.flatnonzero(places(own, np.unique(wanted)) >= 0))


def alike(ids: Column, own: Column) -> Column:
    """Ids in the kind of others, where they say the same."""
    if ids.dtype.kind == own.dtype.kind:
        return ids
    if own.dtype.kind == "U":
        return ids.astype(str)
    number = typed(ids.tolist())
    return number if number.dtype.kind == "i" else np.full(len(ids), -1)


def take_objects(dataset: xr.Dataset, rows: NDArray[np.int64]) -> xr.Dataset:
    """Objects by their places, lazily."""
    variables = {
        name: (v.dims, rows_of(v.data, rows), v.attrs) for name, v in dataset.chunk().data_vars.items()
    }
    coords = {
        name: (OBJECT, np.asarray(c.values)[rows], c.attrs)
        for name, c in dataset.coords.items()
        if c.dims == (OBJECT,)
    }
    return xr.Dataset(variables, coords, dataset.attrs)
