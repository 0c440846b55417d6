"""Steps put into a real exposure: what is found of them, and what is found where none was put."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from fmbdask.errors import InputError
from fmbdask.ramps.corrected import corrected, group_flags
from fmbdask.ramps.detect import Detection, detect
from fmbdask.ramps.detector import describe
from fmbdask.ramps.history import poisson_interval

from .environment import run

#: Steps [sigma of one read], on every so-manieth pixel, not so close to either end [frames].
STEPS, LATTICE, ENDS = (3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0), 8, 5
#: Frames by which a step may be off, and pixels within which what is flagged may belong to it.
NEAR, BESIDE = 2, 3
RUNNER = Path(__file__).parent / "runners" / "run_stcal.py"
LIMIT = 600.0

HEADING = """\
Steps put into a real exposure, each method at its defaults: put, and the share found within 2 frames, by
amplitude [sigma of one read, from the scatter of each pixel's differences]; reads flagged, of a million, and
ramps flagged (farther than 3 pixels from a step), with their 95 % interval: what is there besides, real
events of the exposure included. The other tool gets the ramp after our corrections, our unusable reads and
the true scatter of each pixel as read noise."""


@dataclass(frozen=True)
class Put:
    """Steps that were put somewhere: (K,) integration, y, x, frame, amplitude [sigma]."""

    integration: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    frame: NDArray[np.int64]
    amplitude: NDArray[np.float64]


def scatter(ramp: xr.DataArray) -> NDArray[np.float64]:
    """Noise of one read from the differences of each pixel, (integration, y, x) [DN].

    The scatter of so few differences is itself uncertain: its square is averaged with that of the typical
    pixel.
    """
    differences = np.diff(ramp.values.astype(np.float64), axis=1)
    # common to all pixels of a read is no noise of a pixel
    differences -= np.median(differences, axis=(2, 3), keepdims=True)
    middle = np.median(differences, axis=1, keepdims=True)
    count = differences.shape[1]
    # the median of few deviations is low (Croux and Rousseeuw 1992)
    spread = 1.4826 * count / (count - 0.8) * np.median(np.abs(differences - middle), axis=1) / np.sqrt(2)
    typical = np.median(spread, axis=(1, 2), keepdims=True)
    own: NDArray[np.float64] = np.sqrt((spread**2 + typical**2) / 2)
    return np.maximum(own, 0.3)


def put_steps(ramp: xr.DataArray, sigma: NDArray[np.float64], seed: int) -> tuple[xr.DataArray, Put]:
    """Put a step on every eighth pixel of each integration, elsewhere in each; at any frame but the ends."""
    rng = np.random.default_rng(seed)
    rows, columns = describe(ramp).active
    parts = []
    data = ramp.values.copy()
    for i in range(ramp.sizes["integration"]):
        down, right = rng.integers(0, LATTICE, 2)
        grid = np.meshgrid(
            np.arange(rows.start + down, rows.stop, LATTICE),
            np.arange(columns.start + right, columns.stop, LATTICE),
            indexing="ij",
        )
        y, x = (g.ravel() for g in grid)
        frame = rng.integers(ENDS, ramp.sizes["frame"] - ENDS, y.size)
        amplitude = rng.choice(STEPS, y.size)
        lifted = data[i][:, y, x] + (np.arange(data.shape[1])[:, None] >= frame) * np.rint(
            amplitude * sigma[i, y, x]
        )
        data[i][:, y, x] = np.minimum(lifted, np.iinfo(data.dtype).max).astype(data.dtype)
        parts.append((np.full(y.size, i), y, x, frame, amplitude))
    return ramp.copy(data=data), Put(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def real_steps(
    ramp: xr.DataArray, *, passes: int = 4, python: Path | None = None, seed: int = 1, **options: Any
) -> pd.DataFrame:
    """Search a real exposure into which steps were put, again and again at other places.

    Parameters
    ----------
    ramp : DataArray
        Counts as they were read.
    passes : int
        So many times.
    python : Path, optional
        Interpreter that knows stcal, whose two-point difference is run as well.
    seed : int
    **options
        Of :func:`fmbdask.ramps.detect.detect`.

    Returns
    -------
    DataFrame
        One row a method: ``method``, ``put``, ``found_3`` and so on, ``reads_flagged`` and ``ramps_flagged``
        away from steps per read and ramp, ``low`` and ``high``: 95 % interval of the latter.

    Raises
    ------
    InputError
        If the counts are no integers, or there are too few frames.
    """
    if ramp.dtype.kind != "u" or ramp.sizes["frame"] < 4 * ENDS:
        raise InputError(
            f"{ramp.attrs.get('source', 'the ramp')} does not hold integer counts of {4 * ENDS} frames or "
            "more: give an exposure as it was read"
        )
    ramp = ramp.load()
    sigma = scatter(ramp)
    scores: dict[str, list[dict[str, Any]]] = {}
    for k in range(passes):
        stepped, put = put_steps(ramp, sigma, seed + k)
        found = detect(stepped, **options)
        ours = group_flags(stepped, found.prepared, found.steps).values & 4 > 0
        sure = found.steps["event_id"].isin(found.events.loc[found.events["confidence"] >= 0.5, "event_id"])
        likely = group_flags(stepped, found.prepared, found.steps[sure]).values & 4 > 0
        flags = {"fmbdask": ours, "fmbdask, confidence >= 0.5": likely}
        if python is not None:
            flags["stcal two-point 4.0"] = two_point(stepped, found, sigma, python)
        for method, reads in flags.items():
            scores.setdefault(method, []).append(_score(reads, put, found, describe(ramp).active))
    return pd.DataFrame([_row(method, parts) for method, parts in scores.items()])


def two_point(
    ramp: xr.DataArray, found: Detection, sigma: NDArray[np.float64], python: Path
) -> NDArray[np.bool_]:
    """Flags of stcal's jump step, (integration, frame, y, x).

    Raises
    ------
    InputError
        If stcal does not run.
    """
    cube = corrected(ramp, found.prepared, fill=None).values
    known = group_flags(ramp, found.prepared, found.steps.iloc[:0]).values
    out = np.zeros(ramp.shape, np.bool_)
    with tempfile.TemporaryDirectory(prefix="fmbdask_real_") as name:
        folder = Path(name)
        names = [f"integration_{i}" for i in range(ramp.shape[0])]
        for i, one in enumerate(names):
            np.save(folder / f"{one}_cube.npy", np.ascontiguousarray(cube[i], np.float32))
            np.save(folder / f"{one}_flags.npy", np.ascontiguousarray(known[i]))
            np.save(folder / f"{one}_noise.npy", sigma[i].astype(np.float32))
        gain = float(ramp.attrs.get("gain") or 1.0)
        job = {"name": "two_point", "exposures": names, "method": "two_point", "gain": gain}
        path = folder / "job.json"
        path.write_text(json.dumps(job), encoding="utf-8")
        error = run([os.fspath(python), os.fspath(RUNNER), os.fspath(path)], LIMIT)
        if error:
            raise InputError(f"stcal stopped ({error}): give an interpreter whose environment holds it")
        for i, one in enumerate(names):
            out[i] = np.load(folder / f"{one}_two_point_flags.npy")
    return out


def _score(
    flags: NDArray[np.bool_], put: Put, found: Detection, active: tuple[slice, slice]
) -> dict[str, Any]:
    """Count steps that were found, and what is flagged away from them."""
    got = np.zeros(put.y.size, np.bool_)
    for shift in range(-NEAR, NEAR + 1):
        got |= flags[put.integration, put.frame + shift, put.y, put.x]
    stepped = np.zeros((flags.shape[0], *flags.shape[2:]), np.bool_)
    stepped[put.integration, put.y, put.x] = True
    beside = ndimage.binary_dilation(stepped, np.ones((1, 2 * BESIDE + 1, 2 * BESIDE + 1), np.bool_))
    inside = np.zeros(flags.shape[2:], np.bool_)
    inside[active] = True
    away = ~beside & inside
    reads = sum(int(away[i].sum()) * p.used.size for i, p in enumerate(found.prepared))
    return {
        "put": np.array([(put.amplitude == a).sum() for a in STEPS]),
        "got": np.array([got[put.amplitude == a].sum() for a in STEPS]),
        "reads": reads,
        "flagged_reads": int(flags[np.broadcast_to(away[:, None], flags.shape)].sum()),
        "ramps": int(away.sum()),
        "flagged_ramps": int((flags.any(axis=1) & away).sum()),
    }


def _row(method: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add up the passes."""
    total = {name: np.sum([p[name] for p in parts], axis=0) for name in parts[0]}
    shares = {f"found_{a:g}": g / n for a, g, n in zip(STEPS, total["got"], total["put"], strict=True)}
    low, high = poisson_interval(int(total["flagged_ramps"]))
    return {
        "method": method,
        "put": int(total["put"].sum()),
        **shares,
        "reads_flagged": total["flagged_reads"] / total["reads"],
        "ramps_flagged": total["flagged_ramps"] / total["ramps"],
        "low": low / total["ramps"],
        "high": high / total["ramps"],
    }
