"""What a detector remembers: what its exposures have in common, one record an exposure, merged in any order.

All sums are integers (values in fixed point), so that records merge to the same bits in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage, stats

from ..errors import InputError
from .detector import MIN_FRAMES, Detector
from .sample import read, sample_blocks

Bool = NDArray[np.bool_]
Float = NDArray[np.float64]

#: Kinds of pixels that are counted; ``hit``: part of a cosmic ray, ``unusable``: too few reads to search.
KINDS = ("telegraph", "hot", "dead", "noisy", "hit", "unusable")
#: Typical values of a pixel and their unit; kept as sums in units of 1/FIXED.
VALUES = {"amplitude": "DN", "dwell_high": "frame", "dwell_low": "frame", "rate": "rate", "noise": "DN"}
FIXED = 1024
#: Events below this confidence are not counted.
CONFIDENT = 0.5
#: A pixel is hot when its rate exceeds that of its surroundings by so many errors and so many times the
#: scatter, and by more than a point source would leave to its next neighbours.
HOT_ERRORS, HOT_SCATTER, SHARP = 8.0, 10.0, 0.2
#: A pixel is dead when it sees less than this share of the light of its surroundings, which is only known
#: where that light exceeds its error so many times.
DEAD_SHARE, LIT = 0.2, 10.0
#: A pixel is noisy from this many times the noise of its surroundings on.
NOISY = 1.5
#: Edge of the surroundings [pixels].
SURROUNDINGS = 5
#: Share of saturation from which a pixel counts as bright: it may leave charge to the next exposure.
BRIGHT = 0.3
PIXEL_COLUMNS = ["y", "x", "kind", "flagged", *VALUES]
BRIGHT_COLUMNS = ["y", "x", "level", "saturated"]


@dataclass(frozen=True)
class Observation:
    """What is known of an exposure beside its result.

    Attributes
    ----------
    fingerprint : str
        Digest of counts at fixed places: the identity of the exposure, wherever it lies.
    name, detector : str
    started : str
        ISO 8601 start, empty where the header has none.
    shape : (rows, columns)
    border : (bottom, top, left, right)
    integrations, frames : int
        Integrations, and frames in use of each.
    seconds : float
        Time from the first to the last of them [s, or frames where no frame time is known].
    time_unit : str
        ``s`` or ``frame``.
    gain, saturation : float or None
        [electron/DN] and [DN].
    """

    fingerprint: str
    name: str
    detector: str
    started: str
    shape: tuple[int, int]
    border: tuple[int, int, int, int]
    integrations: int
    frames: int
    seconds: float
    time_unit: str
    gain: float | None
    saturation: float | None


@dataclass(frozen=True)
class History:
    """What is known of a detector from one or many exposures.

    Attributes
    ----------
    detector : str
    shape : (rows, columns)
    time_unit : str
    exposures : tuple of (started, name, fingerprint, milliseconds)
        Sorted; the last of them left the bright pixels.
    counts : mapping of int
        ``hits``, ``snowballs``, ``pixel_milliseconds`` that were searched, and ``lit`` exposures, the only
        ones in which a dead pixel can be told.
    pixels : DataFrame
        :data:`PIXEL_COLUMNS`, all integers but ``kind``: exposures in which the pixel was of the kind, and
        sums of its values over them in units of 1 / :data:`FIXED`.
    bright : DataFrame
        :data:`BRIGHT_COLUMNS` of the last exposure; ``level`` [DN] above its first read.
    """

    detector: str
    shape: tuple[int, int]
    time_unit: str
    exposures: tuple[tuple[str, str, str, int], ...]
    counts: Mapping[str, int]
    pixels: pd.DataFrame
    bright: pd.DataFrame

    @property
    def fingerprints(self) -> frozenset[str]:
        """Identities of the exposures."""
        return frozenset(e[2] for e in self.exposures)


def fingerprint(ramp: xr.DataArray, detector: Detector) -> str:
    """Digest of the counts of one block at a fixed place: the same for every format and chunking."""
    block = read(ramp, sample_blocks(*detector.active)[0])
    plain = np.ascontiguousarray(block, block.dtype.newbyteorder("<"))
    return hashlib.sha256(f"{ramp.shape} {plain.dtype.str}".encode() + plain.tobytes()).hexdigest()


def record(
    seen: Observation, events: pd.DataFrame, steps: pd.DataFrame, maps: Mapping[str, NDArray[Any]]
) -> History:
    """Summarise the result of one exposure.

    Parameters
    ----------
    seen : Observation
    events, steps : DataFrame
        As :class:`fmbdask.ramps.detect.Detection` has them.
    maps : mapping of (integration, y, x) arrays
        ``rate``, ``rate_error`` [DN or electron per time], ``reads`` and ``noise`` of one read [DN].

    Returns
    -------
    History
        Of one exposure.
    """
    rate, error, noise = (_over_integrations(maps[n]) for n in ("rate", "rate_error", "noise"))
    bottom, top, left, right = seen.border
    active = np.zeros(seen.shape, np.bool_)
    active[bottom : seen.shape[0] - top, left : seen.shape[1] - right] = True
    usable = active & (maps["reads"].max(axis=0) >= MIN_FRAMES) & np.isfinite(rate) & np.isfinite(noise)
    hot, dead, lit = _hot_and_dead(rate, error, usable)
    good = events[events["confidence"] >= CONFIDENT]
    telegraph = good[good["type"] == "telegraph_noise"]
    rays = good[good["type"] == "cosmic_ray"]
    hits = steps[steps["event_id"].isin(rays["event_id"])]
    flips = np.zeros(seen.shape, np.bool_)
    flips[telegraph["peak_y"].to_numpy(np.int64), telegraph["peak_x"].to_numpy(np.int64)] = True
    # a telegraph pixel that is fitted with two levels is not noisy beside
    noisy = usable & ~flips & (noise > NOISY * _surroundings(noise, usable))
    parts = [
        _of_events("telegraph", telegraph["peak_y"], telegraph["peak_x"], telegraph),
        _of_events("hit", hits["y"], hits["x"], hits),
        _of_map("hot", hot, rate=rate),
        _of_map("dead", dead, rate=rate),
        _of_map("noisy", noisy, noise=noise),
        _of_map("unusable", active & ~usable),
    ]
    milliseconds = round(1000 * seen.seconds * seen.integrations)
    counts = {
        "hits": len(rays),
        "snowballs": int((good["type"] == "snowball").sum()),
        "pixel_milliseconds": int(usable.sum()) * milliseconds,
        "lit": int(lit),
    }
    exposure = (seen.started, seen.name, seen.fingerprint, milliseconds)
    return History(
        seen.detector, seen.shape, seen.time_unit, (exposure,), counts, _summed(parts),
        _bright(seen, rate, hits, maps["reads"], usable),
    )  # fmt: skip


def merge(parts: Sequence[History]) -> History:
    """Put histories of one detector together: the same bits in any order, each exposure counted once.

    Raises
    ------
    InputError
        If they are of several detectors, frames of several shapes, or have some but not all of their
        exposures in common.
    """
    known: set[str] = set()
    kept: list[History] = []
    for part in sorted(parts, key=lambda h: (-len(h.exposures), h.exposures)):
        common = part.fingerprints & known
        if common == part.fingerprints:
            continue
        if common:
            raise InputError(
                f"histories of {part.detector} share {len(common)} of {len(part.exposures)} exposures, which "
                "would count twice: build one from all results"
            )
        known |= part.fingerprints
        kept.append(part)
    first = kept[0]
    for part in kept[1:]:
        if (part.detector, part.shape, part.time_unit) != (first.detector, first.shape, first.time_unit):
            raise InputError(
                f"{part.exposures[0][1]} is of {part.detector} with {part.shape[0]} x {part.shape[1]} pixels "
                f"and times in {part.time_unit}, the history of {first.detector} with {first.shape[0]} x "
                f"{first.shape[1]} and {first.time_unit}: give each its own name with --detector"
            )
    counts = {name: sum(part.counts[name] for part in kept) for name in first.counts}
    last = max(kept, key=lambda part: part.exposures[-1])
    return replace(
        first,
        exposures=tuple(sorted(e for part in kept for e in part.exposures)),
        counts=counts,
        pixels=_summed([part.pixels for part in kept]),
        bright=last.bright,
    )


def rates(history: History) -> dict[str, dict[str, float]]:
    """Rates of hits and snowballs per pixel and unit of time, with 95 % intervals."""
    span = max(history.counts["pixel_milliseconds"], 1) / 1000
    found = {}
    for name in ("hits", "snowballs"):
        n = history.counts[name]
        low, high = poisson_interval(n)
        found[name] = {"count": n, "rate": n / span, "low": low / span, "high": high / span}
    return found


def poisson_interval(count: int) -> tuple[float, float]:
    """95 % interval of the expectation behind a count (Garwood 1936)."""
    low = float(stats.chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(stats.chi2.ppf(0.975, 2 * count + 2)) / 2


def table(history: History) -> pd.DataFrame:
    """Pixels with what is typical of them: exposures seen and flagged, and means of their values."""
    pixels = history.pixels
    missed = pixels[pixels["kind"] == "unusable"].set_index(["y", "x"])["flagged"]
    place = pd.MultiIndex.from_frame(pixels[["y", "x"]])
    total = np.where(pixels["kind"] == "dead", history.counts["lit"], len(history.exposures))
    absent = missed.reindex(place, fill_value=0).to_numpy()
    seen = np.where(pixels["kind"] == "unusable", total, total - absent)
    means = {
        name: np.where(pixels[name] != 0, pixels[name] / (FIXED * pixels["flagged"]), np.nan)
        for name in VALUES
    }
    out = pixels[["y", "x", "kind", "flagged"]].assign(seen=np.maximum(seen, pixels["flagged"]), **means)
    return out[["y", "x", "kind", "seen", "flagged", *VALUES]]


def _over_integrations(values: NDArray[Any]) -> Float:
    """Median over the integrations."""
    if values.shape[0] == 1:
        return np.asarray(values[0], np.float64)
    known = np.isfinite(values).any(axis=0)
    out = np.full(values.shape[1:], np.nan)
    out[known] = np.nanmedian(values[:, known], axis=0)
    return out


def _surroundings(values: Float, usable: Bool) -> Float:
    """Median of the surroundings of each pixel."""
    middle = float(np.median(values[usable])) if usable.any() else 0.0
    filled = np.where(usable, values, middle).astype(np.float32)
    smooth: Float = ndimage.median_filter(filled, SURROUNDINGS, mode="nearest").astype(np.float64)
    return smooth


def _hot_and_dead(rate: Float, error: Float, usable: Bool) -> tuple[Bool, Bool, bool]:
    """Hot pixels, dead ones, and whether there is light enough to tell the latter."""
    if not usable.any():
        nothing = np.zeros(rate.shape, np.bool_)
        return nothing, nothing, False
    around = _surroundings(rate, usable)
    excess = np.where(usable, rate - around, 0.0)
    scatter = float(stats.median_abs_deviation(excess[usable], scale="normal"))
    beside = np.median([np.roll(excess, s, a) for s in (1, -1) for a in (0, 1)], axis=0)
    own = np.where(np.isfinite(error), error, np.inf)
    hot = usable & (excess > np.maximum(HOT_ERRORS * own, HOT_SCATTER * scatter)) & (beside < SHARP * excess)
    typical = float(np.median(error[usable]))
    lit = bool(np.median(rate[usable]) > LIT * typical)
    dead = usable & (rate < DEAD_SHARE * around) & (around > LIT * np.maximum(own, typical)) & lit
    return hot, dead, lit


def _bright(
    seen: Observation, rate: Float, hits: pd.DataFrame, reads: NDArray[Any], usable: Bool
) -> pd.DataFrame:
    """Pixels that end the exposure bright or saturated."""
    to_dn = 1 / seen.gain if seen.gain else 1.0
    level = np.where(np.isfinite(rate), np.maximum(rate, 0), 0) * to_dn * seen.seconds
    last = hits[hits["integration"] == seen.integrations - 1]
    np.add.at(level, (last["y"].to_numpy(np.int64), last["x"].to_numpy(np.int64)), last["amplitude"])
    full = usable & (reads[-1] < seen.frames)
    bright = full.copy()
    if seen.saturation:
        bright |= usable & (level > BRIGHT * seen.saturation)
        level = np.where(full, np.maximum(level, seen.saturation), level)
    y, x = np.nonzero(bright)
    columns = {"y": y, "x": x, "level": level[bright].astype(np.float32), "saturated": full[bright]}
    return pd.DataFrame(columns)[BRIGHT_COLUMNS]


def _of_events(kind: str, y: pd.Series, x: pd.Series, values: pd.DataFrame) -> pd.DataFrame:
    """Pixels of events, each once an exposure, with the means of their values."""
    known = {n: values[n].to_numpy(np.float64) for n in VALUES if n in values}
    frame = pd.DataFrame({"y": y.to_numpy(np.int64), "x": x.to_numpy(np.int64), **known})
    mean = frame.groupby(["y", "x"], sort=True).mean().reset_index()
    return _fixed(mean.assign(kind=kind, flagged=1))


def _of_map(kind: str, wanted: Bool, **values: Float) -> pd.DataFrame:
    """Pixels of a map, with their values."""
    y, x = np.nonzero(wanted)
    known = {name: value[wanted] for name, value in values.items()}
    return _fixed(pd.DataFrame({"y": y, "x": x, "kind": kind, "flagged": 1, **known}))


def _fixed(rows: pd.DataFrame) -> pd.DataFrame:
    """Values in fixed point; what does not apply is 0."""
    for name in VALUES:
        values = rows[name].to_numpy(np.float64) if name in rows else np.zeros(len(rows))
        rows[name] = np.rint(np.nan_to_num(values, posinf=0, neginf=0) * FIXED).astype(np.int64)
    return rows[PIXEL_COLUMNS]


def _summed(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Sums over equal pixels and kinds, sorted."""
    rows = pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)
    rows = rows.astype(dict.fromkeys(["y", "x", "flagged", *VALUES], np.int64))
    summed: pd.DataFrame = rows.groupby(["kind", "y", "x"], sort=True).sum().reset_index()
    return summed[PIXEL_COLUMNS]
