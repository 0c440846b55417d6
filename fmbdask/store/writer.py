"""Exposures written strip by strip, as FITS or Zarr, in the memory of one strip."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..atomic import check_free, discard, publish, temporary_name
from ..errors import InputError
from .readers.files import frame_times, ramp_shape

FITS_BLOCK = 2880
#: FITS keyword and comment of each attribute of a ramp.
KEYWORDS = {
    "gain": ("GAIN", "[electron/DN]"),
    "read_noise": ("RDNOISE", "[electron] noise of one read"),
    "saturation": ("SATURATE", "[DN]"),
    "amplifiers": ("NOUTPUTS", "output amplifiers along a row"),
    "amplifier_layout": ("AMPLAYOU", "contiguous or interleaved"),
    "reference_border": ("REFBORD", "[pixel] bottom,top,left,right"),
    "instrument": ("INSTRUME", ""),
    "exposure": ("EXPNAME", ""),
    "units": ("BUNIT", ""),
}
FORMATS = ("fits", "zarr")


class RampWriter:
    """Writes one exposure strip by strip; it gets its name when the ``with`` block ends without an error.

    The writer holds no open file and pickles: worker processes may write strips of their own through a copy
    while the ``with`` block is open in the process that made it.

    Parameters
    ----------
    path : path
        Where the exposure will be.
    shape : sequence of int
        (frame, y, x) or (integration, frame, y, x).
    dtype : uint16, float32 or float64
        Type of the values; uint16 is stored in FITS with BZERO = 32768.
    attrs : mapping
        Attributes of the ramp, see :func:`fmbdask.open_ramp`.
    file_format : {"fits", "zarr"}
        Format.
    frame_time : float, optional
        Time of one read [s].
    reads_per_frame : int
        Reads averaged into each frame, without a gap between frames.
    overwrite : bool
        Whether something that is there is replaced.

    Raises
    ------
    InputError
        If shape, type or format cannot be written; at the end of the block, if rows are missing.
    OutputExistsError
        If the path exists and is not to be overwritten.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: Sequence[int],
        dtype: Any = np.uint16,
        attrs: Mapping[str, Any] | None = None,
        file_format: str = "fits",
        *,
        frame_time: float | None = None,
        reads_per_frame: int = 1,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.shape = ramp_shape(shape, str(path))
        self.dtype = np.dtype(dtype)
        self.attrs = dict(attrs or {})
        self.file_format = file_format
        self.frame_time = frame_time
        self.reads_per_frame = reads_per_frame
        self.temporary = temporary_name(self.path)
        self._ledger = self.temporary.with_name(f"{self.temporary.name}.rows")
        self._offset = 0
        if self.dtype not in (np.dtype(np.uint16), np.dtype(np.float32), np.dtype(np.float64)):
            raise InputError(
                f"{path} cannot hold values of type {self.dtype}: use uint16, float32 or float64"
            )
        if file_format not in FORMATS:
            raise InputError(f"{path} cannot be written as {file_format!r}: choose fits or zarr")
        check_free(self.path, overwrite)

    @property
    def strip(self) -> int:
        """Rows of a strip: Zarr strips begin at multiples of it and are that high, but for the last."""
        from .layout import ramp_chunks

        return ramp_chunks(self.shape, self.dtype.itemsize)[2]

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.file_format == "zarr":
            from .layout import create_ramp

            counts = np.full(self.shape[1], self.reads_per_frame, np.int64)
            times = None if self.frame_time is None else frame_times(counts, self.frame_time)
            create_ramp(self.temporary, self.shape, self.dtype, self.attrs, times, counts)
        else:
            header = self._header()
            self._offset = len(header)
            size = math.prod(self.shape) * self.dtype.itemsize
            with open(self.temporary, "wb") as file:
                file.write(header)
                file.truncate(self._offset + -(-size // FITS_BLOCK) * FITS_BLOCK)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._check_complete()
                publish(self.temporary, self.path)
        finally:
            discard(self.temporary)
            discard(self._ledger)

    def write_rows(self, integration: int, y0: int, block: NDArray[Any]) -> None:
        """Write all frames of some whole rows.

        Parameters
        ----------
        integration : int
            Integration, 0-based.
        y0 : int
            First row.
        block : (T, ny, X) array
            The values, of the exposure's type.

        Raises
        ------
        InputError
            If the block has another type or does not fit, or would share a Zarr chunk with another strip.
        """
        integrations, frames, rows, columns = self.shape
        y1 = y0 + block.shape[1]
        fits_in = block.shape == (frames, y1 - y0, columns) and 0 <= y0 < y1 <= rows
        if block.dtype != self.dtype or not fits_in or not 0 <= integration < integrations:
            raise InputError(
                f"{self.path} of shape {self.shape} and type {self.dtype} cannot take a block of shape "
                f"{block.shape} and type {block.dtype} at integration {integration}, row {y0}: "
                "give all frames of whole rows"
            )
        if self.file_format == "zarr":
            self._write_zarr(integration, y0, y1, block)
        else:
            self._write_fits(integration, y0, block)
        # one short line at the end of a file is written whole, whichever process writes it
        with open(self._ledger, "ab", buffering=0) as ledger:
            ledger.write(f"{integration} {y0} {y1}\n".encode())

    def _check_complete(self) -> None:
        """Refuse an exposure with rows that nobody wrote: they would read as zero."""
        written = np.zeros((self.shape[0], self.shape[2]), bool)
        if self._ledger.exists():
            for line in self._ledger.read_text().splitlines():
                i, y0, y1 = map(int, line.split())
                written[i, y0:y1] = True
        if not written.all():
            i, y = np.argwhere(~written)[0]
            raise InputError(
                f"{self.path} was not given {np.sum(~written)} of its {written.size} rows, the first of them "
                f"row {y} of integration {i}: write all rows"
            )

    def _write_zarr(self, integration: int, y0: int, y1: int, block: NDArray[Any]) -> None:
        import zarr

        if y0 % self.strip or (y1 % self.strip and y1 != self.shape[2]):
            raise InputError(
                f"{self.path} cannot take rows {y0} to {y1 - 1}: strips of a Zarr store begin and end at "
                f"multiples of {self.strip} rows"
            )
        array = zarr.open_array(str(self.temporary / "ramp"), mode="r+", config={"write_empty_chunks": True})
        array[integration, :, y0:y1, :] = block

    def _write_fits(self, integration: int, y0: int, block: NDArray[Any]) -> None:
        _, frames, rows, columns = self.shape
        row_bytes = columns * self.dtype.itemsize
        with open(self.temporary, "r+b", buffering=0) as file:
            for t in range(frames):
                stored = block[t] ^ np.uint16(0x8000) if self.dtype.kind == "u" else block[t]
                file.seek(self._offset + ((integration * frames + t) * rows + y0) * row_bytes)
                file.write(stored.astype(self.dtype.newbyteorder(">")).data)

    def _header(self) -> bytes:
        """Make the header, padded to whole blocks."""
        from astropy.io import fits

        shape = self.shape if self.shape[0] > 1 else self.shape[1:]
        header = fits.Header()
        header["SIMPLE"] = (True, "conforms to FITS standard")
        header["BITPIX"] = {"u": 16, "f": -8 * self.dtype.itemsize}[self.dtype.kind]
        header["NAXIS"] = len(shape)
        for axis, size in enumerate(reversed(shape), 1):
            header[f"NAXIS{axis}"] = size
        if self.dtype.kind == "u":
            header["BSCALE"] = 1
            header["BZERO"] = (32768, "unsigned 16-bit integers")
        for key, (keyword, comment) in KEYWORDS.items():
            if key in self.attrs:
                value = self.attrs[key]
                header[keyword] = (
                    ",".join(map(str, value)) if isinstance(value, (list, tuple)) else value,
                    comment,
                )
        header["NFRAMES"] = (self.reads_per_frame, "reads averaged into each frame of the ramp")
        header["GROUPGAP"] = (0, "reads dropped between frames of the ramp")
        if self.frame_time is not None:
            header["FRAMETIM"] = (self.frame_time, "[s] time of one read")
        return str(header.tostring(sep="", endcard=True, padding=True)).encode("ascii")
