"""What is known of the detector that took a ramp, read from its labels; nothing is guessed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from fmbdask_kernels.covariance import read_pattern
from numpy.typing import NDArray

from ..errors import InputError

#: Share of the saturation level from which a read is no longer linear enough to be used.
SATURATION_SHARE = 0.98
FULL_SCALE = 65535.0
MIN_FRAMES = 4


@dataclass(frozen=True)
class Detector:
    """Geometry, noise and timing of one exposure.

    Attributes
    ----------
    shape : tuple of int
        (integration, frame, y, x).
    gain : float or None
        [electron/DN]; the median of ``gain_map`` (ny, nx) where there is one.
    gain_map : array or None
        [electron/DN].
    read_noise : float or None
        Noise of one read as the header states it [electron, DN without a gain].
    saturation : float
        Reads at or above this level are not used [DN].
    border : tuple of int
        Reference pixels at (bottom, top, left, right).
    group : (nx,) int array
        Amplifier and column parity of each column: ``2 * amplifier + parity``.
    amplifier : (nx,) int array
        Amplifier of each column.
    times : (T,) float array
        Mean time of each frame [s], or frame numbers where no time is known.
    reads : (T,) int array
        Reads averaged into each frame.
    spacing : (T,) float array
        Time between them, in the unit of ``times``; without a word about it they fill the time to the nearest
        frame evenly.
    time_unit : str
        ``s`` or ``frame``.
    """

    exposure: str
    source: str
    shape: tuple[int, int, int, int]
    gain: float | None
    gain_map: NDArray[np.float32] | None
    read_noise: float | None
    saturation: float
    border: tuple[int, int, int, int]
    group: NDArray[np.int64]
    amplifier: NDArray[np.int64]
    times: NDArray[np.float64]
    reads: NDArray[np.int64]
    spacing: NDArray[np.float64]
    time_unit: str

    @property
    def poisson(self) -> float:
        """Variance per DN of signal [DN]; 0 where the gain is unknown."""
        return 1.0 / self.gain if self.gain else 0.0

    @property
    def active(self) -> tuple[slice, slice]:
        """Rows and columns that see light."""
        bottom, top, left, right = self.border
        return slice(bottom, self.shape[2] - top), slice(left, self.shape[3] - right)

    def pattern(self, used: NDArray[np.int64]) -> NDArray[np.float64]:
        """Reads of the frames in use, as the covariance needs them.

        Raises
        ------
        InputError
            If the reads of two frames overlap.
        """
        try:
            pattern: NDArray[np.float64] = read_pattern(
                self.times[used], self.reads[used], self.spacing[used]
            )
        except ValueError as error:
            raise InputError(f"{self.source}: {error}") from None
        return pattern

    def interval(self, used: NDArray[np.int64]) -> float:
        """Mean time between frames in use [s or frame]."""
        return float((self.times[used[-1]] - self.times[used[0]]) / (used.size - 1))


def describe(ramp: xr.DataArray) -> Detector:
    """Read the labels of a ramp.

    Parameters
    ----------
    ramp : DataArray
        Dimensions (integration, frame, y, x); (frame, y, x) is not accepted, see :func:`as_ramp`.

    Returns
    -------
    Detector

    Raises
    ------
    InputError
        If dimensions are missing, there are too few frames, the border leaves no pixel, times do not
        increase, or the amplifiers do not fit.
    """
    attrs: dict[Any, Any] = dict(ramp.attrs)
    source = str(attrs.get("source", "the ramp"))
    integrations, frames, rows, columns = ramp.shape
    if frames < MIN_FRAMES:
        raise InputError(f"{source} has {frames} frames: a ramp needs at least {MIN_FRAMES}")
    border = attrs.get("reference_border") or (0, 0, 0, 0)
    bottom, top, left, right = (int(b) for b in border)
    if min(bottom, top, left, right) < 0 or bottom + top >= rows or left + right >= columns:
        raise InputError(
            f"{source}: reference_border {list(border)} leaves no pixel of {rows} x {columns}: "
            "give the right border"
        )
    amplifiers = int(attrs.get("amplifiers", 1))
    layout = str(attrs.get("amplifier_layout", "contiguous"))
    if not 1 <= amplifiers <= columns:
        raise InputError(
            f"{source}: amplifiers is {amplifiers}, but there are {columns} columns: give the right number"
        )
    column = np.arange(columns)
    if layout == "contiguous":
        amplifier = np.minimum(column * amplifiers // columns, amplifiers - 1)
        parity = column % 2
    elif layout == "interleaved":
        amplifier, parity = column % amplifiers, np.zeros(columns, np.int64)
    else:
        raise InputError(
            f"{source}: amplifier_layout {layout!r} is not known: give 'contiguous' or 'interleaved'"
        )
    times = np.asarray(
        ramp.coords["read_times"].values if "read_times" in ramp.coords else np.arange(frames), np.float64
    )
    if not np.all(np.diff(times) > 0):
        raise InputError(f"{source}: read_times do not increase: give the frames in the order they were read")
    unit = str(ramp.coords["read_times"].attrs.get("units", "s")) if "read_times" in ramp.coords else "frame"
    reads = ramp.coords["reads_per_frame"].values if "reads_per_frame" in ramp.coords else np.ones(frames)
    if not np.all(np.asarray(reads) >= 1):
        raise InputError(f"{source}: reads_per_frame must be at least 1 everywhere")
    gaps = np.diff(times)
    spacing = np.minimum(np.append(gaps, gaps[-1]), np.append(gaps[0], gaps)) / np.maximum(reads, 1)
    interval = attrs.get("read_interval")
    if interval is not None and unit == "s":
        if not isinstance(interval, int | float | np.number) or not 0 < interval < np.inf:
            raise InputError(f"{source}: read_interval is {interval!r}: give seconds above 0")
        spacing[:] = interval
    gain = attrs.get("gain")
    if gain is not None and not gain > 0:
        raise InputError(f"{source}: gain is {gain}: it must be positive")
    gains = None
    if "gain_map" in ramp.coords:
        gains = np.asarray(ramp.coords["gain_map"].values, np.float32)
        known = gains[np.isfinite(gains)]
        gain = float(np.median(known)) if known.size else 0.0
        if not gain > 0:
            raise InputError(f"{source}: the gain map has no positive median: give positive gains")
    level = attrs.get("saturation")
    if level is not None:
        saturation = SATURATION_SHARE * float(level)
    else:
        saturation = FULL_SCALE if ramp.dtype == np.uint16 else np.inf
    noise = attrs.get("read_noise")
    return Detector(
        exposure=str(attrs.get("exposure", "exposure")),
        source=source,
        shape=(integrations, frames, rows, columns),
        gain=None if gain is None else float(gain),
        gain_map=gains,
        read_noise=None if noise is None else float(noise),
        saturation=saturation,
        border=(bottom, top, left, right),
        group=(2 * amplifier + parity).astype(np.int64),
        amplifier=amplifier.astype(np.int64),
        times=times,
        reads=np.asarray(reads, np.int64),
        spacing=spacing,
        time_unit=unit,
    )


def saturation_levels(ramp: xr.DataArray, detector: Detector) -> NDArray[np.float32] | None:
    """Level at or above which reads of each pixel are not used [DN], or None where one number holds for all.

    Pixels whose level the map does not know have that of the exposure.
    """
    if "saturation_map" not in ramp.coords:
        return None
    levels = np.asarray(ramp.coords["saturation_map"].values, np.float32)
    known = np.where(np.isfinite(levels), np.float32(SATURATION_SHARE) * levels, detector.saturation)
    return known.astype(np.float32)


def as_ramp(ramp: xr.DataArray) -> xr.DataArray:
    """Accept (frame, y, x) as one integration, and any order of the four dimensions.

    Raises
    ------
    InputError
        If a dimension is missing or unknown.
    """
    dims = ("integration", "frame", "y", "x")
    missing = [d for d in dims[1:] if d not in ramp.dims]
    unknown = [str(d) for d in ramp.dims if d not in dims]
    if missing or unknown:
        raise InputError(
            f"a ramp has dimensions {dims}, this one {tuple(map(str, ramp.dims))}: rename its dimensions"
        )
    if "integration" not in ramp.dims:
        ramp = ramp.expand_dims("integration")
    if ramp.dtype.kind not in "uif":
        raise InputError(f"a ramp holds numbers, this one {ramp.dtype}: convert it to uint16 or float32")
    return ramp.transpose(*dims)
