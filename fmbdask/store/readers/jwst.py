"""JWST exposures before ramp fitting: ``_uncal`` and ``_ramp`` files, and MIRI frames as the electronics
wrote them.

Source: JWST data products documentation; the raw MIRI layout was read off one exposure that exists in both
forms, whose every value agrees: of 5/4 n rows the first n are pixels, and the words of the last n/4 rows,
taken in order, are the reference output **column by column** (n words a column, a quarter of the image's
columns).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region
from .decode import Scaling
from .files import Stamp
from .fits_cube import FitsCube, cube_from, with_rows
from .fits_header import Image
from .mapped import words
from .maps import FileMap
from .protocol import Exposure

DO_NOT_USE, SATURATED = 1, 2


@dataclass(frozen=True, eq=False, kw_only=True)
class JwstRamp(FitsCube):
    """A JWST exposure with the flags of its groups.

    Attributes
    ----------
    group_flags : int or None
        Where the bytes of GROUPDQ begin; None if there is none.
    """

    group_flags: int | None = None

    @property
    def stores_flags(self) -> bool:
        """Whether GROUPDQ is there."""
        return self.group_flags is not None

    def read_flags(self, region: Region) -> NDArray[np.uint8]:
        """Read GROUPDQ's do-not-use (1) and saturated (2) bits; values that are not finite are do-not-use."""
        flags = super().read_flags(region)
        if self.group_flags is not None:
            stored = words(self.path, self.stamp, self.group_flags, "u1", self.shape)
            window = stored[region.integration, :, region.y, region.x]
            flags |= window & np.uint8(DO_NOT_USE | SATURATED)
        return flags


@dataclass(frozen=True, eq=False, kw_only=True)
class RawReferenceOutput(Exposure):
    """The reference output inside raw MIRI frames: the last fifth of their words, column by column."""

    cube: FitsCube

    def read(self, region: Region) -> NDArray[Any]:
        """Read one region of the reference output: (T, ny, nx), C-contiguous."""
        rows, columns = self.shape[2:]
        tail = Region(region.integration, rows, self.cube.shape[2], 0, self.cube.shape[3])
        frames = self.cube.read(tail).reshape(self.shape[1], columns, rows)
        return np.ascontiguousarray(frames[:, region.x, region.y].transpose(0, 2, 1))


def is_jwst(images: Sequence[Image]) -> bool:
    """Whether this is an exposure in the JWST layout: a SCI image of four dimensions."""
    return any(image.name == "SCI" and len(image.shape) == 4 for image in images)


def open_jwst(primary: Mapping[str, Any], images: Sequence[Image], stamp: Stamp) -> JwstRamp:
    """Describe a JWST ``_uncal`` or ``_ramp`` exposure.

    Raises
    ------
    InputError
        If SCI is no ramp, or a flag array has another shape.
    """
    named = {image.name: image for image in reversed(images)}
    science = named["SCI"]
    cube = cube_from(science, stamp, primary)
    maps: dict[str, FileMap] = {}
    flags = named.get("GROUPDQ")
    if flags is not None and (flags.shape != science.shape or flags.scaling != Scaling(8)):
        raise InputError(
            f"{flags.where} has shape {flags.shape} and BITPIX {flags.scaling.bitpix} where SCI has "
            f"{science.shape}: give bytes of SCI's shape or remove the extension"
        )
    pixels = named.get("PIXELDQ")
    if pixels is not None:
        whole = pixels.scaling.bitpix > 0 and pixels.scaling.bscale == 1 and pixels.scaling.blank is None
        if pixels.shape != science.shape[2:] or not whole:
            raise InputError(
                f"{pixels.where} has shape {pixels.shape}, {pixels.scaling}, where a frame of SCI has "
                f"{science.shape[2:]}: give integers in the shape of a frame or remove the extension"
            )
        maps["bad_pixel"] = FileMap(pixels.path, pixels.shape, "bool", str(pixels.index), bit=DO_NOT_USE)
    output = named.get("REFOUT")
    reference = None
    if output is not None and len(output.shape) == 4:
        reference = cube_from(output, stamp, primary)
    return JwstRamp(
        **{**vars(cube), "maps": maps, "reference_output": reference},
        group_flags=None if flags is None else flags.offset,
    )


def is_raw_miri(primary: Mapping[str, Any], images: Sequence[Image]) -> bool:
    """Whether this is a MIRI exposure as the electronics wrote it, in one primary cube."""
    return (
        str(primary.get("INSTRUME", "")).strip().upper() == "MIRI"
        and str(primary.get("FILETYPE", "")).strip().lower() == "raw"
        and len(images) == 1
        and images[0].index == 0
        and len(images[0].shape) == 3
        and images[0].shape[1] % 5 == 0
        and images[0].shape[2] % 4 == 0
    )


def open_raw_miri(primary: Mapping[str, Any], images: Sequence[Image], stamp: Stamp) -> FitsCube:
    """Describe a raw MIRI exposure: pixels, and the reference output apart from them."""
    cube = cube_from(images[0], stamp, primary)
    integrations, frames, stored_rows, columns = cube.shape
    rows = stored_rows * 4 // 5
    output = RawReferenceOutput(
        path=cube.path,
        stamp=stamp,
        shape=(integrations, frames, rows, columns // 4),
        dtype=cube.dtype,
        attrs=cube.attrs,
        read_times=cube.read_times,
        reads_per_frame=cube.reads_per_frame,
        cube=cube,
    )
    return replace(with_rows(cube, rows), reference_output=output)
