"""Maps of an exposure (mask, rate, features) as a Zarr store, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr
import zarr

from ..atomic import atomic
from .layout import create_array

#: Edge of the chunks of maps without an edge of their own [pixels].
MAP_EDGE = 512


def write_products(
    path: str | os.PathLike[str], dataset: xr.Dataset, *, edge: int = MAP_EDGE, overwrite: bool = False
) -> Path:
    """Write maps as a Zarr v3 store that xarray opens.

    Chunks are squares of ``edge`` pixels along y and x and 1 along every other axis; each is written by one
    task.

    Parameters
    ----------
    path : path
        The store.
    dataset : Dataset
        Variables in memory or lazy; attributes become plain values.
    edge : int
        Edge of the chunks [pixels].
    overwrite : bool
        Whether a store that is there is replaced.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    OutputExistsError
        If the store exists and is not to be overwritten.
    """
    with atomic(Path(path), overwrite=overwrite) as temporary:
        group = zarr.create_group(str(temporary), zarr_format=3, attributes=plain(dataset.attrs))
        for name, variable in dataset.variables.items():
            chunks = [
                max(1, min(edge, n)) if d in ("y", "x") else (n or 1) if variable.ndim == 1 else 1
                for d, n in zip(variable.dims, variable.shape, strict=True)
            ]
            attrs = plain(variable.attrs)
            array = create_array(
                group,
                str(name),
                variable.shape,
                variable.dtype,
                chunks,
                [str(d) for d in variable.dims],
                attrs,
            )
            if isinstance(variable.data, da.Array):
                # one task per stored chunk keeps writers apart
                lazy: Any = variable.data
                da.store(lazy.rechunk(tuple(chunks)), cast(Any, array), lock=False)
            else:
                array[...] = np.asarray(variable.data)
        coordinates = " ".join(str(name) for name in dataset.coords)
        if coordinates:
            group.attrs["coordinates"] = coordinates
    return Path(path)


def open_products(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open the maps of an exposure, lazily, as :func:`write_products` wrote them."""
    dataset: xr.Dataset = xr.open_zarr(str(path), consolidated=False)
    return dataset


def plain(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Turn attribute values into what JSON knows."""
    return {str(key): plain_value(value) for key, value in attrs.items()}


def plain_value(value: Any) -> Any:
    """Turn one value into what JSON knows; whatever has no counterpart becomes text."""
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, np.ndarray):
        return plain_value(value.tolist())
    if isinstance(value, np.generic):
        return plain_value(value.item())
    if isinstance(value, (list, tuple)):
        return [plain_value(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
