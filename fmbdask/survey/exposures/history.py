"""Detector histories between files and science: built from finished results, expected of new exposures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from ...errors import InputError
from ...ramps.detect import Detection
from ...ramps.detector import Detector
from ...ramps.history import (
    BRIGHT_COLUMNS,
    FIXED,
    PIXEL_COLUMNS,
    VALUES,
    History,
    Observation,
    fingerprint,
    merge,
    rates,
    record,
    table,
)
from ...ramps.prior import Prior, expect
from ...store.history import StoredHistory, has_history, observation, read_history, write_history

if TYPE_CHECKING:
    from .show import Result

#: Where a result keeps what a history needs to know.
KEY = "observation"
SUM = "sum_of_"
UNITS = {
    "y": "pixel", "x": "pixel", "kind": "1", "flagged": "1", "seen": "1", "level": "DN", "saturated": "1",
    **VALUES, **{SUM + n: f"{u} / {FIXED}" for n, u in VALUES.items()},
}  # fmt: skip
TYPES = {
    **dict.fromkeys(("y", "x"), "Int64"), "kind": "str", **dict.fromkeys(("seen", "flagged"), "Int64"),
    **dict.fromkeys(VALUES, "Float64"), **{SUM + name: "Int64" for name in VALUES},
    "level": "Float32", "saturated": "boolean",
}  # fmt: skip
SUMS = {SUM + name: name for name in VALUES}


@dataclass(frozen=True)
class Built:
    """What became of the history of a detector: its file, exposures added and known before, and a summary."""

    path: Path
    added: int
    known: int
    summary: str


def observed(
    path: Path, ramp: xr.DataArray, detector: Detector, found: Detection, name: str | None = None
) -> dict[str, Any]:
    """What a history will want to know of an exposure, kept with its result."""
    named, started = observation(path, ramp.attrs)
    used = found.prepared[0].used
    return {
        "fingerprint": fingerprint(ramp, detector),
        "detector": name or named or unnamed(detector),
        "started": started,
        "shape": list(detector.shape[2:]),
        "border": list(detector.border),
        "integrations": detector.shape[0],
        "frames": int(used.size),
        "seconds": detector.interval(used) * (used.size - 1),
        "time_unit": detector.time_unit,
        "gain": detector.gain,
        "saturation": detector.saturation if detector.saturation < float("inf") else None,
    }


def unnamed(detector: Detector) -> str:
    """Name of a detector that has none: its size."""
    return f"unnamed {detector.shape[2]} x {detector.shape[3]}"


def build_history(
    results: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, detector: str | None = None
) -> list[Built]:
    """Build or extend the histories of the detectors that took some exposures.

    Parameters
    ----------
    results : sequence of path
        Folders that `ramps detect` wrote.
    out : path
        Folder of the histories.
    detector : str, optional
        Name of the detector, instead of the one that the header of each exposure has.

    Returns
    -------
    list of Built
        One a detector, by name. An exposure that is there already is counted once.

    Raises
    ------
    InputError
        If a folder holds no result, or exposures of one detector differ in shape.
    """
    from .show import read_result

    parts: dict[str, list[History]] = {}
    for folder in map(Path, results):
        one = summarise(read_result(folder), detector)
        parts.setdefault(one.detector, []).append(one)
    built = []
    for name in sorted(parts):
        before = [load_history(out, name)] if has_history(out, name) else []
        known = before[0].fingerprints if before else frozenset()
        new = {f: part for part in parts[name] for f in part.fingerprints if f not in known}
        whole = merge([*before, *new.values()])
        path = write_history(out, stored(whole), units=UNITS, types=TYPES)
        built.append(Built(path, len(new), len(parts[name]) - len(new), describe(whole)))
    return built


def summarise(result: Result, detector: str | None = None) -> History:
    """Record of the exposure of one result.

    Raises
    ------
    InputError
        If the result is of a version that kept too little.
    """
    kept = dict(result.configuration.get(KEY) or {})
    names = ("rate", "rate_error", "reads", "noise")
    lacking = [n for n in names if n not in result.maps]
    if not kept or lacking:
        raise InputError(
            f"{result.name}: the result lacks what a history needs ({', '.join(lacking) or KEY}): run "
            "`fmbdask ramps detect` again"
        )
    kept |= {"detector": detector} if detector else {}
    kept |= {"shape": tuple(kept["shape"]), "border": tuple(kept["border"])}
    seen = Observation(name=result.name, **kept)
    return record(seen, result.events, result.steps, {n: result.maps[n].values for n in names})


def load_history(folder: str | os.PathLike[str], detector: str) -> History:
    """Read the history of a detector.

    Raises
    ------
    InputError
        If it is not there, or damaged.
    """
    held = read_history(folder, detector, columns=["y", "x", "kind", "flagged", *SUMS], bright=BRIGHT_COLUMNS)
    about = held.about
    try:
        return History(
            detector=str(about["detector"]),
            shape=(int(about["shape"][0]), int(about["shape"][1])),
            time_unit=str(about["time_unit"]),
            exposures=tuple((str(a), str(b), str(c), int(d)) for a, b, c, d in about["exposures"]),
            counts={str(k): int(v) for k, v in about["counts"].items()},
            pixels=_numbers(held.pixels.rename(columns=SUMS))[PIXEL_COLUMNS],
            bright=held.bright.astype({"y": "int64", "x": "int64", "level": "float32", "saturated": bool}),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(
            f"the history of {detector} in {folder} is damaged ({error}): build it again with "
            "`fmbdask ramps history`"
        ) from error


def stored(history: History) -> StoredHistory:
    """A history as its files hold it, with the rates and numbers that a reader wants to see first."""
    pixels = table(history)
    often = pixels[2 * pixels["flagged"] > pixels["seen"]]
    about: Mapping[str, Any] = {
        "detector": history.detector,
        "shape": list(history.shape),
        "time_unit": history.time_unit,
        "exposures": [list(e) for e in history.exposures],
        "counts": dict(history.counts),
        "rates_per_pixel_and_time": rates(history),
        "pixels_in_most_exposures": {str(k): int(v) for k, v in often["kind"].value_counts().items()},
    }
    sums = history.pixels[list(VALUES)].add_prefix(SUM)
    return StoredHistory(about, pd.concat([pixels, sums], axis=1), history.bright)


def _numbers(pixels: pd.DataFrame) -> pd.DataFrame:
    """Integers of the table of pixels, as they are summed."""
    return pixels.astype(dict.fromkeys(["y", "x", "flagged", *VALUES], "int64"))


def describe(history: History) -> str:
    """One line about a history."""
    about = stored(history).about
    kinds = ", ".join(f"{n} {k}" for k, n in sorted(about["pixels_in_most_exposures"].items()) if k != "hit")
    per_pixel = about["rates_per_pixel_and_time"]["hits"]
    unit = history.time_unit
    return (
        f"{history.detector}: {len(history.exposures)} exposures; in most of them {kinds or 'no pixel'}; "
        f"{per_pixel['rate']:.3g} hits / pixel / {unit} ({per_pixel['low']:.3g} to {per_pixel['high']:.3g})"
    )


def prior_of(
    folder: str | os.PathLike[str],
    path: Path,
    ramp: xr.DataArray,
    detector: Detector,
    name: str | None = None,
) -> Prior:
    """What the history in a folder lets one expect of an exposure.

    Raises
    ------
    InputError
        If there is no history of its detector, or one of another shape.
    """
    named, started = observation(path, ramp.attrs)
    history = load_history(folder, name or named or unnamed(detector))
    if history.time_unit != detector.time_unit:
        raise InputError(
            f"{path} has times in {detector.time_unit}, the history of {history.detector} in "
            f"{history.time_unit}: give --frame-time"
        )
    seconds = detector.shape[0] * float(detector.times[-1] - detector.times[0])
    prior = expect(
        history, (detector.shape[2], detector.shape[3]), seconds=seconds, started=started, name=str(path)
    )
    if fingerprint(ramp, detector) in history.fingerprints:
        note = "this exposure is part of the history and speaks for itself: build one without it to judge it"
        prior = replace(prior, notes=(*prior.notes, note))
    return prior
