"""Embeddings from files into stores, and the store that a name or a file stands for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...regions import BLOCK
from ..readers.files import Stamp, stamp_of
from .columns import refuse_repeated
from .ids import read_ids
from .layout import Modality
from .opening import Store, read_store, sources_of
from .sources import TABLES, EmbeddingSource, Found, is_ramp_file, open_source
from .sources.tables import SHOWN
from .writer import EmbeddingWriter

#: ``progress(done, total, text)``: objects written, of how many, and what is being done.
Progress = Callable[[int, int, str], None]

#: What the entry of a file in the attribute ``sources`` has if its windows were taken.
WINDOW = "window"
#: Files of the benchmark are called after their model.
MODELS = ("astroclip", "astropt", "aion")


@dataclass
class Tally:
    """What became of the vectors of one modality; ``gaps`` counts cells without a number by named feature."""

    features: int
    valid: int = 0
    missing: int = 0
    not_finite: int = 0
    zero: int = 0
    gaps: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        bad = {"missing": self.missing, "not finite": self.not_finite, "all zero": self.zero}
        words = [f"{n} {what}" for what, n in bad.items() if n]
        return f"{self.valid} valid vectors of {self.features} numbers" + "".join(f", {w}" for w in words)


@dataclass
class Imported:
    """What an import did."""

    path: Path
    added: int
    objects: int
    modalities: dict[str, Tally]
    notes: list[str] = field(default_factory=list)


def import_embeddings(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    model: str = "",
    version: str = "",
    weights: str | os.PathLike[str] | None = None,
    preprocessing: str = "",
    modalities: Mapping[str, str] | None = None,
    ids: str | os.PathLike[str] | None = None,
    append: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Copy a file of embeddings into a store, block by block.

    Parameters
    ----------
    path : path
        A ``.pt`` list of dictionaries, ``.npy``, ``.npz``, CSV, Parquet or HDF5. Vectors are stored as they
        are; those that are missing, not finite or all zero are not valid, and are counted. A table of named
        columns (CSV, Parquet, or ``.npz`` with X and y) becomes one modality ``features``: all columns of
        numbers but ids, positions and labels. Its zeros are values; a row with an empty cell is not valid.
    out : path
        The store.
    model, version, preprocessing : str
        Provenance, kept with each modality.
    weights : path, optional
        The weights that were used; their sha256 is kept.
    modalities : mapping of str, optional
        What the file calls the vectors of each modality, a prefix for numbered columns, or names of columns
        with commas between them; only these are taken. By default keys of the benchmark and ``embedding_*``
        are known, other names stay.
    ids : path, optional
        Ids of the objects, in their order, for a file without: text, CSV, ``.npy`` or Parquet.
    append : bool
        Whether to go on after the last object of a store that is there.
    overwrite : bool
        Whether a store that is there is replaced.
    progress : callable, optional
        Called as ``progress(done, total, text)`` after each block.

    Returns
    -------
    Imported
        How many objects, how many valid vectors, and what was left out.

    Raises
    ------
    InputError
        If the file cannot be read or does not fit, ids stand twice, or the disk is too short: then nothing
        is written.
    OutputExistsError
        If the store exists and is neither to be appended to nor overwritten.
    """
    source = open_source(path, modalities)
    known = source.ids
    notes = list(source.notes)
    if ids is not None:
        known = read_ids(ids)
        if len(known) != len(source.ids):
            raise InputError(
                f"{ids} has {len(known)} ids, {path} has {len(source.ids)} objects: give one each"
            )
        notes = [note for note in notes if "no object ids" not in note]
    sha256 = "" if weights is None else sha256_of(Path(weights))
    told = {"model": model, "version": version, "weights_sha256": sha256, "preprocessing": preprocessing}
    wanted = [modality_of(m, told) for m in source.modalities]
    old = read_store(out) if append else None
    if old is not None:
        _check_fits(old, wanted, told, source)
    refuse_repeated(known, str(path), None if old is None else old.column("object_id"))
    stamp = stamp_of(path)
    files: list[Any] = [] if old is None else sources_of(old)
    files.append(named_source(path, stamp, len(known)))
    tallies = {m.name: Tally(m.features) for m in source.modalities}
    writer = EmbeddingWriter(
        out,
        None if append else wanted,
        objects=len(known),
        append=append,
        overwrite=overwrite,
        attrs={"sources": files},
    )
    with writer:
        _copy(source, known, writer, tallies, progress)
    notes += [note for tally in tallies.values() for note in told_gaps(tally, str(path))]
    return Imported(Path(out), len(known), writer.objects, tallies, notes)


def _copy(
    source: EmbeddingSource,
    ids: Any,
    writer: EmbeddingWriter,
    tallies: dict[str, Tally],
    report: Progress | None,
) -> None:
    done = 0
    names = {m.name: m.feature_names for m in source.modalities}
    for block in source.blocks(BLOCK):
        n = len(next(iter(block.vectors.values())))
        part = slice(done, done + n)
        valid = writer.write(
            ids[part], block.vectors, {k: v[part] for k, v in source.columns.items()}, block.present
        )
        for name, vectors in block.vectors.items():
            there = block.present.get(name)
            present = valid[name] | True if there is None else there
            bad = present & ~valid[name]
            tally = tallies[name]
            zero = int((~vectors[bad].any(axis=1)).sum())
            for feature, count in zip(names[name], (~np.isfinite(vectors[bad])).sum(axis=0), strict=False):
                if count:
                    tally.gaps[feature] = tally.gaps.get(feature, 0) + int(count)
            tally.valid += int(valid[name].sum())
            tally.missing += int((~present).sum())
            tally.zero += zero
            tally.not_finite += int(bad.sum()) - zero
        done += n
        if report is not None:
            report(done, len(ids), "objects imported")
    if done != len(ids):
        raise InputError(f"{source.path} ended after {done} of {len(ids)} objects: get a fresh copy of it")


def _check_fits(old: Store, wanted: list[Modality], told: Mapping[str, str], source: EmbeddingSource) -> None:
    """Refuse to append vectors of another modality, length or model."""
    kept = {m.name: m for m in old.modalities}
    for m in wanted:
        if m.name not in kept:
            raise InputError(
                f"{old.path} has no modality {m.name}, {source.path} has: choose with --modality, or make a "
                "store of it and join the two"
            )
        if m.features != kept[m.name].features:
            raise InputError(
                f"{source.path} has vectors of {m.features} numbers for {m.name}, {old.path} of "
                f"{kept[m.name].features}: append what the same model made"
            )
        for key, value in m.meaning.items():
            before = kept[m.name].meaning[key]
            if value != before:
                raise InputError(
                    f"{source.path} has other {key.replace('_', ' ')} of {m.name} than {old.path}: append "
                    "the same columns, in the same order (--modality NAME=A,B,C)"
                )
        for key, value in told.items():
            before = getattr(kept[m.name], key)
            if value and value != before:
                raise InputError(
                    f"{old.path} was made with {key} {before or 'unknown'}, not {value}: make another "
                    "store and join the two"
                )


def modality_of(found: Found, told: Mapping[str, str]) -> Modality:
    """A modality of a file as it is stored."""
    return Modality(
        found.name, found.features, embedding_key=found.key, sequence=found.sequence,
        feature_names=found.feature_names, units=found.units, **told,
    )  # fmt: skip


def named_source(path: str | os.PathLike[str], stamp: Stamp, objects: int, **more: Any) -> dict[str, Any]:
    """A file as an entry of the attribute ``sources``."""
    told = {"path": str(Path(path).absolute()), "bytes": stamp.size, "mtime_ns": stamp.mtime_ns}
    return {**told, "objects": objects, **more}


def told_gaps(tally: Tally, path: str) -> list[str]:
    """Say which columns make rows not valid."""
    if not tally.gaps:
        return []
    worst = sorted(tally.gaps, key=lambda name: -tally.gaps[name])
    told = ", ".join(f"{name} ({tally.gaps[name]})" for name in worst[:SHOWN])
    more = f" and {len(worst) - SHOWN} other columns" if len(worst) > SHOWN else ""
    rows = tally.missing + tally.not_finite
    return [f"{path}: {rows} rows are not valid: cells are empty, or no finite float32, in {told}{more}"]


def sha256_of(path: Path) -> str:
    """sha256 of a file, in hexadecimal digits.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): check the path of the weights"
        ) from error


def find_store(text: str | os.PathLike[str], *, progress: Progress | None = None) -> Path:
    """Find the store that a path stands for; a ``.pt`` file or a table is imported once, beside itself.

    Parameters
    ----------
    text : path
        A store, or a ``.pt`` file, ``.csv``, ``.tsv``, ``.parquet`` or ``.npz``: ``X.pt`` becomes ``X.zarr``,
        which is used again while size and time of the file are those it was made from. The model is taken
        from the name of the file where that holds ``aion``, ``astropt`` or ``astroclip``.
    progress : callable, optional
        Called as ``progress(done, total, text)`` while a file is imported.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    InputError
        If it is none of these; an exposure is told to be one.
    """
    path = Path(text)
    if path.is_dir():
        return read_store(path).path
    if path.suffix.lower() in (".pt", ".pth", *TABLES) and path.exists():
        return _beside(path, progress)
    if path.exists():
        if is_ramp_file(path):
            raise InputError(f"{path} is an exposure, not embeddings: use `fmbdask ramps detect {path}`")
        raise InputError(
            f"{path} is no embedding store: make one with `fmbdask embeddings import {path} -o "
            f"{path.with_suffix('.zarr')}`"
        )
    raise InputError(
        f"{path} is neither a store nor a table nor a .pt file that is there: check the path or the name"
    )


def _beside(path: Path, progress: Progress | None) -> Path:
    """Import a file beside itself, unless that was done since it last changed."""
    store = path.with_suffix(".zarr")
    stamp = stamp_of(path)
    overwrite = False
    if store.exists():
        made_from = sources_of(read_store(store))
        if len(made_from) != 1 or Path(made_from[0]["path"]).name != path.name:
            raise InputError(f"{store} is there and not made from {path} alone: name the store itself")
        if (made_from[0]["bytes"], made_from[0]["mtime_ns"]) == (stamp.size, stamp.mtime_ns):
            return store
        if WINDOW in made_from[0]:
            raise InputError(
                f"{path} has changed since {store} was made of its windows: import it again (--overwrite)"
            )
        overwrite = True
    elif not os.access(path.parent, os.W_OK):
        raise InputError(
            f"{path.absolute().parent} cannot be written to: `fmbdask embeddings import {path} -o EMB.zarr` "
            "puts the store elsewhere, and EMB.zarr stands for it"
        )
    model = next((name for name in MODELS if name in path.stem.lower()), "")
    import_embeddings(path, store, model=model, overwrite=overwrite, progress=progress)
    return store
