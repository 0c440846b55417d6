"""What the user says about an exposure beats what its file says: numbers, and maps from files."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .readers import FORMAT_NAMES, RampSource, format_of, open_source
from .readers.files import stamp_of
from .readers.fits_header import parse_border, read_images
from .readers.maps import FileMap
from .readers.npy import read_npy_header

#: Layouts of amplifiers along a row: side by side, or taking turns pixel by pixel.
LAYOUTS = ("contiguous", "interleaved")
#: FITS keywords of the overrides that may be a number or a map, and the coordinate that a map becomes.
KEYWORDS = {"gain": "GAIN", "read_noise": "RDNOISE or READNOIS", "saturation": "SATURATE"}
LEVELS = {"gain": "gain_map", "read_noise": "read_noise_map", "saturation": "saturation_map"}


@dataclass(frozen=True, eq=False)
class Described:
    """An exposure as it is to be understood: its source, and what is known of it, overrides applied."""

    source: RampSource
    attrs: Mapping[str, Any]
    read_times: NDArray[np.float64] | None
    maps: Mapping[str, FileMap]


def open_described(
    path: str | os.PathLike[str],
    *,
    extension: int | str | None = None,
    accumulate: bool = False,
    **overrides: Any,
) -> Described:
    """Open an exposure and apply what the user says; see :func:`fmbdask.open_ramp` for the parameters.

    Raises
    ------
    InputError
        If the file, a map or a value cannot be used.
    """
    return describe(open_source(path, extension=extension, accumulate=accumulate), **overrides)


def describe(
    source: RampSource,
    *,
    gain: float | str | os.PathLike[str] | None = None,
    read_noise: float | str | os.PathLike[str] | None = None,
    saturation: float | str | os.PathLike[str] | None = None,
    bad_pixels: str | os.PathLike[str] | None = None,
    linearity: str | os.PathLike[str] | None = None,
    reference_border: int | tuple[int, int, int, int] | list[int] | None = None,
    amplifiers: int | None = None,
    amplifier_layout: str | None = None,
    frame_time: float | None = None,
) -> Described:
    """Apply what the user says; see :func:`fmbdask.open_ramp` for the parameters.

    Raises
    ------
    InputError
        If a value cannot be, a map cannot be read, or a map has not the shape of a frame.
    """
    attrs = dict(source.attrs)
    maps = dict(source.maps)
    frame = source.shape[2:]
    for key, value in (("gain", gain), ("read_noise", read_noise), ("saturation", saturation)):
        level = _level(value, key)
        if isinstance(level, float):
            attrs[key] = level
            maps.pop(LEVELS[key], None)
        elif level is not None:
            maps[LEVELS[key]] = _frame_map(level, key, frame, "float32")
            attrs.pop(key, None)
        elif key in attrs:
            attrs[key] = _told(attrs[key], key, source.path)
    if bad_pixels is not None:
        maps["bad_pixel"] = _frame_map(os.fspath(bad_pixels), "bad_pixels", frame, "bool")
    if linearity is not None:
        maps["linearity"] = find_map(os.fspath(linearity), "linearity", "float32", axes=3)
        if maps["linearity"].shape[1:] != frame:
            raise _wrong_shape("linearity", maps["linearity"], ("coefficients", *frame))
    if reference_border is not None:
        attrs["reference_border"] = parse_border(reference_border, "reference_border")
    elif "reference_border" in attrs:
        what = f"the reference border (REFBORD) that {source.path} gives"
        attrs["reference_border"] = parse_border(attrs["reference_border"], what)
    if amplifiers is not None:
        attrs["amplifiers"] = amplifiers
        attrs.setdefault("amplifier_layout", LAYOUTS[0])
    if amplifier_layout is not None:
        attrs["amplifier_layout"] = amplifier_layout
    _check_geometry(attrs, frame, source.path)
    times = source.read_times
    if frame_time is not None:
        if not math.isfinite(frame_time) or frame_time <= 0:
            raise InputError(f"frame_time is {frame_time}: give seconds above 0")
        times = frame_time * np.arange(1.0, source.shape[1] + 1)
        attrs.pop("read_interval", None)
    return Described(source, attrs, times, maps)


def _level(value: float | str | os.PathLike[str] | None, key: str) -> float | str | None:
    """Tell a number from the path of a map."""
    if value is None:
        return None
    try:
        level = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return os.fspath(value)  # type: ignore[arg-type]
    if not math.isfinite(level) or level <= 0:
        raise InputError(f"{key} is {level}: give a number above 0 or the path of a map")
    return level


def _told(value: Any, key: str, path: str) -> float:
    """Check a level that the file gives."""
    try:
        level = float(value)
    except (TypeError, ValueError):
        level = math.nan
    if not math.isfinite(level) or level <= 0:
        raise InputError(
            f"{path} gives {value!r} as its {key} ({KEYWORDS[key]}): mend the file, or give {key} as a "
            "number above 0"
        )
    return level


def _frame_map(path: str, key: str, frame: tuple[int, ...], dtype: str) -> FileMap:
    found = find_map(path, key, dtype, axes=2)
    if found.shape != frame:
        raise _wrong_shape(key, found, frame)
    return found


def _wrong_shape(key: str, found: FileMap, wanted: tuple[Any, ...]) -> InputError:
    shape = "(" + ", ".join(str(n) for n in wanted) + ")"
    return InputError(
        f"{found.path}, the map given as {key}, has shape {found.shape}: give one of shape {shape}"
    )


def find_map(path: str, key: str, dtype: str, *, axes: int) -> FileMap:
    """Find the map in a FITS or ``.npy`` file, reading headers only.

    In a FITS file it is the extension named SCI, COEFFS or DQ if one is there, else the first image.

    Raises
    ------
    InputError
        If there is no such array.
    """
    name = os.path.abspath(path)
    try:
        kind = format_of(name)
    except InputError as error:
        raise InputError(f"the map given as {key} cannot be used: {error}") from error
    if kind == "npy":
        shape, _, stored, _ = read_npy_header(name)
        if stored.kind not in "biuf":
            raise InputError(f"{name}, the map given as {key}, holds values of type {stored}: give numbers")
        return _with_axes(FileMap(name, shape, dtype, "", "npy"), key, axes)
    if kind != "fits":
        raise InputError(f"{name}, the map given as {key}, is {FORMAT_NAMES[kind]}: give a FITS or .npy file")
    _, images = read_images(name, stamp_of(name))
    if not images:
        raise InputError(f"{name}, the map given as {key}, has no image: give a map")
    image = next((i for i in images if i.name in ("SCI", "COEFFS", "DQ")), images[0])
    return _with_axes(FileMap(name, image.shape, dtype, str(image.index), "fits"), key, axes)


def _with_axes(found: FileMap, key: str, axes: int) -> FileMap:
    if len(found.shape) != axes:
        raise InputError(
            f"{found.path}, the map given as {key}, has {len(found.shape)} dimensions, shape {found.shape}: "
            f"give one of {axes}"
        )
    return found


def _check_geometry(attrs: Mapping[str, Any], frame: tuple[int, ...], path: str) -> None:
    """Refuse a border or a number of amplifiers that does not fit the frame."""
    rows, columns = frame
    if "reference_border" in attrs:
        bottom, top, left, right = attrs["reference_border"]
        if bottom + top >= rows or left + right >= columns:
            raise InputError(
                f"the reference border {attrs['reference_border']} (bottom, top, left, right) leaves no "
                f"pixel of {Path(path).name} with {rows} x {columns} pixels: give a smaller one, 0 for none"
            )
    layout = attrs.get("amplifier_layout", LAYOUTS[0])
    if layout not in LAYOUTS:
        raise InputError(f"amplifier_layout is {layout!r}: give contiguous or interleaved")
    if "amplifiers" in attrs and not 1 <= int(attrs["amplifiers"]) <= columns:
        raise InputError(
            f"{attrs['amplifiers']} amplifiers do not fit {Path(path).name} with {columns} columns: "
            f"give amplifiers from 1 to {columns}"
        )
