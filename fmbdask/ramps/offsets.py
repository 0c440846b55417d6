"""Offsets that many pixels share in a read, and reads that are not worth using, measured on one exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from fmbdask_kernels.reference import active_sums, group_offsets
from fmbdask_kernels.temporal import MAD_SIGMA
from numpy.typing import NDArray
from scipy import ndimage, optimize

from ..regions import Region
from .common import CELL, Cells
from .config import DetectionConfig
from .detector import MIN_FRAMES, Detector, saturation_levels
from .sample import read

Float = NDArray[np.float32]

#: Differences of a pixel are winsorised at this many sigma before they are averaged over pixels.
REACH = 4.5
#: Reads over which the slow part of the offset of a row is left alone: sums of errors wander.
ROW_WINDOW = 9
#: A read at either end is left out when its scatter exceeds the usual one by this factor, ...
SETTLING_SCATTER = 1.25
#: ... or its common offset by this many read sigma and this many times its usual scatter.
SETTLING_OFFSET, SETTLING_TIMES = 0.5, 5.0
#: Largest share of the reads that settling may take from either end.
SETTLING_SHARE = 0.15
#: Fewest pixels that can show it.
SETTLING_PIXELS = 64
#: Frames whose intervals and reads vary by less than this are evenly spaced.
EVEN = 1e-3
#: Offsets that explain less than this share of their own variance beyond noise are not subtracted.
WORTH = 0.2


@dataclass(frozen=True)
class Correction:
    """Offsets to subtract from the used reads [DN]: ``column + gradient * height + row``.

    ``column`` and ``gradient`` (N, nx), ``height`` (ny,), ``row`` (N, ny).
    """

    column: Float
    gradient: Float
    height: Float
    row: Float

    @property
    def parts(self) -> tuple[Float, Float, Float, Float]:
        """Column, gradient, height and row."""
        return self.column, self.gradient, self.height, self.row


@dataclass(frozen=True)
class Shared:
    """What the active pixels of the blocks have in common, over all T frames.

    ``group`` (T - 1, groups): difference of the quiet pixels of each group, less its usual one;
    ``group_pixels`` (groups,); ``row`` (T - 1, ny) and ``row_pixels`` (ny,) the same of rows, less the
    groups; ``scatter`` (T - 1,): mean square of the winsorised differences [DN^2]; ``variance``
    (amplifiers,): robust variance of a difference; ``slope`` (amplifiers,): its median.
    """

    group: NDArray[np.float64]
    group_pixels: NDArray[np.int64]
    row: NDArray[np.float64]
    row_pixels: NDArray[np.int64]
    scatter: NDArray[np.float64]
    variance: NDArray[np.float64]
    slope: NDArray[np.float64]


def reference_offsets(ramp: xr.DataArray, detector: Detector, integration: int) -> Correction:
    """Offsets of every frame from the reference border; zero where there is none."""
    frames, rows, columns = detector.shape[1:]
    bottom, top, left, right = detector.border
    groups = int(detector.group.max()) + 1
    used = np.arange(frames)
    ends = []
    for y0, y1 in ((0, bottom), (rows - top, rows)):
        if y1 > y0:
            strip = read(ramp, Region(integration, y0, y1, 0, columns))
            ends.append(((y0 + y1 - 1) / 2, *group_offsets(strip, used, detector.group, groups)))
    column = np.zeros((frames, groups))
    gradient = np.zeros((frames, groups))
    middle = (rows - 1) / 2
    if ends:
        weight = sum(e[2] for e in ends)
        column = sum(e[1] * e[2] for e in ends) / np.maximum(weight, 1)
        if len(ends) == 2:
            (low, a, na), (high, b, nb) = ends
            gradient, column = _gradient(a, na, b, nb, low, high, middle, column)
    elif left or right:
        # amplifiers that take turns meet every group in the side columns
        parts = []
        for x0, x1 in ((0, left), (columns - right, columns)):
            if x1 > x0:
                strip = read(ramp, Region(integration, 0, rows, x0, x1))
                parts.append(group_offsets(strip, used, detector.group[x0:x1], groups))
        weight = sum(n for _, n in parts)
        column = sum(m * n for m, n in parts) / np.maximum(weight, 1)
    height = ((np.arange(rows) - middle) / max(rows - 1, 1)).astype(np.float32)
    return Correction(
        column.astype(np.float32)[:, detector.group],
        gradient.astype(np.float32)[:, detector.group],
        height,
        np.zeros((frames, rows), np.float32),
    )


def _gradient(
    a: NDArray[np.float64],
    na: NDArray[np.int64],
    b: NDArray[np.float64],
    nb: NDArray[np.int64],
    low: float,
    high: float,
    middle: float,
    column: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Difference of top and bottom over the frame, shrunk by its own noise, and the offset at mid height.

    One that is white in time is left alone: the 1/f noise of a frame is no straight line between its ends. At
    the best weight (0.4 to 0.45 on simulated drifts) it takes 3 % of the variance of an amplifier's rows, at
    full weight it adds 2 to 4 %; what all amplifiers share of it, the offsets of rows take out.
    """
    both = ((na > 0) & (nb > 0)).all(axis=0)
    gradient = np.zeros_like(a)
    if not both.any():
        return gradient, column
    difference = (b - a)[:, both]
    # noise shows from read to read; a gradient worth having is larger, or slower
    noise = np.mean(np.diff(difference, axis=0) ** 2) / 2
    power = np.mean((difference - difference.mean(axis=0)) ** 2)
    share = max(0.0, 1 - noise / power) if power > 0 else 0.0
    if share < WORTH:
        return gradient, column
    span = 2 * middle
    gradient[:, both] = share * difference * span / (high - low)
    interpolated = a + (b - a) * (middle - low) / (high - low)
    result = column.copy()
    result[:, both] += share * (interpolated - column)[:, both]
    return gradient, result


def shared(ramp: xr.DataArray, detector: Detector, reference: Correction, blocks: list[Region]) -> Shared:
    """Find what the pixels of the blocks do together from read to read."""
    frames, rows = detector.shape[1:3]
    groups, amplifiers = int(detector.group.max()) + 1, int(detector.amplifier.max()) + 1
    used = np.arange(frames)
    interval = np.diff(detector.times) * ((frames - 1) / (detector.times[-1] - detector.times[0]))
    found = Cells(frames - 1, groups, rows)
    scatter = np.zeros(frames - 1)
    levels = saturation_levels(ramp, detector)
    spreads: list[list[NDArray[np.float64]]] = [[] for _ in range(amplifiers)]
    slopes: list[list[NDArray[np.float64]]] = [[] for _ in range(amplifiers)]
    for block in blocks:
        data = read(ramp, block)
        amplifier = detector.amplifier[block.x]
        spread, slope = _spread(data, amplifier, interval)
        for a, value in spread.items():
            spreads[a].append(value)
            slopes[a].append(slope[a])
        reach = REACH * float(np.sqrt(np.median([v.mean() for v in spread.values()])))
        height = (
            reference.height[block.y] if reference.gradient.any() else np.zeros(block.shape[0], np.float32)
        )
        good = _steady(ramp, data, detector, block, levels)
        sums, row_sums, square = active_sums(
            data, used, reference.column[:, block.x], reference.gradient[:, block.x], height, reach,
            good.astype(np.float32), CELL, interval.astype(np.float32),
        )  # fmt: skip
        found.add(block, detector.group[block.x], good, sums, row_sums, reach)
        scatter += square
    group, group_pixels = found.of_groups()
    row, row_pixels = found.of_rows(group)
    pixels = max(int(group_pixels.sum()), 1)
    empty = np.array([1.0])
    variance = np.array([np.median(np.concatenate(s or [empty])) for s in spreads])
    scatter, usual = _comparable(scatter / pixels, detector, interval)
    if usual is not None:
        # the median of differences of many kinds is that of none
        variance *= usual / variance.mean()
    return Shared(
        group, group_pixels, row, row_pixels, scatter, variance,
        np.array([np.median(np.concatenate(s or [empty])) for s in slopes]),
    )  # fmt: skip


def _steady(
    ramp: xr.DataArray,
    data: NDArray[np.generic],
    detector: Detector,
    block: Region,
    levels: Float | None,
) -> NDArray[np.bool_]:
    """Pixels of a block that are neither marked as bad, nor saturated or not finite at either end."""
    level = detector.saturation if levels is None else levels[block.y, block.x]
    good: NDArray[np.bool_] = (data[-1] < level) & np.isfinite(data[0]) & np.isfinite(data[-1])
    if "bad_pixel" in ramp.coords:
        good &= np.asarray(ramp.coords["bad_pixel"][block.y, block.x].values) == 0
    return good


def _comparable(
    scatter: NDArray[np.float64], detector: Detector, interval: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float | None]:
    """Scatter of differences as if all frames averaged as many reads and were as far apart, and its mean.

    The mean is None where they are.
    """
    reads = (1 / detector.reads[1:] + 1 / detector.reads[:-1]) / 2
    if max(np.ptp(interval), np.ptp(reads)) < EVEN or not scatter.all():
        return scatter, None
    ends = int(SETTLING_SHARE * scatter.size)
    inner = slice(ends, scatter.size - ends)
    # read noise and photons, each as good as it fits relative to what is seen
    model = np.stack([reads, interval], axis=1)
    parts, _ = optimize.nnls(model[inner] / scatter[inner, None], np.ones(scatter[inner].size))
    expected = model @ parts
    mean = float(expected.mean())
    return scatter / expected * mean, mean


def _spread(
    data: NDArray[np.generic], amplifier: NDArray[np.int64], interval: NDArray[np.float64]
) -> tuple[dict[int, NDArray[np.float64]], dict[int, NDArray[np.float64]]]:
    """Robust variance of a difference and mean difference of a few pixels of each amplifier."""
    spread, slope = {}, {}
    for a in np.unique(amplifier):
        columns = np.flatnonzero(amplifier == a)
        columns = columns[:: max(1, columns.size // 8)]
        few = (
            data[:, :: max(1, data.shape[1] // 16)][:, :, columns]
            .astype(np.float64)
            .reshape(data.shape[0], -1)
        )
        with np.errstate(invalid="ignore", over="ignore"):
            d = np.diff(few, axis=0)
        d = d[:, np.isfinite(d).all(axis=0)]
        if not d.size:
            continue
        middle = np.median(d / interval[:, None], axis=0) * interval[:, None]
        # rounding to whole counts hides small scatter: its variance is the floor
        with np.errstate(over="ignore"):
            size = MAD_SIGMA * _small_sample(d.shape[0]) * np.median(np.abs(d - middle), axis=0)
            spread[int(a)] = np.maximum(size**2, 1 / 6)
        slope[int(a)] = d.mean(axis=0)
    if not spread:
        spread[int(amplifier[0])], slope[int(amplifier[0])] = np.array([1.0]), np.array([0.0])
    return spread, slope


def _small_sample(values: int) -> float:
    """Factor by which the median absolute deviation of few values falls short (Croux & Rousseeuw 1992)."""
    return values / (values - 0.8)


def choose_frames(
    found: Shared, candidates: NDArray[np.int64], config: DetectionConfig
) -> tuple[NDArray[np.int64], list[str]]:
    """Leave out reads at either end that settle: asked for, or seen in scatter and common offset."""
    notes = []
    m = found.scatter.size
    usual = float(np.median(found.scatter))
    common = np.average(found.group, axis=1, weights=np.maximum(found.group_pixels, 1e-9))
    middle = float(np.median(common))
    offset = SETTLING_OFFSET * float(np.sqrt(usual / 2))
    offset = max(offset, SETTLING_TIMES * MAD_SIGMA * float(np.median(np.abs(common - middle))))
    # chance alone makes means over few pixels differ
    pixels = max(int(found.group_pixels.sum()), 1)
    enough = m > MIN_FRAMES and pixels >= SETTLING_PIXELS
    excess = max(SETTLING_SCATTER, 1 + SETTLING_TIMES * float(np.sqrt(2 / pixels)))
    offset = max(offset, SETTLING_TIMES * float(np.sqrt(usual / pixels)))
    most = int(SETTLING_SHARE * m)
    odd = (found.scatter > excess * usual) | (np.abs(common - middle) > offset)
    first = last = 0
    if config.skip_first == "auto":
        while first < most and enough and odd[first]:
            first += 1
        if first:
            which = "frame settles and is" if first == 1 else f"{first} frames settle and are"
            notes.append(f"the first {which} left out")
    else:
        first = int(config.skip_first)
    if config.skip_last == "auto":
        while last < most and enough and odd[m - 1 - last]:
            last += 1
        if last:
            which = "frame stands out and is" if last == 1 else f"{last} frames stand out and are"
            notes.append(f"the last {which} left out")
    else:
        last = int(config.skip_last)
    frames = candidates[(candidates >= first) & (candidates < m + 1 - last)]
    return frames, notes


def complete(
    reference: Correction, found: Shared, detector: Detector, config: DetectionConfig, used: NDArray[np.int64]
) -> tuple[Correction, list[str]]:
    """Offsets of the used frames: those of the border, plus what the active pixels share beyond noise."""
    notes = []
    column, row = reference.column[used].astype(np.float64), np.zeros((used.size, reference.row.shape[1]))
    gradient = reference.gradient[used]
    noise = float(np.median(found.scatter)) / 2
    if config.common_mode:
        offset = _detrended(_cumulated(found.group, used), detector.times[used])
        error = noise / np.maximum(found.group_pixels, 1)
        power = offset.var(axis=0)
        share = np.where(power > 0, np.maximum(0, 1 - error / np.maximum(power, 1e-12)), 0)
        share[share < WORTH] = 0
        if share.any():
            column += (offset * share)[:, detector.group]
            notes.append(
                f"common offsets of {np.sqrt(np.mean((offset * share) ** 2)):.2f} DN rms are subtracted"
            )
    if config.row_noise and used.size > 2:
        offset = _cumulated(found.row, used)
        offset -= ndimage.uniform_filter1d(offset, ROW_WINDOW, axis=0, mode="nearest")
        seen = found.row_pixels > 0
        if seen.any():
            # the running mean takes its share of the noise with it
            row_error = noise / float(np.median(found.row_pixels[seen])) * (1 - 1 / ROW_WINDOW)
            spread = float(offset[:, seen].var())
            worth = max(0.0, 1 - row_error / spread) if spread > 0 else 0.0
            if worth >= WORTH:
                row[:, seen] = worth * offset[:, seen]
                notes.append(f"row offsets of {worth * np.sqrt(spread):.2f} DN rms are subtracted")
    return (
        Correction(column.astype(np.float32), gradient, reference.height, row.astype(np.float32)),
        notes,
    )


def _cumulated(differences: NDArray[np.float64], used: NDArray[np.int64]) -> NDArray[np.float64]:
    """Offsets of the used frames from the differences between all."""
    whole = np.concatenate([np.zeros((1, differences.shape[1])), np.cumsum(differences, axis=0)])
    return whole[used]


def _detrended(offset: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take out mean and slope: the mean rate of an amplifier belongs to the sky."""
    t = times - times.mean()
    slope = t @ offset / (t @ t)
    straight: NDArray[np.float64] = offset - offset.mean(axis=0) - t[:, None] * slope
    return straight
