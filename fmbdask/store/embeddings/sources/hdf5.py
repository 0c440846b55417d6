"""Embeddings in HDF5 files: two-dimensional datasets are vectors, one-dimensional ones columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import InputError
from ...readers.containers import opened
from ...readers.files import reason, stamp_of
from ..columns import Column
from .protocol import Block, Found, choose, split_columns


class Hdf5Tables:
    """Datasets of a file, wherever in it they are, by the last part of their names.

    Parameters
    ----------
    path : path
        The file.
    wanted : mapping of str, optional
        Dataset by modality.

    Raises
    ------
    InputError
        If h5py is missing, the file is damaged, or its datasets have different numbers of objects.
    """

    def __init__(self, path: Path, wanted: Mapping[str, str] | None = None) -> None:
        self.path = str(path)
        file = opened(self.path, stamp_of(path))
        tables: dict[str, Any] = {}
        single: dict[str, Any] = {}
        try:
            for full, dataset in _datasets(file):
                _check_written(self.path, full, dataset)
                name = full.rpartition("/")[2]
                kinds = tables if dataset.ndim == 2 and dataset.dtype.kind in "fiu" else single
                if name in tables or name in single:
                    raise InputError(f"{path} has two datasets called {name}: rename one")
                kinds[name] = dataset
            chosen = choose(list(tables), wanted, self.path)
            self._chosen = {name: tables[key] for name, key in chosen.items()}
            objects = next(iter(self._chosen.values())).shape[0]
            columns = {n: _values(d) for n, d in single.items() if d.ndim == 1}
        except InputError:
            raise
        except Exception as error:  # the library raises whatever it stumbles over
            raise InputError(
                f"{path} cannot be read as HDF5 ({reason(error)}): get a fresh copy of it"
            ) from error
        if not objects:
            raise InputError(f"{path} holds no objects: give at least one")
        for name, dataset in self._chosen.items():
            if dataset.shape[0] != objects:
                raise InputError(
                    f"{path}: {chosen[name]} has {dataset.shape[0]} rows, another {objects}: give one row "
                    "for each object"
                )
        self.ids: Column
        self.ids, self.columns, self.notes = split_columns(columns, objects, self.path)
        left = [n for n in tables if n not in chosen.values()] + [n for n in single if n not in columns]
        self.notes += [f"{path}: {n} was not chosen and was left out" for n in left]
        self.modalities = [Found(n, key, tables[key].shape[1]) for n, key in chosen.items()]

    def blocks(self, size: int) -> Iterator[Block]:
        """Read ``size`` rows of every dataset at a time."""
        for start in range(0, len(self.ids), size):
            stop = min(start + size, len(self.ids))
            try:
                yield Block({n: np.asarray(d[start:stop], np.float32) for n, d in self._chosen.items()})
            except OSError as error:
                raise InputError(
                    f"{self.path} cannot be read ({reason(error)}): get a fresh copy of it"
                ) from error


def _datasets(file: Any) -> list[tuple[str, Any]]:
    """All datasets of a file, with their full names."""
    found: list[tuple[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        if hasattr(item, "dtype"):
            found.append((name, item))

    file.visititems(visit)
    return found


def _values(dataset: Any) -> Any:
    """A column; text as Python has it."""
    return dataset.asstr()[...] if dataset.dtype.kind == "O" else dataset[...]


def _check_written(path: str, name: str, dataset: Any) -> None:
    """Refuse a dataset of which parts were never written: they would read as zero."""
    if not dataset.size or dataset.is_virtual or dataset.external:
        return
    if dataset.chunks is None:
        complete = bool(dataset.id.get_storage_size())
    else:
        expected = int(np.prod([-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]))
        complete = dataset.id.get_num_chunks() == expected
    if not complete:
        raise InputError(f"{path}: parts of {name} were never written: write the file again")
