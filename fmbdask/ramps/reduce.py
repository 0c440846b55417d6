"""The reduction: from the results of the regions to the events, the mask and the maps of an exposure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from fmbdask_kernels.temporal import PLANES
from numpy.typing import NDArray

from .confidence import add_confidence
from .config import DetectionConfig
from .detector import Detector
from .events import find_events
from .halos import Covered, with_halos
from .limits import apply_limits
from .network.hybrid import RULES, with_proposals
from .prepare import Prepared
from .region import RegionResult
from .repeats import weigh_repeats
from .surroundings import ReadBlock

#: Codes of the mask, lowest first: where kinds overlap, the higher code stays.
CODES = {"background": 0, "cosmic_ray": 1, "telegraph_noise": 2, "snowball": 3}

#: Columns of the catalogue, in order.
COLUMNS = (
    "event_id", "type", "integration", "y", "x", "first_frame", "time", "peak_y", "peak_x", "amplitude",
    "mean_intensity", "max_intensity", "spatial_extent", "significance", "confidence", "n_steps",
    "n_saturated", "radius", "core_radius", "circularity", "halo_amplitude", "halo_scale",
    "expansion",
    "transitions", "dwell_high", "dwell_low", "duty", "fit_quality", "found_by",
)  # fmt: skip

#: Columns of the table of steps: pixels of cosmic rays and snowballs, and the first frame of the new level.
STEP_COLUMNS = (
    "event_id", "integration", "y", "x", "frame", "amplitude", "significance", "saturating",
)  # fmt: skip


def reduce_exposure(
    results: Sequence[RegionResult],
    prepared: Sequence[Prepared],
    detector: Detector,
    config: DetectionConfig,
    read: ReadBlock,
    progress: Callable[[int, int, str], None] | None = None,
    threads: int = 1,
) -> tuple[pd.DataFrame, xr.Dataset, pd.DataFrame]:
    """Make events, maps and steps of an exposure from its regions.

    Parameters
    ----------
    results : sequence of RegionResult
        Of all regions, in any order; they give up their maps.
    prepared : sequence of Prepared
        One an integration.
    detector : Detector
    config : DetectionConfig
    read : callable
        Reads a region again, (T, ny, nx): the neighbourhood of snowballs, and what a network is asked about.
    progress : callable, optional
        Called with (done, all, text) while a network is asked.
    threads : int
        That look for proposals to a network at the same time.

    Returns
    -------
    DataFrame, Dataset, DataFrame
        Events; maps with dimensions (integration, y, x), where ``mask`` holds :data:`CODES`; and the steps of
        the pixels of cosmic rays and snowballs, :data:`STEP_COLUMNS`.
    """
    results = sorted(results, key=lambda r: r.region)
    steps = np.concatenate([r.steps for r in results])
    telegraph = np.concatenate([r.telegraph for r in results])
    rows, columns = detector.active
    bounds = rows.start, rows.stop - 1, columns.start, columns.stop - 1
    events = find_events(steps, snowball_min_pixels=config.snowball_min_pixels, bounds=bounds)
    shape = (detector.shape[0], *detector.shape[2:])
    table, covered, owner = with_halos(events, steps, prepared, detector, read)
    table = table.assign(found_by=RULES)
    accepted = table[:0]
    if config.model is not None:
        taken = np.zeros(shape, np.bool_)
        for one in (steps[owner >= 0], telegraph):
            taken[one["integration"], one["y"], one["x"]] = True
        for c in covered.values():
            taken[c.integration, c.y, c.x] = True
        accepted, steps, owner = with_proposals(
            table, steps, owner, taken, results, prepared, config, read, progress, threads
        )
    catalogue = pd.concat(
        [f for f in (table, _telegraph_events(telegraph)) if len(f)] or [table], ignore_index=True
    )
    # an exposure may hold telegraph pixels alone, which know nothing of steps
    catalogue = catalogue.reindex(columns=catalogue.columns.union(table.columns, sort=False))
    catalogue = add_confidence(catalogue, prepared, results)
    if len(accepted):
        catalogue = pd.concat([catalogue, accepted], ignore_index=True)
    catalogue = weigh_repeats(catalogue, steps, owner, prepared)
    catalogue = catalogue.sort_values(
        ["integration", "first_frame", "peak_y", "peak_x", "type"], kind="stable", ignore_index=True
    )
    kept = apply_limits(catalogue, config.limits)
    mask = np.zeros(shape, np.uint8)
    number = kept["old_id"].to_numpy()
    inside = np.isin(owner, number[kept["type"] != "telegraph_noise"])
    kinds = kept[kept["type"] != "telegraph_noise"].set_index("old_id")["type"].map(CODES)
    place = steps[inside]
    codes = kinds.reindex(owner[inside]).to_numpy(np.uint8)
    np.maximum.at(mask, (place["integration"], place["y"], place["x"]), codes)
    pixels = kept[kept["type"] == "telegraph_noise"]
    here = tuple(pixels[c].to_numpy(np.int64) for c in ("integration", "peak_y", "peak_x"))
    np.maximum.at(mask, here, np.uint8(CODES["telegraph_noise"]))
    for old in number[kept["type"] == "snowball"]:
        if old in covered:
            c = covered[old]
            mask[c.integration, c.y, c.x] = CODES["snowball"]
    kept["event_id"] = np.arange(len(kept))
    table_of_steps = _step_table(steps, owner, kept, covered)
    kept["time"] = detector.times[kept["first_frame"].to_numpy(np.int64)]
    maps = _maps(results, detector, prepared, shape, covered, telegraph)
    maps["mask"] = (
        ("integration", "y", "x"),
        mask,
        {
            "units": "1",
            "long_name": "kind of event",
            "flag_values": list(CODES.values()),
            "flag_meanings": " ".join(CODES),
        },
    )
    return kept.reindex(columns=list(COLUMNS)), maps, table_of_steps


def _step_table(
    steps: NDArray[Any],
    owner: NDArray[np.int64],
    kept: pd.DataFrame,
    covered: Mapping[int, Covered],
) -> pd.DataFrame:
    """Steps of the pixels of the events that are kept, and where a snowball's halo is too faint for a step of
    its own the change at its first frame."""
    hits = kept[kept["type"] != "telegraph_noise"]
    number = dict(zip(hits["old_id"], hits["event_id"], strict=True))
    inside = np.isin(owner, hits["old_id"].to_numpy())
    own = steps[inside]
    names = ("integration", "y", "x", "frame")
    columns: dict[str, NDArray[Any]] = {n: own[n].astype(np.int64) for n in names}
    columns |= {n: own[n].astype(np.float64) for n in ("amplitude", "significance")}
    columns["saturating"] = own["saturating"].astype(bool)
    parts = [pd.DataFrame({"event_id": [number[i] for i in owner[inside]], **columns})]
    for old, event_id in number.items():
        if old in covered:
            c = covered[old]
            here = owner == old
            known = set(zip(steps["y"][here].tolist(), steps["x"][here].tolist(), strict=True))
            new = [k for k, at in enumerate(zip(c.y.tolist(), c.x.tolist(), strict=True)) if at not in known]
            fields: dict[str, Any] = {
                "event_id": event_id, "integration": c.integration, "y": c.y[new], "x": c.x[new],
                "frame": c.frame, "amplitude": c.amplitude[new].astype(np.float64),
                "significance": (c.amplitude[new] / c.error[new]).astype(np.float64),
                "saturating": c.saturating[new],
            }  # fmt: skip
            parts.append(pd.DataFrame(fields))
    together = pd.concat([p for p in parts if len(p)] or parts[:1], ignore_index=True)
    together = together.astype(dict.fromkeys(("event_id", *names), np.int64) | {"saturating": bool})
    order = ["event_id", "integration", "frame", "y", "x"]
    return together.sort_values(order, kind="stable", ignore_index=True)[list(STEP_COLUMNS)]


def _telegraph_events(found: NDArray[Any]) -> pd.DataFrame:
    """Rows of the catalogue for telegraph pixels."""
    whole = {n: found[n].astype(np.int64) for n in ("integration", "first_frame", "transitions")}
    real = {
        n: found[n].astype(np.float64)
        for n in ("amplitude", "significance", "margin", "dwell_high", "dwell_low", "duty", "fit_quality")
    }
    events = pd.DataFrame(whole | real)
    place = {
        name: found[axis].astype(kind)
        for axis in "yx"
        for name, kind in ((axis, float), (f"peak_{axis}", int))
    }
    return events.assign(
        **place,
        old_id=-1,
        found_by=RULES,
        type="telegraph_noise",
        mean_intensity=real["amplitude"] * real["duty"],
        max_intensity=real["amplitude"],
        spatial_extent=1,
        n_steps=whole["transitions"],
        n_saturated=0,
    )


def _together(results: Sequence[RegionResult], shape: tuple[int, int, int]) -> dict[str, NDArray[np.float32]]:
    """The maps of all regions as one each; the regions give theirs up, so that nothing is held twice."""
    names = list(results[0].maps)
    whole = sum(r.region.shape[0] * r.region.shape[1] for r in results) == math.prod(shape)
    out = {n: np.empty(shape, np.float32) if whole else np.full(shape, np.nan, np.float32) for n in names}
    for r in results:
        for name in names:
            out[name][r.region.integration, r.region.y, r.region.x] = r.maps[name]
        r.maps.clear()
    return out


def _in_halos(
    covered: Mapping[int, Covered],
    reads: NDArray[np.float32],
    telegraph: NDArray[Any],
) -> list[tuple[tuple[Any, ...], dict[str, NDArray[np.float32]]]]:
    """Places and rates of the pixels around each snowball that have one with its step taken into account.

    Not those of telegraph pixels, whose rates know of two levels, and of those with reads that are flagged,
    which are not known there.
    """
    taken = np.ravel_multi_index([telegraph[n] for n in ("integration", "y", "x")], reads.shape)
    found: list[tuple[tuple[Any, ...], dict[str, NDArray[np.float32]]]] = []
    for c in covered.values():
        r = c.rates
        here = np.full(r.y.size, c.integration)
        good = reads[here, r.y, r.x] == r.reads
        good &= ~np.isin(np.ravel_multi_index([here, r.y, r.x], reads.shape), taken)
        place = c.integration, r.y[good], r.x[good]
        found.append((place, {"rate": r.rate[good], "rate_error": r.error[good]}))
    return found


def _maps(
    results: Sequence[RegionResult],
    detector: Detector,
    prepared: Sequence[Prepared],
    shape: tuple[int, int, int],
    covered: Mapping[int, Covered],
    telegraph: NDArray[Any],
) -> xr.Dataset:
    """Put the maps of the regions together, rates per time instead of per interval.

    In the halos of snowballs the rates are those that take their steps into account.
    """
    maps: dict[str, Any] = {}
    together = _together(results, shape)
    in_halos = _in_halos(covered, together["reads"], telegraph)
    for name, out in together.items():
        for place, values in in_halos:
            if name in values:
                out[place] = values[name]
        units = PLANES.get(name, "DN / interval")
        if units.endswith("interval"):
            for i, p in enumerate(prepared):
                out[i] /= np.float32(detector.interval(p.used))
            units = units.replace("interval", detector.time_unit)
        if name in ("rate", "rate_error") and detector.gain:
            out *= np.float32(detector.gain) if detector.gain_map is None else detector.gain_map
            units = units.replace("DN", "electron")
        maps[name] = (("integration", "y", "x"), out, {"units": units})
    return xr.Dataset(maps)
