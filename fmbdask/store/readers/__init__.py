"""Readers: one file a format, one protocol; :func:`open_source` picks by what a file holds."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError
from .files import stamp_of
from .protocol import Exposure, RampSource

#: First bytes of a file, and what they mean.
MAGIC = {b"SIMPLE  =": "fits", b"\x93NUMPY": "npy"}
#: What other first bytes mean, and what to do about it.
FOREIGN = {
    b"\x1f\x8b": "compressed by gzip: unpack it with gunzip first",
    b"BZh": "compressed by bzip2: unpack it with bunzip2 first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it with unzstd first",
    b"PK\x03\x04": "a zip archive: unpack it and give the array inside",
    b"\x89HDF": "an HDF5 file: convert it to FITS, .npy or Zarr",
}
SUFFIXES = {
    ".fits": "fits",
    ".fit": "fits",
    ".fts": "fits",
    ".npy": "npy",
    ".zarr": "zarr",
}
FORMAT_NAMES = {"fits": "a FITS file", "npy": "a NumPy array", "zarr": "a Zarr store"}


def format_of(path: str | os.PathLike[str]) -> str:
    """Tell the format of a file or store from its content.

    Returns
    -------
    {"fits", "npy", "zarr"}

    Raises
    ------
    InputError
        If it is none of them, or its suffix says otherwise.
    """
    name = os.fspath(path)
    stamp = stamp_of(name)
    if os.path.isdir(name):
        from .zarr import metadata_of

        metadata_of(name)
        found = "zarr"
    elif not os.path.isfile(name):
        raise InputError(f"{name} is not a file: give a FITS or .npy file, or a Zarr store")
    else:
        if stamp.size == 0:
            raise InputError(f"{name} is empty: copy the file again")
        with open(name, "rb") as file:
            start = file.read(16)
        for magic, what in FOREIGN.items():
            if start.startswith(magic):
                raise InputError(f"{name} is {what}")
        found = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "")
        if not found:
            raise InputError(f"{name} is neither FITS nor .npy nor a Zarr store: give one of these")
    expected = SUFFIXES.get(Path(name).suffix.lower())
    if expected and expected != found:
        raise InputError(
            f"{name} is named like {FORMAT_NAMES[expected]} but holds {FORMAT_NAMES[found]}: rename it"
        )
    return found


def open_source(path: str | os.PathLike[str]) -> RampSource:
    """Open an exposure of any format, reading headers only.

    Parameters
    ----------
    path : path
        A FITS or ``.npy`` file, or a Zarr store.

    Raises
    ------
    InputError
        If it cannot be read or holds no ramp; one sentence that says why.
    """
    name = os.path.abspath(os.fspath(path))
    found = format_of(name)
    if found == "zarr":
        from .zarr import open_zarr

        return open_zarr(name)
    if found == "npy":
        from .npy import open_npy

        return open_npy(name, stamp_of(name))
    from .fits import open_fits

    return open_fits(name, stamp_of(name))


__all__ = ["Exposure", "RampSource", "format_of", "open_source"]
