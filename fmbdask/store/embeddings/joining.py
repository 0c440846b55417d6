"""Stores of several models made into one, object by object."""

from __future__ import annotations

from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...errors import InputError
from .columns import Column, joined, known, places, take
from .layout import OBJECT
from .matching import match_ids, match_positions
from .opening import rows_of

Rows = NDArray[np.int64]


def join_embeddings(
    left: xr.Dataset,
    right: xr.Dataset,
    *,
    on: Literal["object_id", "position"] = "object_id",
    radius: float = 1.0,
    names: tuple[str, str] = ("a", "b"),
) -> xr.Dataset:
    """Join two sets of embeddings object by object, lazily.

    Parameters
    ----------
    left, right : Dataset
        From :func:`fmbdask.open_embeddings`.
    on : {"object_id", "position"}
        Objects are the same where their ids are, or where they lie within ``radius`` of one another on the
        sky: one to one, the nearest pair first; objects without a position match nothing.
    radius : float
        [arcsec]
    names : (str, str)
        Put before the names of modalities that both have: ``a_image``, ``b_image``.

    Returns
    -------
    Dataset
        The objects of ``left`` in their order, then those that only ``right`` has. What one of them does not
        have is missing: the vector is NaN and not valid. Columns that both have are those of ``left``,
        completed from ``right``. Joined by position, ids are those of ``left``, else of ``right`` (as text
        ``<name>:<id>`` where they would stand twice); ``object_id_<name>`` keeps the ids of ``right`` and
        ``separation`` [arcsec] the distance of each pair.

    Raises
    ------
    InputError
        If ids are of two kinds, names collide, positions are missing, or the radius is too large.
    """
    if names[0] == names[1] or not all(n.isidentifier() for n in names):
        raise InputError(f"{names[0]!r} and {names[1]!r} cannot tell two stores apart: give --names A,B")
    extra: dict[str, Column] = {}
    a_ids, b_ids = np.asarray(left["object_id"].values), np.asarray(right["object_id"].values)
    if on == "object_id":
        a, b = match_ids(a_ids, b_ids, names)
        ids = np.where(a >= 0, take(a_ids, a), take(b_ids, b))
    elif on == "position":
        a, b, separation = match_positions(_positions(left), _positions(right), radius)
        ids = _ids_of_both(a_ids, b_ids, a, b, names)
        extra = {f"object_id_{names[1]}": take(b_ids, b), "separation": separation}
    else:
        raise InputError(f"stores cannot be joined on {on}: choose object_id or position")
    coords: dict[str, Any] = {"object_id": (OBJECT, ids)}
    variables: dict[str, Any] = {}
    both = {str(n) for n in left.data_vars} & {str(n) for n in right.data_vars}
    for dataset, rows, prefix in ((left, a, names[0]), (right, b, names[1])):
        for key, variable in dataset.chunk().data_vars.items():
            old = str(key)
            name = f"{prefix}_{old}" if old in both else old
            if name in variables:
                raise InputError(f"the modality {name} would stand twice: choose other --names")
            lazy: da.Array = rows_of(variable.data, rows)
            variables[name] = ((OBJECT, f"{name}_feature"), lazy, variable.attrs)
            valid = np.asarray(dataset[f"valid_{old}"].values)
            coords[f"valid_{name}"] = (OBJECT, take(valid, rows) & (rows >= 0))
    for name, values in {**_columns(left, right, a, b), **extra}.items():
        attrs = (left if name in left.coords else right).coords
        coords[name] = (OBJECT, values, dict(attrs[name].attrs) if name in attrs else {})
    if "separation" in extra:
        coords["separation"] = (OBJECT, extra["separation"], {"units": "arcsec"})
    clash = set(variables) & set(coords)
    if clash:
        raise InputError(f"{min(clash)} would be a modality and a column: choose other --names")
    return xr.Dataset(variables, coords, left.attrs)


def _positions(dataset: xr.Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    missing = [name for name in ("ra", "dec") if name not in dataset.coords]
    if missing:
        source = dataset.encoding.get("source", "a store")
        raise InputError(f"{source} has no {missing[0]}: join it on object_id, or import it with positions")
    return dataset["ra"].values, dataset["dec"].values


def _ids_of_both(a_ids: Column, b_ids: Column, a: Rows, b: Rows, names: tuple[str, str]) -> Column:
    """Ids of the objects of both, all different."""
    only = a < 0
    rest = b_ids[b[only]]
    if not len(rest):
        return a_ids[a]
    if a_ids.dtype.kind == b_ids.dtype.kind and not (places(rest, a_ids) >= 0).any():
        return np.concatenate([a_ids[a[~only]], rest])
    told = np.array([f"{names[1]}:{value}" for value in rest.tolist()])
    return np.concatenate([a_ids[a[~only]].astype(str), told])


def _columns(left: xr.Dataset, right: xr.Dataset, a: Rows, b: Rows) -> dict[str, Column]:
    """Columns of either, those of the left one completed from the right one."""
    columns: dict[str, Column] = {}
    for name in dict.fromkeys([*map(str, left.coords), *map(str, right.coords)]):
        if name == "object_id" or name.startswith("valid_"):
            continue
        parts = [
            take(np.asarray(dataset[name].values), rows) if name in dataset.coords else None
            for dataset, rows in ((left, a), (right, b))
        ]
        first, second = parts
        if first is None or second is None:
            found = first if first is not None else second
            assert found is not None
            columns[name] = found
            continue
        try:
            whole = joined([first, second])
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
        mine, theirs = whole[: len(first)], whole[len(first) :]
        columns[name] = np.where(known(mine), mine, theirs)
    return columns
