"""Ramps in a NumPy ``.npy`` file; Python objects are never unpickled."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region
from .files import Stamp, ramp_shape, reason, working_dtype
from .fits_header import default_exposure
from .mapped import mapped
from .protocol import Exposure


@dataclass(frozen=True, eq=False, kw_only=True)
class NpyRamp(Exposure):
    """An array (frame, y, x) or (integration, frame, y, x) in a ``.npy`` file.

    Attributes
    ----------
    offset : int
        Where the values begin [bytes].
    stored : numpy dtype
        Type of the stored values.
    fortran : bool
        Whether the first axis runs fastest.
    """

    offset: int
    stored: np.dtype[Any]
    fortran: bool

    def read(self, region: Region) -> NDArray[Any]:
        """Read one region: (T, ny, nx), C-contiguous."""
        whole: NDArray[Any] = np.ndarray(
            self.shape,
            self.stored,
            buffer=mapped(self.path, self.stamp),
            offset=self.offset,
            order="F" if self.fortran else "C",
        )
        return np.array(whole[region.integration, :, region.y, region.x], self.dtype, order="C")


def open_npy(path: str, stamp: Stamp) -> NpyRamp:
    """Open a ramp in a ``.npy`` file, reading its header only.

    Raises
    ------
    InputError
        If the header cannot be read, the file is truncated, or it holds objects or no ramp.
    """
    shape, fortran, stored, offset = read_npy_header(path)
    if stored.hasobject:
        raise InputError(
            f"{path} holds Python objects, which are never loaded: save a plain array of numbers"
        )
    full = ramp_shape(shape, path)
    dtype = working_dtype(stored, path)
    needed = offset + math.prod(shape) * stored.itemsize
    if needed > stamp.size:
        raise InputError(
            f"{path} is truncated: the file has {stamp.size} bytes and its header asks for {needed}, "
            "so copy the file again"
        )
    return NpyRamp(
        path=path,
        stamp=stamp,
        shape=full,
        dtype=dtype,
        attrs={**default_exposure(path), "units": "DN"},
        reads_per_frame=np.ones(full[1], np.int64),
        offset=offset,
        stored=stored,
        fortran=fortran,
    )


def read_npy_header(path: str) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read shape, order, type and the offset of the values."""
    try:
        with open(path, "rb") as file:
            version = npy_format.read_magic(file)
            read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
            shape, fortran, stored = read(file)
            return shape, fortran, stored, file.tell()
    except Exception as error:  # NumPy evaluates the header, and raises whatever its text makes Python raise
        raise InputError(
            f"{path} has no readable NumPy header ({reason(error)}): save the array again"
        ) from error
