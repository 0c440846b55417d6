"""FITS files with one two-dimensional frame per extension, HST WFC3/IR ``_ima`` among them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fmbdask_kernels.bytes import unsigned16
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region
from .decode import Scaling
from .files import Stamp, ramp_shape
from .fits_header import Image, default_exposure, number, read_attrs, read_timing
from .mapped import words
from .protocol import Exposure

#: HST WFC3/IR data quality: lost on the way (1, 2), bad detector pixel (4), bad reference pixel (128).
WFC3_UNUSABLE = 1 | 2 | 4 | 128
WFC3_SATURATED = 256
WFC3_BORDER = 5
#: Keywords that say which detector an image shows, or which part of the sky: the same in all frames of a
#: ramp.
PLACES = (
    "DETSEC",
    "CCDSEC",
    "CCDNAME",
    "CCDNUM",
    "CHIPID",
    "DETECTOR",
    "AMPNAME",
    "CRVAL1",
    "CRPIX1",
    "CRPIX2",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class FitsFrames(Exposure):
    """One integration whose frames are separate images of one file.

    Attributes
    ----------
    offsets : tuple of int
        Where each frame's stored values begin [bytes], first frame first.
    scaling : Scaling
        How the values are stored, the same in every frame.
    factors : tuple of float
        What each frame is multiplied with: 1, or seconds since the first read where the file holds slopes.
    flag_offsets : tuple of (int, int)
        Where each frame's 16-bit HST quality flags begin [bytes], or -1 and the flag of all its pixels; empty
        if there are none.
    """

    offsets: tuple[int, ...]
    scaling: Scaling
    factors: tuple[float, ...] = ()
    flag_offsets: tuple[tuple[int, int], ...] = ()

    @property
    def stores_flags(self) -> bool:
        """Whether there are quality flags."""
        return bool(self.flag_offsets)

    def read(self, region: Region) -> NDArray[Any]:
        """Read one region: (T, ny, nx), C-contiguous."""
        out = np.empty((self.shape[1], *region.shape), self.dtype)
        for t, offset in enumerate(self.offsets):
            if self.scaling.unsigned16:
                stored = words(self.path, self.stamp, offset, "=u2", (1, 1, *self.shape[2:]))
                unsigned16(stored, 0, region.y0, region.x0, out[t : t + 1])
            else:
                stored = words(self.path, self.stamp, offset, self.scaling.stored, self.shape[2:])
                out[t] = self.scaling.decode(stored[region.y, region.x], self.dtype)
            if self.factors:
                out[t] *= self.factors[t]
        return out

    def read_flags(self, region: Region) -> NDArray[np.uint8]:
        """Read the do-not-use (1) and saturated (2) bits; values that are not finite are do-not-use."""
        flags = super().read_flags(region)
        for t, (offset, constant) in enumerate(self.flag_offsets):
            quality: Any = np.int64(constant)
            if offset >= 0:
                quality = words(self.path, self.stamp, offset, ">i2", self.shape[2:])[region.y, region.x]
            flags[t] |= np.asarray((quality & WFC3_UNUSABLE) != 0, np.uint8)
            flags[t] |= np.asarray((quality & WFC3_SATURATED) != 0, np.uint8) * np.uint8(2)
        return flags


def open_frames(
    primary: Mapping[str, Any], images: Sequence[Image], stamp: Stamp, name: str = "SCI"
) -> FitsFrames:
    """Describe a file of two-dimensional frames, in the order of time.

    The frames are the images of the given name if there are any, else all of them. Where they carry SAMPTIME
    (HST) that is their order, else the order of the file is.

    Raises
    ------
    InputError
        If frames differ in shape or in how they are stored, show different things, or are too few.
    """
    pixels = [image for image in images if image.constant is None]
    frames = [image for image in pixels if image.name == name] or pixels
    first = frames[0]
    for image in frames:
        if image.shape != first.shape:
            raise InputError(
                f"{image.where} has shape {image.shape} where {first.where} has {first.shape}: "
                "give frames of one shape, or name them EXTNAME = SCI to tell them from other images"
            )
        if image.scaling != first.scaling:
            raise InputError(
                f"{image.where} and {first.where} differ in BITPIX, BSCALE, BZERO or BLANK: store all "
                "frames alike"
            )
    _check_same_scene(frames)
    shape = ramp_shape((len(frames), *first.shape), f"{first.path} (one frame per extension)")
    if all("SAMPTIME" in image.header for image in frames):
        return _hst(primary, frames, images, stamp, shape)
    times, counts = read_timing({**primary, **first.header}, first.path, shape[1])
    return FitsFrames(
        path=first.path,
        stamp=stamp,
        shape=shape,
        dtype=first.scaling.dtype(first.where),
        attrs={**default_exposure(first.path), **read_attrs(primary, first.header, first.path, shape)},
        read_times=times,
        reads_per_frame=counts,
        offsets=tuple(image.offset for image in frames),
        scaling=first.scaling,
    )


def _check_same_scene(frames: Sequence[Image]) -> None:
    """Refuse images of a mosaic, or of different things: equal in shape, and no ramp."""
    first = frames[0]
    for image in frames[1:]:
        if re.sub(r"\d+", "", image.name) != re.sub(r"\d+", "", first.name):
            raise InputError(
                f"{image.where} and {first.where} have different names: name the frames of a ramp alike, or "
                "give their name as extension"
            )
        for keyword in PLACES:
            if image.header.get(keyword) != first.header.get(keyword):
                raise InputError(
                    f"{image.where} and {first.where} differ in {keyword}, as the images of a mosaic do, "
                    "which "
                    "are no ramp: give one exposure of one detector"
                )


def _hst(
    primary: Mapping[str, Any],
    frames: Sequence[Image],
    images: Sequence[Image],
    stamp: Stamp,
    shape: tuple[int, int, int, int],
) -> FitsFrames:
    """Describe a WFC3/IR exposure: slopes become counts, quality becomes flags, and the header tells the
    noise.

    In ``_ima`` files the first read, of time zero, was subtracted from all and is zero itself: differences of
    reads are what they were, so it is a read like any other. READNSEA to READNSED state the noise of the
    difference of two reads (20 electrons, and so it is in real exposures): one read has it divided by the
    root of two. Sources: WFC3 Data Handbook 5.0, sections 2.2 and 3.3; WFC3 Instrument Handbook, section 5.7.
    """
    order = sorted(frames, key=lambda image: _sample_time(image))
    first = order[0]
    times = np.array([_sample_time(image) for image in order])
    if not np.all(np.diff(times) > 0):
        raise InputError(
            f"{first.path} has frames of equal SAMPTIME: mend the headers, each read has its own"
        )
    header = dict(first.header)
    units = {str(image.header.get("BUNIT", "")).strip().upper() for image in order}
    if len(units) > 1:
        raise InputError(
            f"{first.path} has frames in different units (BUNIT = {', '.join(sorted(units))}): mend the "
            "headers"
        )
    unit = units.pop()
    if unit.endswith("/S"):
        header["BUNIT"] = unit[:-2]
    quality = {image.version: image for image in images if image.name == "DQ"}
    found = [quality.get(image.version) for image in order]
    for flags in found:
        stored = flags is not None and flags.constant is None
        if flags is not None and (flags.shape != first.shape or (stored and flags.scaling.bitpix != 16)):
            raise InputError(
                f"{flags.where} has shape {flags.shape} and BITPIX {flags.scaling.bitpix} where "
                f"{first.where} "
                f"has shape {first.shape}: give 16-bit flags of that shape or remove the extension"
            )
    attrs = {**default_exposure(first.path), **read_attrs(primary, header, first.path, shape)}
    if str(primary.get("INSTRUME", "")).strip() == "WFC3":
        attrs.setdefault("reference_border", [WFC3_BORDER] * 4)
        noise = [number(primary, first.path, f"READNSE{quarter}") for quarter in "ABCD"]
        gains = [number(primary, first.path, f"ATODGN{quarter}") for quarter in "ABCD"]
        if None not in noise:
            attrs.setdefault("read_noise", float(np.mean(np.array(noise, float)) / np.sqrt(2)))
        if None not in gains:
            attrs.setdefault("gain", float(np.mean(np.array(gains, float))))
    if attrs["units"] == "electron":
        attrs["gain"] = 1.0
    dtype = first.scaling.dtype(first.where)
    rates = unit.endswith("/S")
    return FitsFrames(
        path=first.path,
        stamp=stamp,
        shape=shape,
        dtype=np.dtype(np.float32) if rates and dtype.kind == "u" else dtype,
        attrs=attrs,
        read_times=times,
        reads_per_frame=np.ones(shape[1], np.int64),
        offsets=tuple(image.offset for image in order),
        scaling=first.scaling,
        factors=tuple(times) if rates else (),
        flag_offsets=tuple(_place(flags) for flags in found) if any(found) else (),
    )


def _sample_time(image: Image) -> float:
    """Time of a read since the first one [s]."""
    value = number(image.header, image.where, "SAMPTIME", least=-1e-9)
    if value is None:
        raise InputError(f"{image.where} says SAMPTIME = {image.header['SAMPTIME']!r}: mend the header")
    return value


def _place(flags: Image | None) -> tuple[int, int]:
    """Where the flags of a read begin, or -1 and the flag of all its pixels."""
    if flags is None or flags.constant is not None:
        return -1, (flags.constant or 0) if flags is not None else 0
    return flags.offset, 0
