"""Ramps of the pixels of an exposure as a store of sequences, each pixel an object."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...errors import InputError
from ...ramps.blocks import limiting_maps
from ...ramps.config import DetectionConfig
from ...ramps.detect import detect, prepare_all
from ...ramps.detector import Detector, as_ramp
from ...ramps.detector import describe as read_labels
from ...ramps.linearity import linearise
from ...ramps.prepare import Prepared
from ...ramps.sequences import Kind, Steps, Units, region_sequences, steps_of
from ...regions import Region, edge_for, tile_regions
from ...sequences import Shape, flatten
from ...store.checks import check_exposure
from ...store.embeddings import EmbeddingWriter, Modality
from ...store.embeddings.importing import Imported, Progress, Tally, named_source
from ...store.embeddings.layout import bytes_of, readable, shard_rows
from ...store.overrides import open_described
from ...store.ramps import label
from ...store.readers.files import stamp_of
from .compiling import compile_kernels
from .results import known_offsets

Pixels = Literal["random", "candidates", "all"]
NAME = "sequence"


@dataclass(frozen=True)
class Chosen:
    """Pixels of a region, counted from its corner, and the code of what was found there, if searched."""

    region: Region
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    event: NDArray[np.int64] | None = None


def ramp_sequences(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    pixels: Pixels = "random",
    count: int = 20_000,
    seed: int = 0,
    kind: Kind = "differences",
    units: Units = "sigma",
    config: DetectionConfig | None = None,
    overrides: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    say: Callable[[str], None] | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Write the ramps of pixels as sequences, for detectors of time series; in bounded memory.

    Parameters
    ----------
    path : path
        Exposure of any format.
    out : path
        The store.
    pixels : {"random", "candidates", "all"}
        A sample of the pixels that see light and are not marked as bad; those in which
        :func:`fmbdask.ramps.detect` finds an event; or every one, reference pixels too, none of whose steps
        are valid.
    count, seed : int
        Size of the sample, over all integrations, and what it depends on; at most so many candidates are
        written as well.
    kind : {"differences", "counts"}
        Differences of consecutive frames, one fewer than frames, or counts above the first valid frame. The
        offsets that pixels share are taken off as :func:`fmbdask.ramps.detect` does.
    units : {"sigma", "DN"}
        Of the read noise of the pixel (of a difference, or of one read), or DN.
    config : DetectionConfig, optional
        How the exposure is prepared, and searched for candidates.
    overrides : mapping, optional
        What :func:`fmbdask.open_ramp` takes.
    overwrite : bool
        Whether a store that is there is replaced.
    threads : int, optional
        Regions that are worked on at a time; all cores by default.
    say : callable, optional
        Called with the size of the store before it is written.
    progress : callable, optional
        Called as ``progress(done, total, text)``.

    Returns
    -------
    Imported
        The store has the modality ``sequence`` with one feature, ``difference`` or ``counts``, and columns
        ``object_id`` ((integration * rows + y) * columns + x), ``integration``, ``pixel``
        (y * columns + x: what folds are to keep together), ``y``, ``x``, ``amplifier``, and for candidates
        ``event``: 1 cosmic ray, 2 telegraph noise, 3 snowball. The same bits for any number of threads. A
        step is valid where both its frames are: in use, not flagged, below saturation and not after it.

    Raises
    ------
    InputError
        If the exposure cannot be used, no pixel is left, or the disk is too short.
    OutputExistsError
        If the store exists and is not to be overwritten.
    """
    if count < 1:
        raise InputError(f"a sample of {count} pixels is none: give --count of at least 1")
    settings = config or DetectionConfig()
    described = open_described(path, **(overrides or {}))
    ramp = as_ramp(label(described))
    check_exposure(ramp)
    detector = read_labels(ramp)
    measured = known_offsets(described, ramp, detector, overrides or {})
    compile_kernels()
    mask: NDArray[np.integer[Any]] | None = None
    prepared: Sequence[Prepared] | None = None
    if pixels == "candidates":
        found = detect(ramp, settings, measured=measured, progress=progress)
        prepared, mask = found.prepared, np.asarray(found.maps["mask"].values)
    chosen = _choose(ramp, detector, pixels, count, seed, mask)
    objects = sum(len(c.rows) for c in chosen)
    if not objects:
        what = "in which something was found" if pixels == "candidates" else "that sees light"
        raise InputError(f"{path} has no pixel {what}: choose others with --pixels")
    shape = Shape(steps_of(detector.shape[1], kind), 1)
    needed = bytes_of([shape.width], objects, shard_rows([shape.width], objects))
    if say is not None:
        say(f"{objects} sequences of {shape.steps} steps: {readable(needed)}")
    modality = Modality(
        NAME,
        shape.width,
        preprocessing=f"{kind} without shared offsets, {units}",
        embedding_key=kind,
        sequence=str(shape),
        feature_names=("difference" if kind == "differences" else kind,),
        units=units,
    )
    source = named_source(path, stamp_of(path), objects, pixels=pixels, kind=kind, seed=seed)
    tally = Tally(shape.width)
    with EmbeddingWriter(
        out, [modality], objects=objects, overwrite=overwrite, attrs={"sources": [source]}
    ) as writer:
        linear = linearise(ramp, detector)
        if prepared is None:
            prepared = prepare_all(linear, detector, settings, measured)
        maps = limiting_maps(linear, prepared)
        done = 0
        for part, steps in _in_order(
            chosen, linear, maps, prepared, kind, units, threads or os.cpu_count() or 1
        ):
            valid = writer.write(
                _ids(part, detector),
                {NAME: flatten(steps.values[..., None], steps.valid)},
                _columns(part, detector),
            )[NAME]
            tally.valid += int(valid.sum())
            tally.missing += int((~valid).sum())
            done += len(valid)
            if progress is not None:
                progress(done, objects, "sequences written")
    several = len(prepared) > 1
    said = [f"integration {p.integration}: {n}" if several else n for p in prepared for n in p.notes]
    return Imported(writer.path, objects, writer.objects, {NAME: tally}, said)


def _choose(
    ramp: xr.DataArray,
    detector: Detector,
    pixels: Pixels,
    count: int,
    seed: int,
    mask: NDArray[np.integer[Any]] | None,
) -> list[Chosen]:
    """Pixels of each region, in the order of regions of a size that depends on the exposure alone."""
    integrations, frames, rows, columns = detector.shape
    regions = tile_regions(detector.shape, edge_for(frames, ramp.dtype.itemsize))
    if pixels == "all":
        whole = [np.indices(r.shape).reshape(2, -1) for r in regions]
        return [Chosen(r, y, x) for r, (y, x) in zip(regions, whole, strict=True)]
    wanted = np.zeros((integrations, rows, columns), bool)
    wanted[:, *detector.active] = True
    if mask is not None:
        wanted &= mask > 0
    elif "bad_pixel" in ramp.coords:
        wanted &= ~np.asarray(ramp.coords["bad_pixel"].values, bool)
    places = np.flatnonzero(wanted)
    if len(places) > count:
        places = np.random.default_rng(seed).choice(places, count, replace=False)
        wanted[:] = False
        wanted.reshape(-1)[places] = True
    chosen = []
    for region in regions:
        y, x = np.nonzero(wanted[region.integration, region.y, region.x])
        event = None if mask is None else mask[region.integration, region.y, region.x][y, x].astype(np.int64)
        if len(y):
            chosen.append(Chosen(region, y, x, event))
    return chosen


def _in_order(
    chosen: Sequence[Chosen],
    ramp: xr.DataArray,
    maps: Mapping[str, NDArray[Any]],
    prepared: Sequence[Prepared],
    kind: Kind,
    units: Units,
    threads: int,
) -> Iterator[tuple[Chosen, Steps]]:
    """Sequences of the regions in their order, some regions ahead."""

    def made(part: Chosen) -> Steps:
        region = part.region
        known = prepared[region.integration]
        return region_sequences(ramp, maps, known, region, part.rows, part.columns, kind, units)

    with ThreadPoolExecutor(threads) as pool:
        waiting: list[Any] = []
        for part in chosen:
            waiting.append((part, pool.submit(made, part)))
            if len(waiting) > threads:
                first, future = waiting.pop(0)
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _ids(part: Chosen, detector: Detector) -> NDArray[np.int64]:
    """Number of each pixel, row by row, integration after integration."""
    _, _, rows, columns = detector.shape
    ids: NDArray[np.int64] = part.region.integration * rows * columns + _pixels(part, detector)
    return ids


def _pixels(part: Chosen, detector: Detector) -> NDArray[np.int64]:
    """Number of each pixel in a frame."""
    pixels: NDArray[np.int64] = (
        (part.rows + part.region.y0) * detector.shape[3] + part.columns + part.region.x0
    )
    return pixels


def _columns(part: Chosen, detector: Detector) -> dict[str, NDArray[np.int64]]:
    y, x = part.rows + part.region.y0, part.columns + part.region.x0
    columns = {
        "integration": np.full(len(y), part.region.integration),
        "pixel": _pixels(part, detector),
        "y": y,
        "x": x,
        "amplifier": detector.amplifier[x],
    }
    return columns if part.event is None else {**columns, "event": part.event}
