"""Scores of the steps of sequences as lazy arrays."""

from __future__ import annotations

from typing import Protocol
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from .folds import FOLD_SEED, SAMPLE_SEED, keys_of
from .matching import objects_for
from .objects import OBJECT, TIME, Data, as_float32, usable
from .protocol import Scorer
from .rows import Rows
from .summary import piece_of
from .threads import one_thread


class StepScorer(Scorer, Protocol):
    """A detector that scores steps."""

    def times_of(self, rows: Rows) -> NDArray[np.float64]:
        """Errors of the steps of valid rows; (n, steps)."""


def stepwise(detector: StepScorer, data: Data, steps: int) -> xr.DataArray:
    """Score each step of sequences, lazily: (object, time), NaN where there is none."""
    objects = objects_for(detector, data)
    (modality,) = detector.modalities
    rows = da.core.normalize_chunks(piece_of(objects.widths), shape=(len(objects),), dtype=np.float64)[0]
    model = delayed(detector, name=f"detector-{uuid4().hex}", traverse=False)
    inputs = [objects.arrays[modality].rechunk((rows, -1)), "ow"]
    group = objects.ids if objects.group is None else objects.group
    for values in (objects.known[modality], objects.ids, group):
        inputs += [da.from_array(values, chunks=(rows,), name=False), "o"]
    lazy: da.Array = da.blockwise(
        _score_steps, "ot", model, None, steps, None, *inputs, new_axes={"t": steps}, concatenate=True,
        dtype=np.float64, meta=np.empty((0, 0)),
    )  # fmt: skip
    name = f"{detector.kind}_error"
    return xr.DataArray(lazy, dims=(OBJECT, TIME), coords={"object_id": (OBJECT, objects.ids)}, name=name)


def _score_steps(
    detector: StepScorer,
    steps: int,
    vectors: NDArray[np.float32],
    known: NDArray[np.bool_],
    *ids: NDArray[np.generic],
) -> NDArray[np.float64]:
    """Score the steps of one chunk."""
    values = as_float32(vectors)
    valid = usable(values, known)
    (modality,) = detector.modalities
    keys, groups = keys_of(ids[0], SAMPLE_SEED), keys_of(ids[1], FOLD_SEED)
    rows = Rows(0, {modality: values}, {modality: valid}, keys, groups)
    found = np.full((len(values), steps), np.nan)
    if valid.any():
        with one_thread():
            found[valid] = detector.times_of(rows.having([modality]))
    return found
