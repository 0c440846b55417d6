"""Scores as lazy arrays: one task for each chunk of objects, whatever the chunks of the vectors."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from ..errors import InputError
from .folds import FOLD_SEED, SAMPLE_SEED, keys_of
from .matching import objects_for
from .objects import OBJECT, Data, Objects, as_float32, usable
from .protocol import Scorer, scored
from .rows import Rows
from .summary import piece_of
from .threads import one_thread


def scores(detectors: Mapping[str, Scorer], data: Data) -> xr.Dataset:
    """Score objects with several detectors, lazily: read once, and what they have in common is made once.

    Parameters
    ----------
    detectors : mapping
        Name -> fitted detector; all with the same groups.
    data : Dataset, DataArray or array
        See :meth:`~fmbdask.anomaly.Detector.score`.

    Returns
    -------
    Dataset
        One variable (object,) for each name, the same bits as :meth:`~fmbdask.anomaly.Detector.score` gives.

    Raises
    ------
    InputError
        If there is none, one is not fitted or was fitted to something else, or their groups differ.
    """
    if not detectors:
        raise InputError("there are no detectors to score with: give at least one")
    if len({d.group for d in detectors.values()}) > 1:
        raise InputError("these detectors were fitted with different groups: score with one after the other")
    each = {name: objects_for(detector, data) for name, detector in detectors.items()}
    arrays = {m: a for o in each.values() for m, a in o.arrays.items()}
    known = {m: k for o in each.values() for m, k in o.known.items()}
    first = next(iter(each.values()))
    objects = Objects(arrays, first.ids, known, first.group, {})
    table = _table(list(detectors.values()), objects)
    found = {}
    for place, (name, detector) in enumerate(detectors.items()):
        there = np.logical_and.reduce([known[m] for m in detector.modalities])
        attrs = {"missing": int(len(there) - there.sum())}
        found[name] = xr.DataArray(table[:, place], dims=(OBJECT,), attrs=attrs)
    return xr.Dataset(found, coords={"object_id": (OBJECT, objects.ids)})


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


def _table(detectors: Sequence[Scorer], objects: Objects) -> da.Array:
    """Scores (n, detectors) float64: chunks of the store are put together where they are small, so that tiles
    of folds are full, and cut where they are large, so that memory is bounded."""
    size = piece_of(objects.widths)
    rows = next(iter(objects.arrays.values())).chunks[0]
    if max(rows) > size or any(d.by_fold for d in detectors):
        rows = da.core.normalize_chunks(size, shape=(len(objects),), dtype=np.float64)[0]
    # by name, not in every task: workers of a cluster fetch them once
    models = delayed(list(detectors), name=f"detectors-{uuid4().hex}", traverse=False)
    whole = [*objects.known.values(), objects.ids, *([] if objects.group is None else [objects.group])]
    inputs: list[Any] = []
    for k, array in enumerate(objects.arrays.values()):
        inputs += [array.rechunk((rows, -1)), (0, k + 2)]
    for values in whole:
        inputs += [da.from_array(values, chunks=(rows,), name=False), (0,)]
    lazy: da.Array = da.blockwise(
        _score_chunk, (0, 1), models, None, objects.modalities, None, *inputs,
        new_axes={1: len(detectors)}, concatenate=None, dtype=np.float64, meta=np.empty((0, 0)),
    )  # fmt: skip
    return lazy


def _score_chunk(detectors: Sequence[Scorer], modalities: Sequence[str], *arrays: Any) -> NDArray[np.float64]:
    """Score the objects of one chunk: vectors and flags of each modality, ids, and groups if there are."""
    count = len(modalities)
    # along features there is one block, in a list
    vectors = {m: as_float32(v) for m, (v,) in zip(modalities, arrays[:count], strict=True)}
    known = dict(zip(modalities, arrays[count : 2 * count], strict=True))
    valid = {m: usable(v, known[m]) for m, v in vectors.items()}
    for modality, flags in valid.items():
        if flags.sum() < known[modality].sum():  # the same words each time: shown once
            warnings.warn(
                f"some vectors of {modality} are not finite and have no score: fmbdask.anomaly.skipped "
                "counts them",
                stacklevel=1,
            )
    keys = groups = np.zeros(len(arrays[-1]), np.uint64)
    if any(d.by_fold for d in detectors):
        keys, groups = keys_of(arrays[2 * count], SAMPLE_SEED), keys_of(arrays[-1], FOLD_SEED)
    rows = Rows(0, vectors, valid, keys, groups)
    with one_thread():
        return np.stack([scored(detector, rows) for detector in detectors], axis=1)
