"""Scores of the objects of a store on disk, and those of all stores of a run as columns that are mapped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...anomaly.detector import Detector
from ...anomaly.protocol import scored
from ...anomaly.rows import Rows
from ...anomaly.threads import one_thread
from ...errors import InputError
from .ranking import mapped

NAME = "scores.parquet"
ID = "object_id"
#: Columns of p-values are called as those of the scores, with this behind.
P = "_p"

Scores = Mapping[str, NDArray[np.float64]]


def scores_of(detectors: Mapping[str, Detector], pieces: Iterator[Rows]) -> dict[str, NDArray[np.float64]]:
    """Score pieces of a span by all detectors; NaN where there is no finite vector."""
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in detectors}
    with one_thread():
        for rows in pieces:
            for name, detector in detectors.items():
                found[name].append(scored(detector, rows))
    return {name: np.concatenate([*parts, np.zeros(0)]) for name, parts in found.items()}


def write_scores(
    path: Path, spans: Iterator[tuple[NDArray[Any], Scores]], detectors: Mapping[str, Detector]
) -> dict[str, int]:
    """Write the scores of a store and their p-values, one group of rows a span; what could not be scored.

    Parameters
    ----------
    path : Path
    spans : iterator of (ids, scores)
        In their order.
    detectors : mapping

    Returns
    -------
    mapping
        Detector -> objects without a score.
    """
    missing = dict.fromkeys(detectors, 0)
    writer: pq.ParquetWriter | None = None
    try:
        for ids, scores in spans:
            names = pa.array(ids.astype(object) if ids.dtype.kind == "U" else ids)
            columns: dict[str, pa.Array] = {ID: names}
            for name, detector in detectors.items():
                values = scores[name]
                missing[name] += int(np.isnan(values).sum())
                assert detector.calibration is not None
                columns[name] = pa.array(values)
                columns[name + P] = pa.array(detector.calibration.p_value(values))
            table = pa.table(columns)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table, row_group_size=max(1, table.num_rows))
    finally:
        if writer is not None:
            writer.close()
    return missing


@dataclass(frozen=True)
class Scored:
    """Scores of all objects of a run.

    Attributes
    ----------
    ids : (n,) array
        Numbers, or text in UTF-8.
    columns : mapping
        Detector -> (n,) scores; with :data:`P` behind its name p-values.
    begins : (s + 1,) int64
        Where each store begins, and the end.
    """

    ids: NDArray[Any]
    columns: Mapping[str, NDArray[np.float64]]
    begins: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def p(self, name: str) -> NDArray[np.float64]:
        """p-values of a detector."""
        return self.columns[name + P]

    def names(self) -> list[str]:
        """Detectors."""
        return [name for name in self.columns if not name.endswith(P)]


def gather(paths: Sequence[Path], scratch: Path) -> Scored:
    """Put the scores of stores one after the other, in files that are mapped.

    Raises
    ------
    InputError
        If one cannot be read, or ids are numbers in one store and text in another.
    """
    try:
        files = [pq.ParquetFile(path) for path in paths]
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"scores cannot be read ({error}): score the store again") from None
    counts = [file.metadata.num_rows for file in files]
    begins = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    total = int(begins[-1])
    kinds = {str(file.schema_arrow.field(ID).type) for file in files}
    if len(kinds) > 1:
        raise InputError(
            "ids are numbers in one store and text in another: stores of one survey use one kind"
        )
    text = not pa.types.is_integer(files[0].schema_arrow.field(ID).type)
    ids = mapped(scratch, total, f"S{_longest(files)}" if text else np.int64)
    names = [name for name in files[0].schema_arrow.names if name != ID]
    columns = {name: mapped(scratch, total, np.float64) for name in names}
    for file, begin in zip(files, begins, strict=False):
        at = int(begin)
        for batch in file.iter_batches(2**17):
            part = slice(at, at + batch.num_rows)
            own = batch.column(ID)
            ids[part] = own.cast(pa.binary()).to_numpy(zero_copy_only=False) if text else own.to_numpy()
            for name in names:
                columns[name][part] = batch.column(name).to_numpy()
            at += batch.num_rows
        file.close()
    return Scored(ids, columns, begins)


def _longest(files: Sequence[pq.ParquetFile]) -> int:
    """Bytes of the longest id."""
    found = 1
    for file in files:
        for batch in file.iter_batches(2**17, columns=[ID]):
            found = max(found, pc.max(pc.binary_length(batch.column(ID))).as_py() or 0)
    return found
