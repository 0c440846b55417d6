"""Compressed FITS files (gzip, and tiles of RICE or gzip), unpacked once per process.

Ramps are read square by square through all frames, which neither compression allows: a gzip stream has no
middle, and tiles are mostly single rows, of which a square would decode every one in full. So the whole file
is unpacked when it is opened, into a temporary file without a name that vanishes with the process or when
other files have taken its place. Unpacking costs one pass (measured on one core, per second of unpacked data:
gzip and RICE 0.1 GB, gzip tiles 0.05 GB) and the unpacked size on the disk of temporary files (TMPDIR), again
in every process that reads: `fmbdask ramps ingest` pays once for all.
"""

from __future__ import annotations

import errno
import gzip
import os
import tempfile
import threading
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .decode import STORED
from .files import Stamp, check_unchanged, reason
from .fits_walk import BLOCK, Place, walk

GZIP = b"\x1f\x8b"
FITS = b"SIMPLE  ="
#: Unpacked files that a process keeps.
KEPT = 4
STEP = 2**22
#: One thread unpacks, the others wait for it.
_UNPACKING = threading.Lock()


@dataclass(frozen=True, eq=False)
class Plain:
    """An unpacked file: open, without a name, and mapped into memory."""

    file: IO[bytes]
    content: NDArray[np.uint8]

    def reopen(self) -> IO[bytes]:
        """Open it again, at its beginning; one at a time."""
        return _again(self.file)


def unpacked(path: str, stamp: Stamp) -> Plain | None:
    """Unpack a file, once per process; None if it is not compressed.

    Raises
    ------
    InputError
        If it is damaged, or there is no room for it.
    """
    with _UNPACKING:
        packing = _packing(path, stamp)
        return _unpack(path, stamp) if packing else None


def starts_with(path: str, count: int = 16) -> bytes:
    """Read the first bytes of what a file holds, unpacked if it is a gzip stream.

    Raises
    ------
    InputError
        If the gzip stream is damaged at its beginning.
    """
    with open(path, "rb") as file:
        start = file.read(count)
    if not start.startswith(GZIP):
        return start
    try:
        with gzip.open(path, "rb") as packed:
            return packed.read(count)
    except (EOFError, OSError, zlib.error) as error:
        raise _damaged(path, error) from error


def starts_with_gzip(path: str) -> bool:
    """Whether a file is a gzip stream."""
    with open(path, "rb") as file:
        return file.read(len(GZIP)) == GZIP


@lru_cache(maxsize=256)
def _packing(path: str, stamp: Stamp) -> str:
    """Tell how a file is compressed: gzip, tiles or not at all."""
    check_unchanged(path, stamp)
    with open(path, "rb") as file:
        start = file.read(len(FITS))
        if start.startswith(GZIP):
            return "gzip"
        return "tiles" if start == FITS and any(place.tiles for place in walk(file, path)) else ""


@lru_cache(maxsize=KEPT)
def _unpack(path: str, stamp: Stamp) -> Plain:
    try:
        file = _gunzip(path) if _packing(path, stamp) == "gzip" else open(path, "rb")  # noqa: SIM115
        places = walk(_again(file), path)
        if any(place.tiles for place in places):
            file = _unpack_tiles(path, file, places)
        file.flush()
        return Plain(file, np.asarray(np.memmap(file, np.uint8, "r")))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise InputError(f"{path} cannot be unpacked ({error}): get a fresh copy of it") from error
        raise InputError(
            f"{path} does not fit into {tempfile.gettempdir()} when it is unpacked: set TMPDIR to a folder "
            "with more room, or unpack it yourself"
        ) from error


def _gunzip(path: str) -> IO[bytes]:
    out = tempfile.TemporaryFile(prefix="fmbdask-")  # noqa: SIM115
    with gzip.open(path, "rb") as packed:
        while True:
            try:
                block = packed.read(STEP)
            except (EOFError, OSError, zlib.error) as error:
                raise _damaged(path, error) from error
            if not block:
                return out
            out.write(block)


def _damaged(path: str, error: Exception) -> InputError:
    return InputError(f"{path} is a damaged gzip file ({error}): copy it again")


def _again(file: IO[bytes]) -> IO[bytes]:
    """Open an open file again, at its beginning."""
    file.flush()
    other = os.fdopen(os.dup(file.fileno()), "rb")
    other.seek(0)
    return other


def _unpack_tiles(path: str, file: IO[bytes], places: list[Place]) -> IO[bytes]:
    """Write a FITS file of the same extensions in the same order, none of them compressed."""
    from astropy.io import fits

    out = tempfile.TemporaryFile(prefix="fmbdask-")  # noqa: SIM115
    source = np.asarray(np.memmap(file, np.uint8, "r"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for index, place in enumerate(places):
            if not place.tiles:
                out.write(source[place.header : place.end].data)
                continue
            try:
                with fits.open(_again(file), disable_image_compression=True) as hdus:
                    stated = hdus[index].header.get("DATASUM")
                _check_sum(f"{path}[{index}]", source[place.data : place.end], stated, place.end - place.data)
                with fits.open(_again(file), do_not_scale_image_data=True) as hdus:
                    header, slabs = _decoded(hdus[index])
                    size = out.write(header)
                    for slab in slabs:
                        size += out.write(slab.data)
            except (InputError, OSError):
                raise
            except Exception as error:  # astropy's codecs raise whatever they stumble over
                raise InputError(
                    f"{path}[{index}] has compressed tiles that cannot be read ({reason(error)}): get a "
                    "fresh copy of it"
                ) from error
            out.write(bytes(-size % BLOCK))
    return out


def _check_sum(where: str, data: NDArray[np.uint8], stated: Any, size: int) -> None:
    """Compare with the checksum of the header where there is one (FITS standard 4.0, section 4.4.2.7)."""
    if data.size < size:
        raise InputError(
            f"{where} is truncated: {data.size} of {size} bytes of compressed tiles are there, so copy the "
            "file again"
        )
    if not isinstance(stated, str) or not stated.strip().isdigit():
        return
    # addition of 32-bit words with the carry put back in at the end
    total = int(data.view(">u4").sum(dtype=np.uint64))
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    if total != int(stated):
        raise InputError(f"{where} differs from its checksum (DATASUM): copy the file again")


def _decoded(hdu: Any) -> tuple[bytes, Iterator[NDArray[Any]]]:
    """Header and stored values of one tile-compressed image, a slab of whole tiles at a time."""
    header = hdu.header.copy()
    for keyword in ("CHECKSUM", "DATASUM"):
        header.remove(keyword, ignore_missing=True)
    shape, tile = hdu.shape, hdu.tile_shape
    dtype = np.dtype(STORED[header["BITPIX"]])
    split = 2 if len(shape) > 3 and tile[0] == 1 else 1

    def slabs() -> Iterator[NDArray[Any]]:
        for first in range(0, shape[0], tile[0]):
            for second in range(0, shape[1], tile[1]) if split == 2 else (0,):
                key: tuple[slice, ...] = (slice(first, min(first + tile[0], shape[0])),)
                if split == 2:
                    key = (*key, slice(second, min(second + tile[1], shape[1])))
                yield np.ascontiguousarray(hdu.section[key], dtype)

    return str(header.tostring(sep="", endcard=True, padding=True)).encode("ascii"), slabs()
