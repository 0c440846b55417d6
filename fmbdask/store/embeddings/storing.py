"""Lazy embeddings written as a store, block by block."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import xarray as xr
from dask.base import compute

from ...errors import InputError
from ...regions import BLOCK
from .importing import Progress
from .layout import KIND, OBJECT, Modality
from .writer import EmbeddingWriter

#: Blocks that are computed at a time.
AT_ONCE = 4


def write_embeddings(
    dataset: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write embeddings, such as those that were selected or joined, as a store.

    Parameters
    ----------
    dataset : Dataset
        As :func:`fmbdask.open_embeddings` gives them, lazy or in memory.
    path : path
        The store.
    overwrite : bool
        Whether a store that is there is replaced.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    InputError
        If the dataset is not such, or the disk is too short.
    OutputExistsError
        If the store exists and is not to be overwritten.
    """
    if dataset.attrs.get("kind") != KIND or "object_id" not in dataset.coords:
        raise InputError(f"{path}: these are no embeddings: give what fmbdask.open_embeddings gave")
    names = [str(name) for name in dataset.data_vars]
    modalities = [Modality.of(n, dataset[n].shape[1], dataset[n].attrs) for n in names]
    columns = {
        str(n): np.asarray(c.values)
        for n, c in dataset.coords.items()
        if c.dims == (OBJECT,) and n != "object_id" and not str(n).startswith("valid_")
    }
    ids = np.asarray(dataset["object_id"].values)
    step = AT_ONCE * BLOCK
    with EmbeddingWriter(path, modalities, objects=len(ids), overwrite=overwrite) as writer:
        for start in range(0, len(ids), step):
            part = slice(start, start + step)
            blocks = compute(*[dataset[n].data[part] for n in names])
            writer.write(
                ids[part], dict(zip(names, blocks, strict=True)), {k: v[part] for k, v in columns.items()}
            )
            if progress is not None:
                progress(min(start + step, len(ids)), len(ids), "objects written")
    return Path(path)
