"""FITS files with one two-dimensional frame per extension, HST WFC3/IR ``_ima`` among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fmbdask_kernels.bytes import unsigned16
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region
from .decode import Scaling
from .files import Stamp, ramp_shape, words
from .fits_header import Image, default_exposure, read_attrs, read_timing
from .protocol import Exposure

#: HST WFC3/IR data quality: lost on the way (1, 2), bad detector pixel (4), bad reference pixel (128).
WFC3_UNUSABLE = 1 | 2 | 4 | 128
WFC3_SATURATED = 256
WFC3_BORDER = 5


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
    flag_offsets : tuple of int
        Where each frame's 16-bit HST quality flags begin [bytes]; empty if there are none.
    """

    offsets: tuple[int, ...]
    scaling: Scaling
    factors: tuple[float, ...] = ()
    flag_offsets: tuple[int, ...] = ()

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
        for t, offset in enumerate(self.flag_offsets):
            quality = words(self.path, self.stamp, offset, ">i2", self.shape[2:])[region.y, region.x]
            flags[t] |= ((quality & WFC3_UNUSABLE) != 0).astype(np.uint8)
            flags[t] |= ((quality & WFC3_SATURATED) != 0).astype(np.uint8) * np.uint8(2)
        return flags


def open_frames(primary: Mapping[str, Any], images: Sequence[Image], stamp: Stamp) -> FitsFrames:
    """Describe a file of two-dimensional frames, in the order of time.

    The frames are the images named SCI if there are any, else all of them. Where they carry SAMPTIME (HST)
    that is their order, else the order of the file is.

    Raises
    ------
    InputError
        If frames differ in shape or in how they are stored, or there are too few.
    """
    frames = [image for image in images if image.name == "SCI"] or list(images)
    sampled = all("SAMPTIME" in image.header for image in frames)
    if sampled:
        frames.sort(key=lambda image: float(image.header["SAMPTIME"]))
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
    shape = ramp_shape((len(frames), *first.shape), f"{first.path} (one frame per extension)")
    header = dict(first.header)
    times, counts = read_timing({**primary, **header}, first.path, shape[1])
    factors: tuple[float, ...] = ()
    flag_offsets: tuple[int, ...] = ()
    border = None
    if sampled:
        times = np.array([float(image.header["SAMPTIME"]) for image in frames])
        if not np.all(np.diff(times) > 0):
            raise InputError(
                f"{first.path} has frames of equal SAMPTIME: mend the headers, each read has its own"
            )
        if str(header.get("BUNIT", "")).strip().upper().endswith("/S"):
            # the first read was subtracted from all: slope times time is the ramp, and its first read zero
            factors = tuple(times)
            header["BUNIT"] = str(header["BUNIT"]).strip()[:-2]
        quality = {image.version: image for image in images if image.name == "DQ"}
        if all(i.version in quality and quality[i.version].shape == first.shape for i in frames):
            flag_offsets = tuple(quality[image.version].offset for image in frames)
        if str(primary.get("INSTRUME", "")).strip() == "WFC3":
            border = [WFC3_BORDER] * 4
    attrs = {**default_exposure(first.path), **read_attrs(primary, header, first.path, shape)}
    if border and "reference_border" not in attrs:
        attrs["reference_border"] = border
    if attrs["units"] == "electron":
        attrs["gain"] = 1.0
    dtype = first.scaling.dtype(first.where)
    return FitsFrames(
        path=first.path,
        stamp=stamp,
        shape=shape,
        dtype=np.dtype(np.float32) if factors and dtype.kind == "u" else dtype,
        attrs=attrs,
        read_times=times,
        reads_per_frame=counts,
        offsets=tuple(image.offset for image in frames),
        scaling=first.scaling,
        factors=factors,
        flag_offsets=flag_offsets,
    )
