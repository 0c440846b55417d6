"""Summaries of stores on disk, between the spans they are made of and the detectors that learn from them.

Arrays are ``.npy`` files that are mapped when they are read, so that a sample of half a gigabyte is no
anonymous memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...anomaly.moments import Moments
from ...anomaly.rows import Rows
from ...anomaly.summary import Summary, merge_summaries, sample_limit
from ...errors import InputError

META = "summary.json"


def write_summary(folder: Path, summary: Summary) -> None:
    """Write a summary into a folder that is there."""
    sample = summary.sample
    arrays: dict[str, Any] = {"keys": sample.keys, "groups": sample.groups}
    for modality, vectors in sample.vectors.items():
        arrays[f"vectors_{modality}"] = vectors
        arrays[f"valid_{modality}"] = sample.valid[modality]
    for modality, moments in summary.moments.items():
        for name in ("count", "mean", "scatter"):
            arrays[f"{name}_{modality}"] = [getattr(one, name) for one in moments]
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", np.asarray(values))
    meta = {
        "folds": summary.folds,
        "objects": summary.objects,
        "modalities": list(sample.vectors),
        "moments": list(summary.moments),
        "unusable": dict(summary.unusable),
    }
    (folder / META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


def read_summary(folder: Path) -> Summary:
    """Read what :func:`write_summary` wrote, its sample mapped.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))

        def array(name: str) -> Any:
            path = folder / f"{name}.npy"
            return np.load(path, mmap_mode="r" if path.stat().st_size > 2**20 else None)

        sample = Rows(
            0,
            {m: array(f"vectors_{m}") for m in meta["modalities"]},
            {m: array(f"valid_{m}") for m in meta["modalities"]},
            array("keys"),
            array("groups"),
        )
        moments = {}
        for m in meta["moments"]:
            columns = [array(f"{name}_{m}") for name in ("count", "mean", "scatter")]
            moments[m] = tuple(
                Moments(int(c), mean, scatter) for c, mean, scatter in zip(*columns, strict=True)
            )
        return Summary(meta["folds"], meta["objects"], moments, sample, meta["unusable"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        words = " ".join(str(error).split())
        raise InputError(f"the summary in {folder} cannot be read ({words}): begin anew") from None


def merged(folders: Sequence[Path]) -> Summary:
    """The summary of several stores: as it is where there is one."""
    summaries = [read_summary(folder) for folder in folders]
    if len(summaries) == 1:
        return summaries[0]
    objects = sum(s.objects for s in summaries)
    widths = {m: v.shape[1] for m, v in summaries[0].sample.vectors.items()} if summaries else {}
    return merge_summaries(summaries, sample_limit(objects, widths))
