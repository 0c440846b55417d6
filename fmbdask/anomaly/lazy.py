"""Scores as lazy arrays: one task for each chunk of objects, whatever the chunks of the vectors."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from .folds import FOLD_SEED, SAMPLE_SEED, keys_of
from .objects import Objects, as_float32, usable
from .rows import Rows
from .summary import piece_of
from .threads import one_thread

if TYPE_CHECKING:
    from .detector import Detector


def score_lazily(detector: Detector, objects: Objects) -> da.Array:
    """Scores of objects, (n,) float64: chunks of the store are put together where they are small, and cut
    where they are large, so that tiles are full and memory is bounded."""
    size = piece_of(objects.widths)
    rows = da.core.normalize_chunks(size, shape=(len(objects),), dtype=np.float64)[0]
    model = delayed(detector, name=f"{detector.kind}-{uuid4().hex}", traverse=False)
    columns = [objects.arrays[m].rechunk((rows, -1)) for m in detector.modalities]
    whole = [objects.known[m] for m in detector.modalities] + [objects.ids]
    whole += [] if objects.group is None else [objects.group]
    inputs = [x for k, a in enumerate(columns) for x in (a, (0, k + 1))]
    inputs += [x for v in whole for x in (da.from_array(v, chunks=(rows,), name=False), (0,))]
    lazy: da.Array = da.blockwise(
        _score_chunk, (0,), model, None, *inputs, concatenate=True, dtype=np.float64, meta=np.empty(0)
    )
    return lazy


def skipped(scores: xr.DataArray) -> int:
    """How many objects have no score though the store has a vector of them: it is not finite, or zero.

    Parameters
    ----------
    scores : DataArray
        What :meth:`~fmbdask.anomaly.Detector.score` returned. Compute it first, lest it be computed twice.

    Returns
    -------
    int
    """
    return int(scores.isnull().sum()) - int(scores.attrs.get("missing", 0))


def _score_chunk(detector: Detector, *arrays: NDArray[Any]) -> NDArray[np.float64]:
    """Score the objects of one chunk: vectors and flags of each modality, ids, and groups if there are."""
    count = len(detector.modalities)
    vectors = {m: as_float32(v) for m, v in zip(detector.modalities, arrays[:count], strict=True)}
    known = dict(zip(detector.modalities, arrays[count : 2 * count], strict=True))
    valid = {m: usable(v, known[m]) for m, v in vectors.items()}
    for modality, flags in valid.items():
        if flags.sum() < known[modality].sum():  # the same words each time: shown once
            warnings.warn(
                f"some vectors of {modality} are not finite and have no score: fmbdask.anomaly.skipped "
                "counts them",
                stacklevel=1,
            )
    ids = arrays[2 * count]
    rows = Rows(0, vectors, valid, keys_of(ids, SAMPLE_SEED), keys_of(arrays[-1], FOLD_SEED))
    with one_thread():
        return detector.scores_of(rows)
