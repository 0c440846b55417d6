"""Results as NumPy files: the mask, the corrected ramp and the temporal features."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import xarray as xr

from ...atomic import atomic
from .strips import write_strips


def write_mask(path: str | os.PathLike[str], mask: xr.DataArray, *, overwrite: bool = False) -> Path:
    """Write the codes of the mask as uint8, (y, x) or, for several integrations, (integration, y, x).

    Parameters
    ----------
    path : path
        The ``.npy`` file.
    mask : DataArray
        Dimensions (integration, y, x).
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    OutputExistsError
        If the file exists and is not to be overwritten.
    """
    with atomic(Path(path), overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        np.save(stream, _without_one(mask).astype(np.uint8))
    return Path(path)


def write_processed(path: str | os.PathLike[str], ramp: xr.DataArray, *, overwrite: bool = False) -> Path:
    """Write a ramp as float32, (frame, y, x) or (integration, frame, y, x), in bounded memory.

    Parameters
    ----------
    path : path
        The ``.npy`` file.
    ramp : DataArray
        Dimensions (integration, frame, y, x), lazy or not.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    OutputExistsError
        If the file exists and is not to be overwritten.
    """
    shape = ramp.shape[1:] if ramp.shape[0] == 1 else ramp.shape
    with atomic(Path(path), overwrite=overwrite) as temporary:
        np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        write_strips(ramp, lambda: np.lib.format.open_memmap(temporary, mode="r+").reshape(ramp.shape))
    return Path(path)


def write_features(
    path: str | os.PathLike[str], maps: xr.Dataset, names: Iterable[str], *, overwrite: bool = False
) -> Path:
    """Write maps into one compressed ``.npz``, each under its name, (y, x) or (integration, y, x).

    Parameters
    ----------
    path : path
        The ``.npz`` file.
    maps : Dataset
        Dimensions (integration, y, x).
    names : iterable of str
        Maps to write.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    OutputExistsError
        If the file exists and is not to be overwritten.
    """
    arrays = {name: _without_one(maps[name]) for name in names}
    with atomic(Path(path), overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)
    return Path(path)


def _without_one(values: xr.DataArray) -> np.ndarray:
    """Values without an axis for a single integration."""
    data = np.asarray(values.data)
    return data[0] if data.shape[0] == 1 else data
