"""Stored FITS integers and floats to physical values, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .files import working_dtype

#: What BITPIX means, big-endian as every FITS file.
STORED = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}


@dataclass(frozen=True)
class Scaling:
    """How a FITS image stores its values: ``physical = bzero + bscale * stored``, ``blank`` for no value.

    Source: FITS standard 4.0, section 4.4.2.5 (and 5.2.5 for unsigned integers by BZERO).
    """

    bitpix: int
    bscale: float = 1.0
    bzero: float = 0.0
    blank: int | None = None

    @property
    def stored(self) -> str:
        """Type of the stored values, big-endian."""
        return STORED[self.bitpix]

    @property
    def unsigned16(self) -> bool:
        """Whether these are unsigned 16-bit integers the FITS way."""
        return (self.bitpix, self.bscale, self.bzero, self.blank) == (16, 1.0, 32768.0, None)

    def dtype(self, where: str) -> np.dtype[Any]:
        """Type of the physical values: integers stay what they are if an offset is all there is to undo."""
        if self.bitpix not in STORED:
            raise InputError(f"{where} says BITPIX = {self.bitpix}: give 8, 16, 32, 64, -32 or -64")
        stored = np.dtype(self.stored)
        if self.bitpix < 0:
            return working_dtype(stored, where)
        if self.blank is None and self.bscale == 1 and self.bzero.is_integer():
            least = int(np.iinfo(stored).min + self.bzero)
            most = int(np.iinfo(stored).max + self.bzero)
            for kind in ("u1", "u2", "i1", "i2", "u4", "i4", "u8", "i8"):
                if np.iinfo(kind).min <= least and most <= np.iinfo(kind).max:
                    return working_dtype(np.dtype(kind), where)
        if self.bscale == 1 and self.bzero.is_integer() and self.bitpix <= 16 and abs(self.bzero) < 2**23:
            return np.dtype(np.float32)
        return np.dtype(np.float32 if self.bitpix <= 16 else np.float64)

    def decode(self, raw: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Turn stored values into physical ones of the type :meth:`dtype` names; C-contiguous."""
        if self.bscale == 1 and self.bzero == 0 and self.blank is None:
            return np.ascontiguousarray(raw, dtype)
        if dtype.kind == "u":
            return (raw.astype(np.int64) + int(self.bzero)).astype(dtype)
        values = raw.astype(np.float64)
        if self.bscale != 1:
            values *= self.bscale
        values += self.bzero
        if self.blank is not None and self.bitpix > 0:
            values[raw == self.blank] = np.nan
        return values.astype(dtype, copy=False)
