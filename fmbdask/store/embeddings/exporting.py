"""Embeddings written for other tools: the benchmark's `.pt` lists of dictionaries, and Parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute

from ...atomic import atomic, check_free
from ...errors import InputError
from ...regions import BLOCK
from .columns import Column, known
from .importing import Progress
from .layout import KIND, OBJECT, Modality, check_space, readable

#: Memory of a record with its values, and of each tensor beside its numbers, measured.
RECORD_BYTES, TENSOR_BYTES = 1500, 2000
#: Keys that the benchmark gives to modalities.
KEYS = {
    "": {"image": "embedding_images", "spectrum": "embedding_spectra", "joint": "embedding_joint"},
    "aion": {"image": "embedding_hsc", "spectrum": "embedding_spectrum", "joint": "embedding_hsc_desi"},
}


def export_embeddings(
    dataset: xr.Dataset,
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write embeddings as a `.pt` file of the benchmark or as Parquet, by the name of the file.

    Parameters
    ----------
    dataset : Dataset
        From :func:`fmbdask.open_embeddings`, or what was selected of it.
    out : path
        ``.pt``: a list of dictionaries with ``object_id``, 1-D tensors under the keys they were imported
        from (else those the benchmark gives the model), and the columns; a vector or value that is missing is
        left out. Held in memory whole, as such files are read; names of features, and which steps a sequence
        has, are not in it. ``.parquet``: one row an object, vectors as lists of fixed size, null where
        missing, with all that is known of them as metadata of the field; written block by block.
    overwrite : bool
        Whether a file that is there is replaced.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the format is not known, torch is missing, or memory or disk are too short.
    OutputExistsError
        If the file exists and is not to be overwritten.
    """
    out = Path(out)
    check_free(out, overwrite)
    if dataset.attrs.get("kind") != KIND:
        raise InputError(f"{out}: these are no embeddings: give what fmbdask.open_embeddings gave")
    if not dataset.sizes[OBJECT]:
        raise InputError(f"{out} would hold no objects: choose at least one")
    if out.suffix.lower() in (".pt", ".pth"):
        return _to_torch(dataset, out, overwrite, progress)
    if out.suffix.lower() in (".parquet", ".pq"):
        return _to_parquet(dataset, out, overwrite, progress)
    raise InputError(f"{out} is of no known format: end its name in .pt or .parquet")


def _to_torch(dataset: xr.Dataset, out: Path, overwrite: bool, progress: Progress | None) -> Path:
    try:
        import torch
    except ImportError as error:
        raise InputError(f"{out} needs torch, which is missing: pip install 'fmbdask[models]'") from error
    import psutil

    objects, modalities = dataset.sizes[OBJECT], _modalities(dataset)
    numbers = sum(m.features for m in modalities) * 4
    needed = objects * (RECORD_BYTES + len(modalities) * TENSOR_BYTES + numbers)
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{out} needs {readable(needed)} of memory, since such a file is written whole, and "
            f"{readable(free)} are free: choose fewer objects with --ids, or write Parquet"
        )
    check_space(out, objects * (numbers + 400 * (1 + len(modalities))))
    keys = {m.name: m.embedding_key or _default_key(m) for m in modalities}
    if len(set(keys.values())) != len(keys):
        keys = {m.name: f"embedding_{m.name}" for m in modalities}
    columns = _columns(dataset)
    told = {name: known(values) for name, values in columns.items()}
    plain = {name: values.tolist() for name, values in columns.items()}
    records: list[dict[str, Any]] = []
    for start, blocks in _blocks(dataset, modalities):
        there = {name: ~np.isnan(block).all(axis=1) for name, block in blocks.items()}
        n = len(next(iter(blocks.values())))
        for i in range(n):
            row = start + i
            record = {name: plain[name][row] for name in plain if told[name][row]}
            for name, block in blocks.items():
                if there[name][i]:
                    record[keys[name]] = torch.from_numpy(block[i].copy())
            records.append(record)
        if progress is not None:
            progress(start + n, objects, "objects gathered")
    with atomic(out, overwrite=overwrite) as temporary:
        torch.save(records, temporary)
    return out


def _to_parquet(dataset: xr.Dataset, out: Path, overwrite: bool, progress: Progress | None) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    modalities, columns = _modalities(dataset), _columns(dataset)
    objects = dataset.sizes[OBJECT]
    values = sum(column.nbytes for column in columns.values())
    check_space(out, objects * sum(m.features for m in modalities) * 4 + values)
    kinds = {"i": pa.int64(), "f": pa.float64(), "U": pa.string()}
    fields = [pa.field(name, kinds[column.dtype.kind]) for name, column in columns.items()]
    fields += [
        pa.field(m.name, pa.list_(pa.float32(), m.features), metadata=_as_text(m.attrs)) for m in modalities
    ]
    schema = pa.schema(fields, metadata={"fmbdask": json.dumps({"kind": KIND, **_plain(dataset.attrs)})})
    # float32 vectors do not compress; columns are small beside them
    with (
        atomic(out, overwrite=overwrite) as temporary,
        pq.ParquetWriter(temporary, schema, compression="none", use_dictionary=False) as writer,
    ):
        for start, blocks in _blocks(dataset, modalities):
            n = len(next(iter(blocks.values())))
            part = slice(start, start + n)
            arrays = [pa.array(c[part], kinds[c.dtype.kind], mask=~known(c[part])) for c in columns.values()]
            for m in modalities:
                block = np.ascontiguousarray(blocks[m.name], np.float32)
                missing = pa.array(np.isnan(block).all(axis=1))
                arrays.append(
                    pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), m.features, mask=missing)
                )
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            if progress is not None:
                progress(start + n, objects, "objects written")
    return out


def _blocks(dataset: xr.Dataset, modalities: list[Modality]) -> Any:
    """First object and vectors of each block."""
    for start in range(0, dataset.sizes[OBJECT], BLOCK):
        parts = compute(*[dataset[m.name].data[start : start + BLOCK] for m in modalities])
        yield start, {m.name: np.asarray(p) for m, p in zip(modalities, parts, strict=True)}


def _modalities(dataset: xr.Dataset) -> list[Modality]:
    return [Modality.of(str(n), v.shape[1], v.attrs) for n, v in dataset.data_vars.items()]


def _columns(dataset: xr.Dataset) -> dict[str, Column]:
    """Ids first, then the other columns; validity follows from the vectors."""
    names = [str(n) for n, c in dataset.coords.items() if c.dims == (OBJECT,)]
    kept = [n for n in names if n != "object_id" and not n.startswith("valid_")]
    return {n: np.asarray(dataset[n].values) for n in ["object_id", *kept]}


def _as_text(attrs: Mapping[str, Any]) -> dict[str, str]:
    """Attributes as Parquet keeps them; a list as JSON."""
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in attrs.items() if v}


def _default_key(modality: Modality) -> str:
    keys = KEYS.get(modality.model.lower(), KEYS[""])
    return keys.get(modality.name, f"embedding_{modality.name}")


def _plain(attrs: Any) -> dict[str, Any]:
    return {str(k): v for k, v in attrs.items() if isinstance(v, (str, int, float))}
