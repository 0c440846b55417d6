"""Sequences of a store with their steps as a dimension."""

from __future__ import annotations

import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...errors import InputError
from ...sequences import Shape, unflatten
from .layout import OBJECT, Modality

TIME, FEATURE, VALID_TIME = "time", "feature", "valid_time"


def sequences_of(dataset: xr.Dataset, name: str = "sequence") -> xr.DataArray:
    """Sequences of a modality, lazily, with their steps as a dimension.

    Parameters
    ----------
    dataset : Dataset
        From :func:`fmbdask.open_embeddings`, or what was selected of it.
    name : str
        A modality that holds sequences.

    Returns
    -------
    DataArray
        float32, dimensions (object, time, feature), NaN where a step is not valid, with the coordinates along
        ``object`` of the store (but those called ``time`` or ``feature``), ``valid_time`` (object, time;
        bool) and, where features have names, ``feature``. Detectors take it as they take the store.

    Raises
    ------
    InputError
        If there is no such modality, or it holds no sequences.
    """
    if name not in dataset.data_vars:
        there = ", ".join(map(str, dataset.data_vars)) or "none"
        raise InputError(f"there is no modality {name}: this store has {there}")
    vectors = dataset[name]
    modality = Modality.of(name, vectors.shape[1], vectors.attrs)
    if not modality.sequence:
        raise InputError(f"{name} holds vectors and no sequences: take {name} itself")
    shape = Shape.parse(modality.sequence)
    if shape.width != modality.features:
        raise InputError(
            f"{name} has vectors of {modality.features} numbers, which are no sequences of {shape}: write "
            "the store again"
        )
    lazy = vectors.chunk({vectors.dims[1]: -1}).data
    sizes = (lazy.chunks[0], (shape.steps,))
    values = da.map_blocks(
        _values, lazy, shape=shape, chunks=(*sizes, (shape.features,)), new_axis=2, dtype=np.float32,
        meta=np.empty((0, 0, 0), np.float32),
    )  # fmt: skip
    valid = da.map_blocks(
        _valid, lazy, shape=shape, chunks=sizes, dtype=np.bool_, meta=np.empty((0, 0), np.bool_)
    )
    taken = (TIME, FEATURE, VALID_TIME)
    coords = {n: c for n, c in dataset.coords.items() if c.dims == (OBJECT,) and n not in taken}
    coords[VALID_TIME] = xr.DataArray(valid, dims=(OBJECT, TIME))
    if len(modality.feature_names) == shape.features:
        coords[FEATURE] = xr.DataArray(list(modality.feature_names), dims=FEATURE)
    attrs = {k: v for k, v in vectors.attrs.items() if k not in ("sequence", "feature_names")}
    return xr.DataArray(values, coords, (OBJECT, TIME, FEATURE), name, attrs)


def _values(vectors: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    values, valid = unflatten(vectors, shape)
    return np.where(valid[..., None], values, np.float32(np.nan))


def _valid(vectors: NDArray[np.float32], shape: Shape) -> NDArray[np.bool_]:
    return unflatten(vectors, shape)[1]
