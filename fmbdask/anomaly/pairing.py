"""Vectors and sequences of the same objects as one Dataset, which detectors of both take."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from ..errors import InputError
from .objects import OBJECT, TIME, UNNAMED, Data

#: What sequences are called that come without a name.
SEQUENCES = "sequence"


def with_sequences(rows: Data, sequences: Data) -> xr.Dataset:
    """Put vectors and sequences of the same objects together.

    Parameters
    ----------
    rows : Dataset, DataArray or (n, features) array
        Vectors of the objects.
    sequences : Dataset, DataArray or (n, steps, features) array
        Sequences of the same objects in the same order.

    Returns
    -------
    Dataset
        With both modalities, lazy where they were; ``feature`` and ``sequence`` if they have no names.

    Raises
    ------
    InputError
        If they are not of as many objects, their ids differ, or both have the same name.

    Examples
    --------
    >>> import numpy as np
    >>> both = with_sequences(np.zeros((200, 30)), np.zeros((200, 100, 3)))
    >>> {name: both[name].shape for name in both}
    {'feature': (200, 30), 'sequence': (200, 100, 3)}
    """
    first = _dataset(rows, UNNAMED, (OBJECT, f"{UNNAMED}_feature"), "rows")
    second = _dataset(sequences, SEQUENCES, (OBJECT, TIME, f"{SEQUENCES}_feature"), "sequences")
    counts = first.sizes[OBJECT], second.sizes[OBJECT]
    if counts[0] != counts[1]:
        raise InputError(
            f"there are {counts[0]} rows and {counts[1]} sequences: give one sequence for each row, in their "
            "order"
        )
    if "object_id" in first.coords and "object_id" in second.coords:
        ids = first["object_id"].values, second["object_id"].values
        other = np.flatnonzero(ids[0].astype(str) != ids[1].astype(str))
        if len(other):
            raise InputError(
                f"rows and sequences are not of the same objects: row {other[0]} is {ids[0][other[0]]} and "
                f"sequence {other[0]} is {ids[1][other[0]]}, so put them in one order"
            )
        second = second.drop_vars("object_id")
    same = [str(name) for name in second.data_vars if name in first.variables]
    if same:
        raise InputError(f"rows and sequences are both called {same[0]}: rename one of them")
    clash = {d: f"{d}_of_sequences" for d in second.dims if d in first.dims and d != OBJECT}
    second = second.rename(clash).drop_vars([str(c) for c in second.coords if c in first.coords])
    return first.assign(second.data_vars).assign_coords(second.coords)


def _dataset(data: Data, name: str, dims: tuple[str, ...], what: str) -> xr.Dataset:
    if isinstance(data, xr.Dataset):
        return data
    if not isinstance(data, xr.DataArray):
        values: Any = data if hasattr(data, "ndim") else np.asarray(data)
        if values.ndim != len(dims):
            raise InputError(f"{what} have the shape {values.shape}: give {len(dims)} dimensions")
        data = xr.DataArray(values, dims=dims)
    if data.ndim != len(dims) or data.dims[0] != OBJECT:
        raise InputError(f"{what} have the dimensions {data.dims}: give {len(dims)}, {OBJECT} first")
    name = str(data.name or name)
    return data.rename({d: f"{d}_feature" for d in data.dims if d == name}).to_dataset(name=name)
