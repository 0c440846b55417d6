"""Patches of one simulated exposure: simulated, searched by the rules, and cut out with their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ...ramps.blocks import search
from ...ramps.config import DetectionConfig
from ...ramps.detect import finish, prepare_all
from ...ramps.detector import as_ramp, describe
from ...ramps.linearity import linearise
from ...ramps.network.evidence import padded
from ...ramps.network.hybrid import pixels_without_reads
from ...ramps.network.inputs import CHANNELS, channels
from ...ramps.network.proposals import Proposals, propose
from ...ramps.network.truth import FAINTEST, classes
from ...ramps.network.windows import PATCH, Place, read_of, windows
from ...ramps.prepare import Prepared
from ...ramps.region import Limits
from ...ramps.sample import read
from ...ramps.simulation import Truth, make_exposure
from ...regions import Region
from .recipes import SPLITS, Recipe
from .settings import Grid, PatchSettings

#: Why a patch was cut out, by code.
KINDS = ("proposal", "event", "background", "grid")
#: Class of voxels that no read stands behind; :data:`fmbdask.models.voxels.IGNORED`.
OUTSIDE = 255
#: A proposal is real where a pixel of it belongs to a true cosmic ray and steps within so many frames of it.
FRAMES = 6
#: Most places that are taken of one snowball.
PER_SNOWBALL = 8
#: What a patch comes with: type and shape of one row of each column.
COLUMNS: dict[str, tuple[str, tuple[int, ...]]] = {
    "kind": ("uint8", ()),
    "real": ("int8", ()),
    "read": ("int16", ()),
    "score": ("float32", ()),
    "corner": ("int32", (3,)),
    "split": ("uint8", ()),
}


@dataclass(frozen=True)
class Drawn:
    """An exposure, what it holds, what the rules propose, and pixels too few reads of which are used."""

    ramp: xr.DataArray
    prepared: Prepared
    truth: Truth
    proposals: Proposals
    unusable: NDArray[np.bool_]

    def read(self, region: Region) -> NDArray[Any]:
        """Linear counts of a region, (T, ny, nx)."""
        return np.ascontiguousarray(read(self.ramp, region))

    def limits(self, region: Region) -> Limits:
        """Reads of a region that may be used."""
        p = self.prepared
        return Limits.of(p, region, None, None, None if p.levels is None else p.levels[region.y, region.x])


def patch_shape(settings: PatchSettings) -> tuple[int, int, int]:
    """Reads, rows and columns of a patch."""
    return PATCH if settings.grid is None else (settings.grid.patch_frames, *settings.grid.patch_size)


def patches_of(recipe: Recipe, settings: PatchSettings) -> dict[str, NDArray[Any]]:
    """Simulate an exposure, and cut its patches out.

    Parameters
    ----------
    recipe : Recipe
    settings : PatchSettings

    Returns
    -------
    dict of arrays
        One row a patch: ``values`` float16 (channel, read, y, x), ``classes`` uint8 (read, y, x), ``group``
        bool (y, x), and :data:`COLUMNS`. The same bits on any machine of one type.
    """
    drawn = draw(recipe)
    if settings.grid is not None:
        found = list(grid_patches(drawn, settings.grid))
    else:
        found = list(placed_patches(drawn, settings, np.random.default_rng([recipe.seed, 1])))
    shape = patch_shape(settings)
    split = SPLITS.index(recipe.split)
    rows = [row | {"split": split} for row in found]
    wanted: dict[str, tuple[str, tuple[int, ...]]] = {
        "values": ("float16", (len(CHANNELS), *shape)), "classes": ("uint8", shape),
        "group": ("bool", shape[1:]), **COLUMNS,
    }  # fmt: skip
    return {
        name: np.array([row[name] for row in rows], dtype).reshape(len(rows), *inner)
        for name, (dtype, inner) in wanted.items()
    }


def draw(recipe: Recipe) -> Drawn:
    """Simulate an exposure, find what the rules find, and propose what they do not."""
    ramp, truth = make_exposure(recipe.simulation_config(), seed=recipe.seed, baseline=recipe.baseline)
    ramp = as_ramp(ramp)
    detector = describe(ramp)
    ramp = linearise(ramp, detector)
    config = DetectionConfig()
    prepared = prepare_all(ramp, detector, config)
    results = search(ramp, prepared)
    rows, columns = ramp.shape[-2:]
    unusable = pixels_without_reads(results, (1, rows, columns))
    none = Proposals(np.zeros(0), np.zeros(1, np.int64), np.zeros(0))
    drawn = Drawn(ramp, prepared[0], truth, none, unusable)
    found = finish(results, prepared, detector, config, drawn.read)
    taken = np.asarray(found.maps["mask"].values) > 0
    steps = found.steps.to_records(index=False)
    taken[steps["integration"], steps["y"], steps["x"]] = True
    return replace(drawn, proposals=propose(prepared, drawn.read, unusable, taken, steps))


def placed_patches(
    drawn: Drawn, settings: PatchSettings, random: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Patches around proposals, true events and random places, in this order."""
    p = drawn.prepared
    groups = [drawn.proposals.group(k) for k in range(len(drawn.proposals) if settings.proposals else 0)]
    places = [
        Place(*(int(group[0][name]) for name in ("integration", "y", "x", "frame"))) for group in groups
    ]
    events = _event_places(drawn.truth, settings.events, random)
    events += np.stack([random.integers(-j, j + 1, len(events)) for j in settings.jitter], axis=1)
    rows, columns = p.detector.active
    low = np.array([p.used[0], rows.start, columns.start])
    high = np.array([p.used[-1] + 1, rows.stop, columns.stop])
    ground = random.integers(low, high, (settings.background, 3))
    others = np.clip(np.concatenate([events, ground]), low, high - 1)
    places += [Place(0, int(y), int(x), int(frame)) for frame, y, x in others]
    kinds = np.repeat([0, 1, 2], [len(groups), len(events), len(ground)])
    near = _near(drawn.truth)
    made: dict[int, dict[str, Any]] = {}
    for number, window in windows(places, [p], drawn.read, drawn.unusable):
        start, (reads, ny, nx) = window.start, window.values.shape[1:]
        region = Region(window.place.integration, start[1], start[1] + ny, start[2], start[2] + nx)
        group = np.zeros(PATCH[1:], bool)
        row: dict[str, Any] = {"real": -1, "score": np.nan}
        if number < len(groups):
            own = groups[number]
            y, x = own["y"] - start[1], own["x"] - start[2]
            inside = (y >= 0) & (y < ny) & (x >= 0) & (x < nx)
            group[y[inside], x[inside]] = True
            row = {"real": int(near(own)), "score": drawn.proposals.score[number]}
        truth = np.full(PATCH, OUTSIDE, np.uint8)
        truth[:reads, :ny, :nx] = classes(drawn.truth, p, region)[start[0] : start[0] + reads]
        made[number] = row | {
            "values": padded(window.values).astype(np.float16), "classes": truth, "group": group,
            "kind": kinds[number], "read": read_of(p, window.place.frame) - start[0], "corner": start,
        }  # fmt: skip
    yield from (made[number] for number in range(len(places)))


def _near(truth: Truth) -> Callable[[NDArray[Any]], bool]:
    """Whether a group of steps touches a true cosmic ray near its first frame."""
    pixels = truth.pixels
    own = (pixels["type"] == "cosmic_ray") & (pixels["amplitude"] >= FAINTEST * pixels["sigma"])
    frames: dict[tuple[int, int], list[int]] = {}
    for y, x, frame in pixels.loc[own, ["y", "x", "first_frame"]].itertuples(index=False):
        frames.setdefault((int(y), int(x)), []).append(int(frame))
    return lambda group: any(
        abs(int(step["frame"]) - frame) <= FRAMES
        for step in group
        for frame in frames.get((int(step["y"]), int(step["x"])), ())
    )


def _event_places(truth: Truth, count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Frame, row and column of pixels of true events: of each type as many where there are enough."""
    pixels = truth.pixels
    types = sorted(pixels["type"].unique())
    found = [np.zeros((0, 3), np.int64)]
    left = count
    for place, name in enumerate(sorted(types, key=lambda t: t != "snowball")):  # there are fewest of them
        own = pixels[pixels["type"] == name]
        quota = left // (len(types) - place)
        each = PER_SNOWBALL if name == "snowball" else 1
        shuffled = own.iloc[random.permutation(len(own))]
        taken = pd.DataFrame(shuffled.groupby("event_id", sort=False).head(each)).iloc[:quota]
        found.append(taken[["first_frame", "y", "x"]].to_numpy(np.int64))
        left -= len(taken)
    return np.concatenate(found)


def grid_patches(drawn: Drawn, grid: Grid) -> Iterator[dict[str, Any]]:
    """Patches that cover an exposure; neighbours share rows and columns, and what comes next no frames.

    The last patch of an axis ends with the exposure, so it shares more. Where the exposure is smaller than a
    patch, the rest of the patch counts nowhere.
    """
    p = drawn.prepared
    spans = [
        [
            (axis.start + first, min(axis.start + first + size, axis.stop))
            for first in _starts(axis.stop - axis.start, size, grid.overlap)
        ]
        for axis, size in zip(p.detector.active, grid.patch_size, strict=True)
    ]
    shape = (grid.patch_frames, *grid.patch_size)
    for (y0, y1), (x0, x1) in product(*spans):
        region = Region(p.integration, y0, y1, x0, x1)
        values = channels(drawn.read(region), p, region, drawn.limits(region))
        truth = classes(drawn.truth, p, region)
        for first in _starts(values.shape[1], shape[0], 0):
            cut = values[:, first : first + shape[0]]
            whole = np.zeros((len(CHANNELS), *shape), np.float16)
            whole[:, : cut.shape[1], : y1 - y0, : x1 - x0] = cut
            own = np.full(shape, OUTSIDE, np.uint8)
            own[: cut.shape[1], : y1 - y0, : x1 - x0] = truth[first : first + shape[0]]
            yield {
                "values": whole, "classes": own, "group": np.zeros(shape[1:], bool), "kind": 3, "real": -1,
                "read": 0, "score": np.nan, "corner": (first, y0, x0),
            }  # fmt: skip


def _starts(length: int, size: int, overlap: int) -> list[int]:
    last = max(0, length - size)
    return [*range(0, last, size - overlap), last]
