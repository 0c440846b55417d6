"""Files of embeddings, one module a format; :func:`open_source` tells them apart."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ....errors import InputError
from ...readers.files import stamp_of
from .protocol import Block, EmbeddingSource, Found

__all__ = ["TABLES", "Block", "EmbeddingSource", "Found", "is_ramp_file", "open_source"]

TORCH = (".pt", ".pth")
NUMPY = (".npy", ".npz")
PARQUET = (".parquet", ".pq")
CSV = (".csv", ".tsv")
HDF5 = (".h5", ".hdf5", ".hdf")
#: Files that need no word from the user to become a store.
TABLES = (*CSV, *PARQUET, ".npz")
RAMPS = (".fits", ".fit", ".fz", ".gz", ".asdf")


def open_source(
    path: str | os.PathLike[str], wanted: Mapping[str, str] | None = None, *, aside: Sequence[str] = ()
) -> EmbeddingSource:
    """Open a file of embeddings: ids and columns are read, vectors are not.

    Parameters
    ----------
    path : path
        ``.pt``, ``.npy``, ``.npz``, CSV, Parquet or HDF5.
    wanted : mapping of str, optional
        What the file calls the vectors of each modality; by itself it is found out.
    aside : sequence of str
        Columns of a table that are no features unless ``wanted`` names them.

    Raises
    ------
    InputError
        If the file cannot be read, or is of no known format.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path} is a folder: give a .pt, .npy, .npz, CSV, Parquet or HDF5 file")
    stamp_of(path)
    suffix = path.suffix.lower()
    source = _reader(path, suffix, aside)(path, wanted)
    if not len(source.ids):
        raise InputError(f"{path} holds no objects: give at least one")
    return source


def _reader(
    path: Path, suffix: str, aside: Sequence[str]
) -> Callable[[Path, Mapping[str, str] | None], EmbeddingSource]:
    if suffix in TORCH:
        from .torch_file import TorchRecords

        return TorchRecords
    if suffix in NUMPY:
        from .numpy_files import NumpyArrays

        return NumpyArrays
    if suffix in PARQUET:
        from .parquet import ParquetTable

        return partial(ParquetTable, aside=aside)
    if suffix in CSV:
        from .csv_table import CsvTable

        return partial(CsvTable, aside=aside)
    if suffix in HDF5:
        from .hdf5 import Hdf5Tables

        return Hdf5Tables
    if is_ramp_file(path):
        raise InputError(
            f"{path} is an exposure, not embeddings: use `fmbdask ramps detect`, or --window for target "
            "pixels"
        )
    raise InputError(f"{path} is of no known format: give a .pt, .npy, .npz, .csv, .parquet or .h5 file")


def is_ramp_file(path: Path) -> bool:
    """Whether a file is called like an exposure."""
    return path.suffix.lower() in RAMPS
