"""Summaries of stores on disk, between the spans they are made of and the detectors that learn from them.

Arrays are ``.npy`` files that are mapped when they are read, so that a sample of half a gigabyte is no
anonymous memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...anomaly.moments import Moments
from ...anomaly.rows import Rows
from ...anomaly.summary import Summary, joined, merge_summaries, sample_limit
from ...errors import InputError

META = "summary.json"
#: Objects of the sample that are copied at once.
ROWS = 8192


def merge_into(folder: Path, summaries: Iterable[Summary], limit: int) -> Summary:
    """Put the summaries of spans together, in a folder: as :func:`~fmbdask.anomaly.summary.merge_summaries`
    does, but with the sample on the disk.

    Parameters
    ----------
    folder : Path
        That is there, and empty.
    summaries : iterable of Summary
        In the order of the spans.
    limit : int
        Most objects of the sample.
    """
    files: dict[str, BinaryIO] = {}
    small: list[Rows] = []  # the same objects, without features

    def without_samples() -> Iterator[Summary]:
        for one in summaries:
            sample = one.sample
            for modality, vectors in sample.vectors.items():
                if modality not in files:
                    files[modality] = stack.enter_context((folder / f"all_{modality}").open("wb"))
                np.ascontiguousarray(vectors).tofile(files[modality])
            empty = {m: np.empty((len(sample), 0), np.float32) for m in sample.vectors}
            small.append(replace(sample, vectors=empty, _made={}))
            widths.update({m: v.shape[1] for m, v in sample.vectors.items()})
            yield replace(one, sample=sample.part(0, 0))

    widths: dict[str, int] = {}
    with ExitStack() as stack:
        whole = merge_summaries(without_samples(), 0)
    every = joined(small)
    chosen = np.arange(len(every))
    if len(every) > limit:  # the smallest keys; of equal ones the first
        chosen = np.sort(np.argsort(every.keys, kind="stable")[:limit])
    own = every.take(chosen)
    vectors = {}
    for modality, width in widths.items():
        path = folder / f"all_{modality}"
        target = folder / f"vectors_{modality}.npy"
        kept = np.lib.format.open_memmap(target, "w+", np.dtype(np.float32), (len(chosen), width))
        if len(every):
            stored = np.memmap(path, np.float32, "r", shape=(len(every), width))
            for begin in range(0, len(chosen), ROWS):
                kept[begin : begin + ROWS] = stored[chosen[begin : begin + ROWS]]
        kept.flush()
        vectors[modality] = kept
        path.unlink()
    found = replace(whole, sample=replace(own, start=0, vectors=vectors, _made={}), _made={})
    write_summary(folder, found, vectors=False)
    return found


def write_summary(folder: Path, summary: Summary, *, vectors: bool = True) -> None:
    """Write a summary into a folder that is there, with the vectors of the sample or without."""
    sample = summary.sample
    arrays: dict[str, Any] = {"keys": sample.keys, "groups": sample.groups}
    if sample.labels is not None:
        arrays["labels"] = sample.labels
    for modality, values in sample.vectors.items():
        if vectors:
            arrays[f"vectors_{modality}"] = values
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
        "labels": sample.labels is not None,
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
            array("labels") if meta.get("labels") else None,
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
