"""Readers: one file a format, one protocol; :func:`open_source` picks by what a file holds."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError
from .files import stamp_of
from .packed import starts_with, starts_with_gzip
from .protocol import Exposure, RampSource

#: First bytes of a file, and what they mean.
MAGIC = {b"SIMPLE  =": "fits", b"\x93NUMPY": "npy", b"\x89HDF\r\n\x1a\n": "hdf5", b"#ASDF": "asdf"}
#: What other first bytes mean, and what to do about it.
FOREIGN = {
    b"BZh": "compressed by bzip2: unpack it with bunzip2 first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd: unpack it with unzstd first",
    b"PK\x03\x04": "a zip archive: unpack it and give the array inside",
}
SUFFIXES = {
    ".fits": "fits",
    ".fit": "fits",
    ".fts": "fits",
    ".fz": "fits",
    ".npy": "npy",
    ".zarr": "zarr",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".asdf": "asdf",
}
FORMAT_NAMES = {
    "fits": "a FITS file",
    "npy": "a NumPy array",
    "zarr": "a Zarr store",
    "hdf5": "an HDF5 file",
    "asdf": "an ASDF file",
}
KNOWN = "FITS, .npy, Zarr, HDF5 or ASDF"


def format_of(path: str | os.PathLike[str]) -> str:
    """Tell the format of a file or store from its content.

    Returns
    -------
    {"fits", "npy", "zarr", "hdf5", "asdf"}

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
        raise InputError(f"{name} is not a file: give {KNOWN}")
    else:
        if stamp.size == 0:
            raise InputError(f"{name} is empty: copy the file again")
        start = starts_with(name)
        for magic, what in FOREIGN.items():
            if start.startswith(magic):
                raise InputError(f"{name} is {what}")
        found = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), "")
        if not found:
            raise InputError(f"{name} is in no format that can be read: give {KNOWN}")
        if found != "fits" and starts_with_gzip(name):
            raise InputError(
                f"{name} is {FORMAT_NAMES[found]} compressed by gzip: unpack it with gunzip first"
            )
    expected = SUFFIXES.get(Path(name).suffix.lower())
    if expected and expected != found:
        raise InputError(
            f"{name} is named like {FORMAT_NAMES[expected]} but holds {FORMAT_NAMES[found]}: rename it"
        )
    return found


def open_source(
    path: str | os.PathLike[str], *, extension: int | str | None = None, accumulate: bool = False
) -> RampSource:
    """Open an exposure of any format, reading headers only; a compressed FITS file is unpacked first.

    Parameters
    ----------
    path : path
        A FITS (also ``.gz``, ``.fz``), ``.npy``, HDF5 or ASDF file, or a Zarr store.
    extension : int or str, optional
        Which of several: number or name of a FITS extension, column of a target pixel file, name of an array
        in HDF5 or Zarr.
    accumulate : bool
        Whether fluxes of a target pixel file are integrated over time.

    Raises
    ------
    InputError
        If it cannot be read or holds no ramp; one sentence that says why.
    """
    name = os.path.abspath(os.fspath(path))
    found = format_of(name)
    if found in ("npy", "asdf") and extension is not None:
        raise InputError(f"{name} holds one ramp, it has no extension {extension}: leave extension out")
    source: RampSource
    if found == "zarr":
        from .zarr import open_zarr

        source = open_zarr(name, extension)
    elif found == "npy":
        from .npy import open_npy

        source = open_npy(name, stamp_of(name))
    elif found == "hdf5":
        from .hdf5 import open_hdf5

        source = open_hdf5(name, stamp_of(name), extension)
    elif found == "asdf":
        from .roman import open_roman

        source = open_roman(name, stamp_of(name))
    else:
        from .fits import open_fits

        source = open_fits(name, stamp_of(name), extension)
    if not accumulate:
        return source
    from .target_pixels import accumulated

    return accumulated(source)


__all__ = ["FORMAT_NAMES", "Exposure", "RampSource", "format_of", "open_source"]
