"""Time series in files: rows of a table, put in order, and the pixels of target pixel files."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import BLOCK, Region
from ..readers import format_of
from ..readers import open_source as open_exposure
from ..readers.files import stem_of
from ..readers.target_pixels import TargetPixels
from .columns import Column, known
from .layout import check_space
from .sources import EmbeddingSource, is_ramp_file, open_source
from .sources.protocol import ID_NAMES
from .sources.tables import FEATURES, TIME_NAMES, column_name


@dataclass(frozen=True)
class Series:
    """Series, one after the other.

    Attributes
    ----------
    values : (rows, features) array
        NaN where there is none; in memory or a memory map.
    order : (rows,) int64, optional
        Where the steps lie in ``values``; in their order without it.
    bounds : (s + 1,) int64
        Where each series begins, in the order of its steps.
    names : (s,) array
    feature_names : tuple of str
    units : str
    times, labels : (rows,) array, optional
        In the order of ``values``; labels are 0, 1, or anything else where they are not known.
    columns : mapping of (s,) arrays
    notes : list of str
    """

    values: NDArray[np.float32]
    order: NDArray[np.int64] | None
    bounds: NDArray[np.int64]
    names: Column
    feature_names: tuple[str, ...]
    units: str = ""
    times: Column | None = None
    labels: Column | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_target_pixels(path: Path) -> bool:
    """Whether a file holds target pixels.

    Raises
    ------
    InputError
        If it is an exposure of another kind.
    """
    if not is_ramp_file(path):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if format_of(path) == "fits" and isinstance(open_exposure(path), TargetPixels):
            return True
    raise InputError(
        f"{path} is an exposure: `fmbdask ramps sequences {path} -o EMB.zarr` makes sequences of its pixels"
    )


def series_of_target_pixels(path: Path, column: str | None = None) -> Series:
    """Read the pixels of a target pixel file as series; cadences that are not to be used are NaN.

    Raises
    ------
    InputError
        If the file is damaged or has no such column.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        source = open_exposure(path, extension=column)
    assert isinstance(source, TargetPixels)
    _, cadences, rows, columns = source.shape
    whole = Region(0, 0, rows, 0, columns)
    values = source.read(whole).astype(np.float32)
    values[source.read_flags(whole) > 0] = np.nan
    pixels = np.arange(rows * columns)
    y, x = np.divmod(pixels, columns)
    stem = stem_of(path)
    assert source.read_times is not None
    return Series(
        values=values.reshape(cadences, -1).T.reshape(-1, 1),
        order=None,
        bounds=np.arange(len(pixels) + 1) * cadences,
        names=np.array([f"{stem}:{j},{i}" for j, i in zip(y, x, strict=True)]),
        feature_names=(source.column.name,),
        units=str(source.attrs["units"]),
        times=np.tile(source.read_times, len(pixels)),
        columns={"y": y, "x": x},
        notes=[
            *(str(w.message) for w in said),
            f"{path}: {int(source.unusable.sum())} of {cadences} cadences are not to be used, says QUALITY",
        ],
    )


@contextmanager
def series_of_table(
    path: Path,
    out: Path,
    time: str | None = None,
    series: str | None = None,
    columns: str | Sequence[str] | None = None,
) -> Iterator[Series]:
    """Read a table of time series; its numbers are kept in a file without a name, on the disk of the store.

    Parameters
    ----------
    path, out : Path
        The table, and the store that will be written.
    time, series, columns
        As :func:`~.windowed.import_windows` takes them.
    """
    key = FEATURES if columns is None else columns if isinstance(columns, str) else ",".join(columns)
    aside = [name for name in (time, series) if name is not None]
    source = open_source(path, {FEATURES: key} if columns is not None else None, aside=(*aside, *TIME_NAMES))
    if len(source.modalities) != 1:
        names = ", ".join(m.name for m in source.modalities)
        raise InputError(f"{path} has vectors {names}: choose one with --modality features=NAME")
    (found,) = source.modalities
    notes = [note for note in source.notes if "no object ids" not in note]
    times = _times(source, time, notes)
    titles, number = _named(source, series, notes)
    order = None
    keys = [number] if times is None else [_ranks(times), number]
    if len(titles) > 1 or times is not None:
        order = np.lexsort(keys)
        if np.array_equal(order, np.arange(len(order))):
            order = None
    rows = len(source.ids)
    check_space(out, rows * found.features * 4)
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    # read through once, since windows overlap and rows may be in any order
    with tempfile.TemporaryFile(dir=out.absolute().parent) as file:
        for block in source.blocks(BLOCK):
            values = np.ascontiguousarray(block.vectors[found.name], np.float32)
            with np.errstate(invalid="ignore"):
                values = np.where(np.isfinite(values), values, np.float32(np.nan))
            file.write(values.tobytes())
        file.flush()
        if os.fstat(file.fileno()).st_size != rows * found.features * 4:
            raise InputError(f"{path} changed while it was read: import it again")
        yield Series(
            values=np.memmap(file, np.float32, "r", shape=(rows, found.features)),
            order=order,
            bounds=np.concatenate([[0], np.cumsum(np.bincount(number, minlength=len(titles)))]),
            names=titles,
            feature_names=found.feature_names or tuple(f"x{i}" for i in range(found.features)),
            units=found.units,
            times=times,
            labels=source.columns.get("label"),
            notes=notes,
        )


def _times(source: EmbeddingSource, time: str | None, notes: list[str]) -> Column | None:
    """The column by which steps are put in order."""
    lowered = {name.lower(): name for name in source.columns}
    usual = next((lowered[name] for name in TIME_NAMES if name in lowered), None)
    name = usual if time is None else column_name(time)
    if name is None:
        notes.append(f"{source.path} has no column time: steps are in the order of its rows (--time COLUMN)")
        return None
    if name not in source.columns:
        raise InputError(f"{source.path} has no column {time} to order steps by: it has {_list(source)}")
    values = source.columns[name]
    missing = ~known(values)
    if missing.any():
        raise InputError(
            f"{source.path}: {name} of row {int(np.argmax(missing)) + 1} is empty: give every step a time"
        )
    if time is None:
        notes.append(f"{source.path}: steps are ordered by {name}")
    return values


def _named(source: EmbeddingSource, series: str | None, notes: list[str]) -> tuple[Column, NDArray[np.int64]]:
    """Names of the series in the order they first appear, and the series of each row."""
    has_ids = not any("no object ids" in note for note in source.notes)
    if series is not None and column_name(series) in source.columns:
        values = source.columns[column_name(series)]
    elif series is not None and has_ids and series.lower() in ID_NAMES:
        values = source.ids
    elif series is not None:
        raise InputError(f"{source.path} has no column {series} to tell series by: it has {_list(source)}")
    elif has_ids and len(np.unique(source.ids)) < len(source.ids):
        values = source.ids
        notes.append(f"{source.path}: rows of the same id are a series")
    else:
        return np.array([stem_of(source.path)]), np.zeros(len(source.ids), np.int64)
    unique, first, number = np.unique(values, return_index=True, return_inverse=True)
    place = np.empty(len(unique), np.int64)
    place[np.argsort(first)] = np.arange(len(unique))
    return unique[np.argsort(first)], place[number]


def _ranks(values: Column) -> NDArray[Any]:
    """Numbers in the order of values."""
    if values.dtype.kind != "U":
        return values
    ranks: NDArray[Any] = np.unique(values, return_inverse=True)[1]
    return ranks


def _list(source: EmbeddingSource) -> str:
    return ", ".join(source.columns) or "none"
