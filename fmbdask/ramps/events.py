"""From steps on single pixels to events: the rules that make cosmic rays and snowballs of a step table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from fmbdask_kernels.events import absorb_groups, group_steps
from numpy.typing import NDArray

from .fading import BEATS, BEYOND, DOUBT, EVIDENCE, advantage
from .overlaps import split_groups

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

#: One step of one pixel: where it is, its amplitude and the noise of one read [DN], its calibrated
#: significance and the significance at which the pixel counts as fired, whether the step saturated it, by how
#: many sigma what else the pixel shows makes less of the step, and what early steps and decays explain of its
#: ramp (all 0 where that is not asked), see :mod:`.fading`.
STEP = np.dtype(
    [
        ("integration", np.int32),
        ("frame", np.int32),
        ("y", np.int32),
        ("x", np.int32),
        ("amplitude", np.float32),
        ("significance", np.float32),
        ("sigma", np.float32),
        ("threshold", np.float32),
        ("saturating", np.bool_),
        ("doubt", np.float32),
        ("gains", np.float32, (EVIDENCE,)),
    ]
)

#: Significance from which a step is strong: its frame is exact, weaker ones scatter in time.
STRONG = 6.5
#: Weak steps of neighbours belong together when their frames differ by no more than this.
WEAK_REACH = 2
#: Pixels fire together when the sum of their significances over the root of their number exceeds the
#: threshold by this: two of them, and more, which chance brings together far less often.
PAIR_EXCESS, MORE_EXCESS = 0.85, 0.5
#: Doubt up to which a lone step at the threshold is more likely a hit than not [sigma].
BEYOND_DOUBT = 1.3
#: Smallest axis ratio of a round event.
ROUND = 0.7
#: A disk cut by the edge fills this share of its bounding box (half a disk: 0.79), whose sides are not more
#: unequal than this.
CUT_FILL, CUT_RATIO = 0.6, 0.3
#: Saturated pixels that make a core, which is a snowball with less than the usual number of pixels.
CORE_PIXELS = 9
#: Frames by which a fragment may miss its event, for amplitudes [sigma] below 2.5, 4 and 6, and above:
#: of all its steps in quadrature, and of the highest where it is one of the many fragments of a snowball.
REACH_AMPLITUDES, REACH_FRAMES = np.array([2.5, 4.0, 6.0]), np.array([10, 6, 3, 1])
#: Steps are weighed as if none were higher than this [sigma].
LARGEST = 1e3
#: Pixels by which a fragment may lie away from its event: where its highest step is below 6 sigma, and above.
#: Faint tracks break where the charge of a pixel is too small, and strong ones do not.
GAPS = (3, 2)
#: Frames by which the parts of one snowball may differ.
SNOWBALL_REACH = 6
#: A snowball reaches so much farther than its pixels, and on while a ring of this width is so densely hit.
SWALLOW_FACTOR, SWALLOW_MARGIN, RING_DENSITY = 1.15, 4.0, 0.05


@dataclass(frozen=True)
class Events:
    """Events of one exposure.

    Attributes
    ----------
    table : DataFrame
        One row per event, sorted by integration, first frame, row and column: ``event_id`` (from 0),
        ``type``, ``integration``, ``y`` and ``x`` (centroid [pixel]), ``first_frame``, ``peak_y``,
        ``peak_x``, ``amplitude`` (step of the peak pixel [DN]), ``mean_intensity`` and ``max_intensity``
        (over the steps of its pixels [DN]), ``spatial_extent`` [pixel], ``significance`` (its best step),
        ``excess`` (by how much that passes the threshold of its pixel, less the doubt in it), ``n_steps``,
        ``radius`` [pixel] and ``circularity`` (axis ratio; both NaN but for snowballs), ``n_saturated``
        [pixel].
    event_id : (n,) int64 array
        Event of each step that was handed in, in that order; -1 for none.
    """

    table: pd.DataFrame
    event_id: Int


@dataclass(frozen=True)
class _Groups:
    """What is known of g groups of touching steps; ``member`` lists their steps group by group."""

    member: Int
    start: Int
    best: Int
    integration: Int
    frame: Int
    reach: Int
    alone: Int
    gap: Int
    area: Int
    y: Float
    x: Float
    roundness: Float
    size: Float
    seed: Bool
    snowball: Bool
    cored: Bool
    doubt: Float


def _moments(label: Int, y: Int, x: Int, count: int) -> tuple[Int, Float, Float, Float, Float]:
    """Pixels, centroid, axis ratio and radius of ``count`` sets of pixels; without extent the ratio is 0."""
    area = np.bincount(label, minlength=count)
    norm = np.maximum(area, 1)
    mean_y, mean_x = (np.bincount(label, v, count) / norm for v in (y, x))
    dy, dx = y - mean_y[label], x - mean_x[label]
    yy, xx, xy = (np.bincount(label, v, count) / norm for v in (dy * dy, dx * dx, dy * dx))
    middle, half = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    large = middle + half
    ratio = np.sqrt(np.maximum(middle - half, 0) / np.where(large > 0, large, 1))
    # a ring is as large as the disk with its mean square distance, whatever is missing in the middle
    radius = np.maximum(np.sqrt(area / math.pi), np.sqrt(2 * (yy + xx)))
    return area, mean_y, mean_x, ratio, radius


def _first_of(label: Int) -> Int:
    """Where each run of equal labels starts."""
    return np.flatnonzero(np.r_[True, label[1:] != label[:-1]]) if label.size else np.zeros(0, np.int64)


def _pixels(label: Int, steps: NDArray[Any]) -> tuple[Int, Int, Int, Float]:
    """Distinct pixels of each label: (label, y, x, best significance of the pixel)."""
    y, x = steps["y"].astype(np.int64), steps["x"].astype(np.int64)
    width, height = (int(v.max(initial=0)) + 1 for v in (x, y))
    pixel = (label * height + y) * width + x
    order = np.lexsort((-steps["significance"], pixel))
    at = order[_first_of(pixel[order])]
    return label[at], y[at], x[at], steps["significance"][at]


def _canonical(steps: NDArray[Any], chosen: Int) -> Int:
    """The chosen steps in an order that does not depend on the one they came in."""
    if chosen.size == 0:
        return chosen
    place = np.zeros(chosen.size, np.int64)
    for key in ("integration", "frame", "y", "x"):
        values = steps[key][chosen]
        place = place * (int(values.max()) + 1) + values
    order = np.argsort(place, kind="stable")
    if np.all(np.diff(place[order])):
        return chosen[order]
    first = ("amplitude", "significance", "sigma", "saturating")
    rest = [name for name in steps.dtype.names or () if name not in (*first, "gains")]
    keys = [*steps["gains"][chosen].T, *(steps[name][chosen] for name in (*rest, *reversed(first))), place]
    return chosen[np.lexsort(keys)]


def _cut(label: Int, y: Int, x: Int, area: Int, bounds: tuple[int, int, int, int]) -> Bool:
    """Whether each set of pixels is a disk cut off by the edge of the detector: full, and not too narrow.

    ``label`` is sorted; ``bounds`` are the first and last row, and the first and last column that see light.
    """
    start = _first_of(label)
    top, bottom = np.minimum.reduceat(y, start), np.maximum.reduceat(y, start)
    left, right = np.minimum.reduceat(x, start), np.maximum.reduceat(x, start)
    touches = (top == bounds[0]) | (bottom == bounds[1]) | (left == bounds[2]) | (right == bounds[3])
    height, width = bottom - top + 1, right - left + 1
    full = area > CUT_FILL * height * width
    return np.asarray(touches & full & (np.minimum(height, width) > CUT_RATIO * np.maximum(height, width)))


def _common_frame(label: Int, frame: Int, height: Float, count: int) -> tuple[Int, Float]:
    """Frame of most of the height [sigma] of each group, and the height in quadrature within one frame of it.

    The frame of a step is the less certain the lower it is; steps of one event settle it together.
    """
    span = int(frame.max()) + 1
    cell, place = np.unique(label * span + frame, return_inverse=True)
    square = np.bincount(place, height * height)
    owner, when = np.divmod(cell, span)
    order = np.lexsort((when, -square, owner))
    common = np.zeros(count, np.int64)
    common[owner[order[_first_of(owner[order])]]] = when[order[_first_of(owner[order])]]
    near = np.abs(frame - common[label]) <= 1
    return common, np.sqrt(np.bincount(label, np.where(near, height * height, 0.0), count))


def _describe(steps: NDArray[Any], min_pixels: int, bounds: tuple[int, int, int, int] | None) -> _Groups:
    """Group touching steps and say which groups are events on their own, and which of them snowballs."""
    strong = (steps["significance"] >= STRONG) | steps["saturating"]
    apart = steps["integration"].astype(np.int64) * (int(steps["frame"].max()) + 3)
    label = group_steps(steps["frame"] + apart, steps["y"], steps["x"], strong, 1, WEAK_REACH).astype(
        np.int64
    )
    label, overlapping = split_groups(steps, label, strong, min_pixels)
    count = int(label.max()) + 1
    member = np.lexsort((-steps["significance"], label))
    start = _first_of(label[member])
    best = member[start]
    owner, y, x, peak = _pixels(label, steps)
    area, mean_y, mean_x, roundness, size = _moments(owner, y, x, count)
    by_peak = np.lexsort((-peak, owner))
    first = _first_of(owner[by_peak])
    rank = np.arange(peak.size) - first[owner[by_peak]] + 1
    total = np.cumsum(peak[by_peak])
    together = (total - (total - peak[by_peak])[first][owner[by_peak]]) / np.sqrt(rank)
    together -= np.where(rank > 2, MORE_EXCESS, PAIR_EXCESS)
    together = np.maximum.reduceat(np.where(rank > 1, together, -np.inf), first)
    threshold = steps["threshold"][best]
    doubted = np.maximum(steps["doubt"][best] - BEYOND_DOUBT, 0)
    fired = (steps["significance"][best] > threshold + doubted) | steps["saturating"][best]
    fired |= together > threshold
    beats = advantage(steps)[best]
    fired &= beats > BEATS
    saturated = steps["saturating"]
    core, core_y, core_x, _ = _pixels(label[saturated], steps[saturated])
    core_area, _, _, core_roundness, _ = _moments(core, core_y, core_x, count)
    is_round = roundness > ROUND
    if bounds is not None:
        is_round |= _cut(owner, y, x, area, bounds) & (core_area >= CORE_PIXELS)
    # weak steps, which touch by chance more often, may be the rim of a snowball, but not one of their own
    snowball = fired & is_round & (area >= min_pixels) & (steps["significance"][best] >= STRONG)
    cored = fired & is_round & (core_area >= CORE_PIXELS) & (core_roundness > ROUND) & (area > core_area)
    cored[overlapping] = True
    snowball |= cored
    sigma = steps["sigma"]
    height = np.where(sigma > 0, steps["amplitude"] / np.where(sigma > 0, sigma, 1), np.inf)
    height = np.minimum(np.where(steps["saturating"], np.inf, height), LARGEST)
    frame, together = _common_frame(label, steps["frame"].astype(np.int64), height, count)
    reach, alone = (
        REACH_FRAMES[np.searchsorted(REACH_AMPLITUDES, h, side="right")] for h in (together, height[best])
    )
    broken = height[best] < REACH_AMPLITUDES[-1]
    return _Groups(
        member=member,
        start=np.r_[start, member.size],
        best=best,
        integration=steps["integration"][best].astype(np.int64),
        frame=frame,
        reach=reach.astype(np.int64),
        alone=alone.astype(np.int64),
        gap=np.where(broken, *GAPS),
        area=area,
        y=mean_y,
        x=mean_x,
        roundness=roundness,
        size=size,
        seed=fired,
        snowball=snowball,
        cored=cored,
        doubt=DOUBT * np.maximum(BEYOND - beats, 0.0),
    )


def _swallow(groups: _Groups, order: Int) -> Int:
    """Let each snowball, strongest first, take in the groups within its radius; returns the event of each.

    Another snowball with a core of its own stays one.
    """
    into = np.full(groups.area.size, -1, np.int64)
    for g in order[groups.snowball[order]]:
        if into[g] >= 0:
            continue
        late = np.abs(groups.frame - groups.frame[g])
        near = (groups.integration == groups.integration[g]) & (into < 0)
        near &= ~groups.cored
        near &= late <= np.where(groups.snowball, SNOWBALL_REACH, groups.alone)
        near = np.flatnonzero(near)
        away = np.hypot(groups.y[near] - groups.y[g], groups.x[near] - groups.x[g])
        area = np.where(groups.snowball[near], 0, groups.area[near])
        radius = SWALLOW_FACTOR * groups.size[g] + SWALLOW_MARGIN
        while True:
            wider = radius + SWALLOW_MARGIN
            inside = (away > radius) & (away <= wider)
            if area[inside].sum() < RING_DENSITY * math.pi * (wider * wider - radius * radius):
                break
            radius = wider
        into[near[away <= radius]] = g
        into[g] = g
    return into


def find_events(
    steps: NDArray[Any],
    *,
    snowball_min_pixels: int = 30,
    bounds: tuple[int, int, int, int] | None = None,
) -> Events:
    """Make events out of the steps of one exposure, the same ones for any order of the steps.

    Steps that touch in (frame, y, x) are grouped, strong and weak ones apart. A group is an event when its
    best step passes the threshold of its pixel, or its two best pixels pass together. Round groups of many
    pixels, or with a round saturated core, are snowballs; they take in what lies within their radius at the
    same time. Fragments within two pixels and a few frames of a stronger event join it, those too weak to be
    events included: the neighbours that share the charge of a hit belong to it.

    Parameters
    ----------
    steps : (n,) array of dtype ``STEP``
        Positive steps of pixels that are not telegraph noise; several per pixel and integration are allowed.
        Steps of negative or undefined significance belong to no event.
    snowball_min_pixels : int
        Fewest pixels of a snowball without a saturated core.
    bounds : (int, int, int, int), optional
        First and last row, first and last column that see light: snowballs with a saturated core that these
        cut need not be round.

    Returns
    -------
    Events
    """
    event_id = np.full(steps.size, -1, np.int64)
    usable = np.flatnonzero(steps["significance"] > 0)
    usable = _canonical(steps, usable)
    if usable.size == 0:
        return Events(event_table(steps[:0], np.zeros(0, np.int64), {}), event_id)
    table = steps[usable]
    groups = _describe(table, snowball_min_pixels, bounds)
    peak = table["significance"][groups.best]
    order = np.lexsort((np.arange(peak.size), -peak, ~groups.snowball))
    into = _swallow(groups, order)
    width, height = int(table["x"].max()) + 1 + max(GAPS), int(table["y"].max()) + 1 + max(GAPS)
    row = (table["integration"].astype(np.int64) * height + table["y"]) * width + table["x"]
    into = absorb_groups(
        row[groups.member], groups.start, width, groups.frame, groups.reach, groups.gap, groups.seed, order,
        into,
    )  # fmt: skip
    owner = np.empty(table.size, np.int64)
    owner[groups.member] = np.repeat(into, np.diff(groups.start))
    inside = owner >= 0
    founders, number = np.unique(owner[inside], return_inverse=True)
    snowball = groups.snowball[founders]
    first = groups.frame[founders].copy()
    for i in np.flatnonzero(snowball):
        own = groups.member[groups.start[founders[i]] : groups.start[founders[i] + 1]]
        first[i] = int(np.bincount(table["frame"][own]).argmax())
    lead = table[groups.best[founders]]
    excess = lead["significance"].astype(np.float64) - lead["threshold"] - lead["doubt"]
    excess -= groups.doubt[founders]
    result = event_table(
        table[inside],
        number,
        {"first_frame": first, "snowball": snowball, "significance": peak[founders], "excess": excess},
    )
    rank = np.empty(founders.size, np.int64)
    rank[result["event_id"].to_numpy()] = np.arange(founders.size)
    event_id[usable[inside]] = rank[number]
    result["event_id"] = np.arange(founders.size)
    return Events(result, event_id)


def event_table(steps: NDArray[Any], number: Int, known: dict[str, NDArray[Any]]) -> pd.DataFrame:
    """Describe groups of steps: one row per event, sorted; ``event_id`` holds the old number of each."""
    count = known["snowball"].size if known else 0
    snowball = known.get("snowball", np.zeros(0, bool))
    owner, y, x, _ = _pixels(number, steps)
    area, _, _, roundness, radius = _moments(owner, y, x, count)
    saturated = steps["saturating"]
    core, core_y, core_x, _ = _pixels(number[saturated], steps[saturated])
    core_area, core_mean_y, core_mean_x, _, _ = _moments(core, core_y, core_x, count)
    amplitude = np.maximum(steps["amplitude"].astype(np.float64), 0.0)
    total = np.bincount(number, amplitude, count)
    weight = np.where(total[number] > 0, amplitude, 1.0)
    norm = np.bincount(number, weight, count)
    centre_y, centre_x = (np.bincount(number, weight * steps[k], count) / norm for k in ("y", "x"))
    # the centre of a disk that the edge or another snowball cuts is that of its core, or its brightest part
    cored = snowball & (core_area >= CORE_PIXELS)
    centre_y, centre_x = np.where(cored, core_mean_y, centre_y), np.where(cored, core_mean_x, centre_x)
    order = np.lexsort((-steps["amplitude"], number))
    peak = order[_first_of(number[order])]
    columns = {
        "event_id": np.arange(count),
        "type": np.where(snowball, "snowball", "cosmic_ray"),
        "integration": steps["integration"][peak].astype(np.int64),
        "y": centre_y,
        "x": centre_x,
        "first_frame": known.get("first_frame", np.zeros(0, np.int64)),
        "peak_y": steps["y"][peak].astype(np.int64),
        "peak_x": steps["x"][peak].astype(np.int64),
        "amplitude": steps["amplitude"][peak].astype(np.float64),
        "mean_intensity": np.bincount(number, steps["amplitude"], count) / np.maximum(area, 1),
        "max_intensity": steps["amplitude"][peak].astype(np.float64),
        "spatial_extent": area,
        "significance": known.get("significance", np.zeros(0)).astype(np.float64),
        "excess": known.get("excess", np.zeros(0)).astype(np.float64),
        "n_steps": np.bincount(number, minlength=count),
        "radius": np.where(snowball, radius, np.nan),
        "circularity": np.where(snowball, roundness, np.nan),
        "n_saturated": core_area,
    }
    rows = np.lexsort([columns[k] for k in ("peak_x", "peak_y", "first_frame", "integration")])
    return pd.DataFrame({key: values[rows] for key, values in columns.items()})
