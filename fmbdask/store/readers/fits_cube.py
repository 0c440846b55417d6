"""One FITS image (frames, y, x) or (integrations, frames, y, x), read through a memory map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fmbdask_kernels.bytes import unsigned16
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region
from .decode import Scaling
from .files import Stamp, ramp_shape
from .fits_header import Image, default_exposure, number, read_attrs, read_timing, units_of
from .mapped import words
from .protocol import Exposure


@dataclass(frozen=True, eq=False, kw_only=True)
class FitsCube(Exposure):
    """A cube in a FITS file.

    Attributes
    ----------
    offset : int
        Where its stored values begin [bytes].
    stored_shape : tuple of int
        (integration, frame, y, x) as stored; may have more rows than ``shape``.
    scaling : Scaling
        How its values are stored.
    """

    offset: int
    stored_shape: tuple[int, int, int, int]
    scaling: Scaling

    def read(self, region: Region) -> NDArray[Any]:
        """Read one region: (T, ny, nx), C-contiguous."""
        if self.scaling.unsigned16:
            stored = words(self.path, self.stamp, self.offset, "=u2", self.stored_shape)
            out = np.empty((self.shape[1], *region.shape), np.uint16)
            unsigned16(stored, region.integration, region.y0, region.x0, out)
            return out
        stored = words(self.path, self.stamp, self.offset, self.scaling.stored, self.stored_shape)
        return self.scaling.decode(stored[region.integration, :, region.y, region.x], self.dtype)

    def read_frames(self, region: Region, frames: Sequence[int]) -> NDArray[Any]:
        """Read some frames of one region: (frames, ny, nx), C-contiguous; the others are not touched."""
        stored = words(self.path, self.stamp, self.offset, self.scaling.stored, self.stored_shape)
        some = stored[region.integration][list(frames), region.y, region.x]
        return self.scaling.decode(some, self.dtype)


def cube_from(image: Image, stamp: Stamp, primary: Mapping[str, Any]) -> FitsCube:
    """Describe the cube in one image.

    An exposure whose header counts integrations and groups (NINTS or NINT, NGROUPS) but whose image has one
    axis for both, as detector electronics write it, is split.

    Raises
    ------
    InputError
        If it is no ramp, or the header's counts contradict the image.
    """
    header = {**primary, **image.header}
    units_of(header, image.where)
    shape = _split(image, header)
    full = ramp_shape(shape, image.where)
    times, counts = read_timing(header, image.path, full[1])
    return FitsCube(
        path=image.path,
        stamp=stamp,
        shape=full,
        dtype=image.scaling.dtype(image.where),
        attrs={**default_exposure(image.path), **read_attrs(primary, image.header, image.path, full)},
        read_times=times,
        reads_per_frame=counts,
        offset=image.offset,
        stored_shape=full,
        scaling=image.scaling,
    )


def _split(image: Image, header: Mapping[str, Any]) -> tuple[int, ...]:
    """Split integrations that lie behind one another along the frame axis."""
    if len(image.shape) != 3:
        return image.shape
    integrations = int(number(header, image.path, "NINTS", "NINT") or 1)
    groups = int(number(header, image.path, "NGROUPS", "NGROUP") or 0)
    if integrations == 1:
        return image.shape
    if integrations * groups != image.shape[0]:
        raise InputError(
            f"{image.where} holds {image.shape[0]} frames where its header counts {integrations} "
            f"integrations of {groups} groups: mend NINTS and NGROUPS or get the whole file"
        )
    return (integrations, groups, *image.shape[1:])


def with_rows(cube: FitsCube, rows: int) -> FitsCube:
    """Keep only the first rows of every frame as pixels."""
    return replace(cube, shape=(*cube.shape[:2], rows, cube.shape[3]))
