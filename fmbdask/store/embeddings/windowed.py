"""Windows of time series as objects of a store: of tables of telemetry or light curves, of target pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...sequences import Shape, Windows, default_blocks, flatten, windows
from ..readers.files import stamp_of
from .importing import WINDOW, Imported, Progress, Tally, named_source, told_gaps
from .layout import Modality
from .opening import read_store, sources_of
from .series import Series, is_target_pixels, series_of_table, series_of_target_pixels
from .writer import EmbeddingWriter

#: Numbers of a window at most: blocks of 4096 of them are held in memory.
WIDEST = 2**16
#: Bytes of windows that are made at a time.
PIECE = 64 * 2**20
SEQUENCE, LAST = "sequence", "features"


def import_windows(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    window: int,
    stride: int = 1,
    time: str | None = None,
    series: str | None = None,
    blocks: int | None = None,
    columns: str | Sequence[str] | None = None,
    model: str = "",
    version: str = "",
    preprocessing: str = "",
    append: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Cut time series into windows, each an object of a store, in bounded memory.

    Parameters
    ----------
    path : path
        A table (CSV, Parquet, or ``.npz`` with X) with one row a step, or a Kepler, K2 or TESS target pixel
        file, each pixel of which is a series. Of a table all columns of numbers are features but the series,
        the time, ids, labels and positions.
    out : path
        The store.
    window, stride : int
        Steps of a window, and from one window to the next.
    time : str, optional
        Column by which the steps of a series are put in order; ``time``, ``timestamp``, ``date``, ``mjd`` or
        the like by themselves, else the order of the rows.
    series : str, optional
        Column that says which series a row belongs to; by itself the id of the object where ids repeat, else
        all rows are one series, called after the file.
    blocks : int, optional
        Parts that each series is cut into. Windows of different parts have no step in common, so that
        detectors that put ``block`` into folds (``group="block"``) never see a step of what they score. By
        itself about 50 in all, fewer where more than a fifth of the windows would be lost at the cuts.
    columns : str or sequence of str, optional
        Features of a table, or the column of a target pixel file (``FLUX``, ``RAW_CNTS``).
    model, version, preprocessing : str
        Provenance, kept with both modalities.
    append, overwrite : bool
        Whether to go on after the last object of a store that is there, or to replace it.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    Imported
        How many windows, how many of them are valid, and what was decided.

        The store has the modalities ``sequence``, whose vectors hold ``window`` steps (see
        :func:`fmbdask.store.embeddings.sequences_of`; a step with a cell that is empty or not finite is not
        valid, nor is a cadence whose QUALITY forbids to use it), and ``features``, the last step. Columns:
        ``object_id`` (series and first step, counted from 0), ``series``, ``start``, ``block``,
        ``start_time`` of the first step where there is a time, and ``label`` where there are labels: 1 if any
        step is anomalous, 0 if all are known to be ordinary, else -1.

    Raises
    ------
    InputError
        If the file cannot be read, no window fits, or the disk is too short: then nothing is written.
    OutputExistsError
        If the store exists and is neither to be appended to nor overwritten.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "pump.csv"
    >>> _ = path.write_text("time,flow\\n" + "".join(f"{i},{i * i}\\n" for i in range(40)))
    >>> import_windows(path, path.with_suffix(".zarr"), window=10, stride=5).objects
    7
    """
    path, out = Path(path), Path(out)
    old = read_store(out) if append else None
    stamp = stamp_of(path)
    with _opened(path, out, time, series, columns) as found:
        lengths = np.diff(found.bounds)
        parts = default_blocks(lengths, window) if blocks is None else blocks
        cut = windows(lengths, window, stride, parts)
        shape = Shape(window, len(found.feature_names))
        if shape.width > WIDEST:
            raise InputError(
                f"{path}: a window of {window} steps of {shape.features} features holds {shape.width} "
                f"numbers and at most {WIDEST} are possible: give shorter windows or fewer columns "
                "(--modality features=A,B)"
            )
        first = 0
        if old is not None and "block" in old.columns:
            first = int(old.column("block").max(initial=-1)) + 1
        key = columns if isinstance(columns, str) else ",".join(columns or ())
        last = Modality(
            LAST, shape.features, model, version, "", preprocessing, key or LAST,
            feature_names=found.feature_names, units=found.units,
        )  # fmt: skip
        whole = replace(
            last, name=SEQUENCE, features=shape.width, embedding_key=key or SEQUENCE, sequence=str(shape)
        )
        modalities = [whole, last]
        if old is not None and list(old.modalities) != modalities:
            raise InputError(
                f"{out} holds other windows or other columns than those of {path}: give the same --window "
                "and columns, or make another store"
            )
        files: list[Any] = [] if old is None else sources_of(old)
        files.append(named_source(path, stamp, len(cut), **{WINDOW: window, "stride": stride}))
        tallies = {m.name: Tally(m.features) for m in modalities}
        with EmbeddingWriter(
            out,
            None if append else modalities,
            objects=len(cut),
            append=append,
            overwrite=overwrite,
            attrs={"sources": files},
        ) as writer:
            _write(found, cut, shape, first, writer, tallies, progress)
    notes = [*found.notes, *_told(lengths, cut, window, stride, parts, str(path))]
    notes += told_gaps(tallies[LAST], f"{path}, last steps")
    return Imported(out, len(cut), writer.objects, tallies, notes)


@contextmanager
def _opened(
    path: Path, out: Path, time: str | None, series: str | None, columns: str | Sequence[str] | None
) -> Iterator[Series]:
    """Series of a file; what memory should not hold lies in a file beside the store that has no name."""
    if is_target_pixels(path):
        if time is not None or series is not None:
            raise InputError(f"{path} has its own times and series: leave --time and --series out")
        yield series_of_target_pixels(path, columns if isinstance(columns, str) else None)
        return
    with series_of_table(path, out, time, series, columns) as found:
        yield found


def _write(
    found: Series,
    cut: Windows,
    shape: Shape,
    first: int,
    writer: EmbeddingWriter,
    tallies: dict[str, Tally],
    report: Progress | None,
) -> None:
    """Gather windows piece by piece."""
    size = max(1, PIECE // (shape.width * 4))
    steps = np.arange(shape.steps)
    for begin in range(0, len(cut), size):
        part = slice(begin, begin + size)
        number, start = cut.series[part], cut.start[part]
        at = found.bounds[number][:, None] + start[:, None] + steps
        rows = at if found.order is None else found.order[at]
        values = np.asarray(found.values[rows], np.float32)
        names = found.names[number]
        columns = {name: column[number] for name, column in found.columns.items()}
        columns |= {"series": names, "start": start, "block": first + cut.block[part]}
        if found.times is not None:
            columns["start_time"] = found.times[rows[:, 0]]
        if found.labels is not None:
            marks = found.labels[rows]
            columns["label"] = np.where(
                (marks == 1).any(axis=1), 1, np.where((marks == 0).all(axis=1), 0, -1)
            ).astype(np.int64)
        ids = np.strings.add(np.strings.add(names.astype("U"), ":"), start.astype("U"))
        last = values[:, -1]
        valid = writer.write(ids, {SEQUENCE: flatten(values), LAST: last}, columns)
        for name, good in valid.items():
            tallies[name].valid += int(good.sum())
            tallies[name].not_finite += int((~good).sum())
        for feature, bad in zip(found.feature_names, (~np.isfinite(last)).sum(axis=0), strict=True):
            if bad:
                tallies[LAST].gaps[feature] = tallies[LAST].gaps.get(feature, 0) + int(bad)
        if report is not None:
            report(min(begin + size, len(cut)), len(cut), "windows written")


def _told(lengths: Any, cut: Windows, window: int, stride: int, parts: int, path: str) -> list[str]:
    """Say how series were cut, and what was lost by it."""
    short = int((lengths < window).sum())
    notes = [
        f"{path}: {len(lengths)} series of {int(lengths.min())} to {int(lengths.max())} steps, each in "
        f"{parts} blocks: {len(np.unique(cut.block))} blocks in all, for --group block"
    ]
    if short:
        notes.append(f"{path}: {short} series are shorter than a window of {window} steps and were left out")
    lost = len(windows(lengths, window, stride)) - len(cut)
    if lost:
        notes.append(f"{path}: {lost} windows lie across blocks and were left out (--blocks 1 keeps them)")
    return notes
