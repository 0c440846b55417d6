"""Snowballs in their surroundings: windows that are read again, and the halos fitted in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..regions import Region
from .detector import Detector
from .events import PAIR_EXCESS, Events
from .prepare import Prepared
from .snowballs import Halo, fit_halo
from .surroundings import ReadBlock, Surroundings, look_around

Float = NDArray[np.float32]
Int = NDArray[np.int64]

#: Neighbourhood of a snowball that its halo is fitted in: so many radii and pixels around its centre.
WINDOW_FACTOR, WINDOW_MARGIN = 1.5, 16
#: Steps of other snowballs are fitted to pixels within so many of their radii and pixels.
OTHER_FACTOR, OTHER_MARGIN = 1.2, 8
#: Snowballs so few frames apart cannot be told apart by their steps.
TOGETHER = 1
#: Rates are corrected where the halo is at least this share of the noise of a pixel.
FAINTEST = 0.05
#: Faint steps together make no event where a halo of this share of the noise disturbs them, within so many
#: times the memory of the statistic.
DISTURBED, MEMORY = 0.1, 2.0
#: What a profile says about a single pixel is this uncertain: relative to it, and to the noise of a read.
SINGLE_ERROR, SINGLE_NOISE = 0.1, 0.03
#: A step this many errors off the profile is not of the halo alone.
APART = 4.0


@dataclass(frozen=True)
class Covered:
    """Pixels of a snowball.

    The k pixels it covers: place, step at its first frame [DN, error], and whether it filled them. And
    ``rates``: row, column, rate and its error [DN per mean interval] of every pixel that it left room in.
    """

    integration: int
    frame: int
    y: NDArray[np.intp]
    x: NDArray[np.intp]
    amplitude: Float
    error: Float
    saturating: NDArray[np.bool_]
    rates: Rates


@dataclass(frozen=True)
class Rates:
    """Rates of n pixels with the step of a snowball taken into account [DN per mean interval].

    ``reads`` is the number of reads they rest on.
    """

    y: NDArray[np.intp]
    x: NDArray[np.intp]
    rate: Float
    error: Float
    reads: NDArray[np.int32]


def with_halos(
    events: Events,
    steps: NDArray[Any],
    prepared: Sequence[Prepared],
    detector: Detector,
    read: ReadBlock,
) -> tuple[pd.DataFrame, dict[int, Covered], Int]:
    """Fit the halo of every snowball.

    Returns
    -------
    DataFrame, dict, (n,) int64 array
        The events, less those that a halo explains; the pixels that each snowball covers, by its number; and
        the event of each step.
    """
    table = events.table.rename(columns={"event_id": "old_id"}).assign(
        core_radius=np.nan, halo_amplitude=np.nan, halo_scale=np.nan, expansion=np.nan
    )
    covered: dict[int, Covered] = {}
    owner = events.event_id.copy()
    width = detector.shape[3]
    balls = table[table["type"] == "snowball"].copy()
    index = _Index(events, steps)
    for row in balls.index:
        event = balls.loc[row]
        p = prepared[int(event["integration"])]
        window, frame = _window(event, detector), int(event["first_frame"])
        centre = float(event["y"]), float(event["x"])
        others, here = _others(event, balls, index, window)
        seen = look_around(read, p, window, frame, centre, float(event["amplitude"]), others)
        halo = fit_halo(
            seen.amplitude, np.isfinite(seen.amplitude) & here, seen.core,
            (centre[0] - window.y0, centre[1] - window.x0), seen.sigma, seen.error, p.poisson,
        )  # fmt: skip
        at = np.nonzero(halo.covered)
        y, x = at[0] + window.y0, at[1] + window.x0
        covered[int(event["old_id"])] = Covered(
            window.integration, frame, y, x, seen.amplitude[at], seen.error[at], seen.core[at],
            _rates(seen, halo, window, p.poisson),
        )  # fmt: skip
        found = {
            "radius": halo.radius,
            "core_radius": halo.core_radius,
            "halo_amplitude": halo.amplitude,
            "halo_scale": halo.scale,
            "expansion": seen.expansion,
        }
        for name, value in found.items():
            table.loc[row, name] = value
        for number in _explained(event, halo, window, index, seen.sigma, p.rho_floor):
            gone = index.of(number)
            owner[gone[owner[gone] == number]] = event["old_id"]
        own = steps[index.of(int(event["old_id"]))]
        pixel = np.unique(own["y"].astype(np.int64) * width + own["x"])
        beyond = np.count_nonzero(~np.isin(pixel, y * width + x))
        table.loc[row, "spatial_extent"] = int(halo.covered.sum()) + beyond
    left = table["old_id"].isin(owner) | (table["type"] == "snowball")
    return table[left].reset_index(drop=True), covered, owner


class _Index:
    """The steps of events, found by event or by place without a look at all of them."""

    def __init__(self, events: Events, steps: NDArray[Any]) -> None:
        self.steps, self.number = steps, events.event_id
        self.ray = (events.table["type"] == "cosmic_ray").to_numpy()
        inside = np.flatnonzero(events.event_id >= 0)
        own = events.event_id[inside]
        self.by_event = inside[np.argsort(own, kind="stable")]
        self.count = np.bincount(own, minlength=len(events.table))
        self.start = np.cumsum(self.count) - self.count
        self.height = int(steps["y"].max(initial=0)) + 1
        row = steps["integration"][inside].astype(np.int64) * self.height + steps["y"][inside]
        order = np.argsort(row, kind="stable")
        self.by_row, self.row = inside[order], row[order]

    def of(self, number: int) -> Int:
        """Places of the steps of an event in the table of all."""
        return self.by_event[self.start[number] : self.start[number] + self.count[number]]

    def inside(self, window: Region) -> Int:
        """Places of the steps of events in a window, in their order."""
        rows = window.integration * self.height + np.array([window.y0, min(window.y1, self.height)])
        first, last = np.searchsorted(self.row, rows)
        found = self.by_row[first:last]
        x = self.steps["x"][found]
        return np.sort(found[(x >= window.x0) & (x < window.x1)])


def _explained(
    event: pd.Series, halo: Halo, window: Region, index: _Index, sigma: Float, rho: float
) -> list[int]:
    """Numbers of the cosmic rays that are no event any more without the halo's share of their steps.

    Where a halo is too faint for a step of its own, chance makes steps of it in some pixels, many frames off:
    what a step at one frame adds to that of another falls off with the memory of the statistic.
    """
    near = index.inside(window)
    own, number = index.steps[near], index.number[near]
    y, x = own["y"] - window.y0, own["x"] - window.x0
    with_own = np.zeros(window.shape, np.bool_)
    mine = number == event["old_id"]
    with_own[y[mine], x[mine]] = True
    late = np.abs(own["frame"].astype(np.int64) - int(event["first_frame"]))
    share = halo.expected[y, x] * np.exp(-np.sqrt(rho) * late)
    share = np.where(
        with_own[y, x] | (own["amplitude"] <= 0), 0.0, share / np.maximum(own["amplitude"], 1e-9)
    )
    lost = (
        (halo.expected[y, x] >= DISTURBED * sigma[y, x]) & ~with_own[y, x] & (late <= MEMORY / np.sqrt(rho))
    )
    z = own["significance"] * (1 - np.minimum(share, 1.0))
    rays = np.flatnonzero(index.ray[number] & ~own["saturating"])
    if not rays.size:
        return []
    rays = rays[np.lexsort((-z[rays], number[rays]))]
    found, start = np.unique(number[rays], return_index=True)
    gone: list[int] = []
    for n, here in zip(found, np.split(rays, start[1:]), strict=True):
        if here.size < index.count[n] or not (share[here].max() >= FAINTEST or lost[here].any()):
            continue
        together = np.cumsum(z[here])[1:] / np.sqrt(np.arange(2, here.size + 1))
        threshold = float(own["threshold"][here].max())
        # steps that are none by themselves: where a halo is in all of them they are not independent
        pairs = -np.inf if 2 * np.count_nonzero(lost[here]) > here.size else together.max(initial=-np.inf)
        if z[here[0]] <= threshold and pairs <= threshold + PAIR_EXCESS:
            gone.append(int(n))
    return gone


def _window(event: pd.Series, detector: Detector) -> Region:
    """Neighbourhood of a snowball."""
    rows, columns = detector.active
    reach = int(np.ceil(WINDOW_FACTOR * float(event["radius"]) + WINDOW_MARGIN))
    y, x = round(float(event["y"])), round(float(event["x"]))
    return Region(
        int(event["integration"]), max(rows.start, y - reach), min(rows.stop, y + reach + 1),
        max(columns.start, x - reach), min(columns.stop, x + reach + 1),
    )  # fmt: skip


def _others(
    event: pd.Series, balls: pd.DataFrame, index: _Index, window: Region
) -> tuple[Int, NDArray[np.bool_]]:
    """Steps of other events in a window, (n, 3): row, column, frame; and the pixels that are not another's.

    A snowball at another time adds a step to all pixels it may cover; of two at the same time, each has the
    pixels that are nearer to its own edge.
    """
    near = index.inside(window)
    near = near[~np.isin(index.number[near], balls["old_id"].to_numpy())]
    own = index.steps[near]
    parts = [np.stack([own[k].astype(np.int64) for k in ("y", "x", "frame")], axis=1)]
    y, x = np.mgrid[window.y0 : window.y1, window.x0 : window.x1]
    away = np.hypot(y - event["y"], x - event["x"]) - event["radius"]
    here = np.ones(window.shape, np.bool_)
    there = balls[(balls["integration"] == window.integration) & (balls["old_id"] != event["old_id"])]
    together = (there["first_frame"] - event["first_frame"]).abs() <= TOGETHER
    # how near each comes to the window: most are too far off to reach any of its pixels
    off = [
        np.maximum(np.maximum(low - there[k], there[k] - high), 0.0)
        for k, low, high in (("y", window.y0, window.y1 - 1), ("x", window.x0, window.x1 - 1))
    ]
    nearest = np.hypot(*off) - 1.0
    reach = OTHER_FACTOR * there["radius"] + OTHER_MARGIN
    for _, other in there[nearest <= reach.where(~together, there["radius"] + away.max())].iterrows():
        distance = np.hypot(y - other["y"], x - other["x"])
        if abs(int(other["first_frame"]) - int(event["first_frame"])) <= TOGETHER:
            here &= away <= distance - other["radius"]
        else:
            at = np.nonzero(distance <= OTHER_FACTOR * other["radius"] + OTHER_MARGIN)
            frame = np.full(at[0].size, int(other["first_frame"]))
            parts.append(np.stack([at[0] + window.y0, at[1] + window.x0, frame], axis=1))
    return np.concatenate(parts), here


def _rates(seen: Surroundings, halo: Halo, window: Region, poisson: float) -> Rates:
    """Rates of the pixels in a halo, with the size of their step as far as the profile tells it.

    The profile says more about a faint step than the pixel itself; what it says and what the pixel says are
    weighed by their errors, unless they contradict each other.
    """
    known = np.isfinite(seen.amplitude) & ~seen.core & (halo.expected >= FAINTEST * seen.sigma)
    at = np.nonzero(known)
    expected = halo.expected[at].astype(np.float32)
    amplitude, variance = seen.amplitude[at], seen.error[at] ** 2
    model = (SINGLE_ERROR * expected) ** 2 + (SINGLE_NOISE * seen.sigma[at]) ** 2 + poisson * expected
    alike = (amplitude - expected) ** 2 <= APART**2 * (variance + model)
    # how far the profile moves the amplitude that the pixel has by itself
    share = np.where(alike, variance / (variance + model), np.float32(0)).astype(np.float32)
    lean = seen.lean[at]
    rate = seen.rate[at] + lean * share * (expected - amplitude)
    error = np.sqrt(np.maximum(seen.rate_error[at] ** 2 - lean * lean * share * variance, 0))
    return Rates(
        at[0] + window.y0, at[1] + window.x0, rate.astype(np.float32), error.astype(np.float32),
        seen.reads[at],
    )  # fmt: skip
