"""A ramp with a flag on every read, in the layout of JWST's ``_ramp`` files, which its pipeline fits.

Source: JWST data products documentation (``_ramp``: SCI, PIXELDQ, GROUPDQ) and its data quality flags. ERR is
left out: it is as large as the ramp and the pipeline fills it with zeros where it is absent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...atomic import atomic
from ...errors import InputError
from .strips import write_strips

BLOCK = 2880
#: Largest difference between the intervals of frames that counts as evenly spaced, relative.
EVEN = 1e-3
#: Cards of an exposure's header that describe its file, not what it shows.
STRUCTURE = {
    "SIMPLE", "BITPIX", "EXTEND", "PCOUNT", "GCOUNT", "BZERO", "BSCALE", "BLANK", "BUNIT", "XTENSION",
    "EXTNAME", "EXTVER", "CHECKSUM", "DATASUM", "DATAMODL", "FILENAME", "FILETYPE", "NEXTEND", "",
}  # fmt: skip


def write_ramp_file(
    path: str | os.PathLike[str],
    science: xr.DataArray,
    groups: xr.DataArray,
    pixels: NDArray[np.uint32],
    *,
    overwrite: bool = False,
) -> Path:
    """Write a ramp and its flags as FITS in bounded memory: SCI (float32), PIXELDQ (uint32), GROUPDQ (uint8).

    Parameters
    ----------
    path : path
        The ``.fits`` file.
    science : DataArray
        Corrected ramp [DN], dimensions (integration, frame, y, x), with the coordinates ``read_times`` [s]
        and ``reads_per_frame`` and the attributes of :func:`fmbdask.open_ramp`. The primary header of a FITS
        file that ``source`` names is passed on.
    groups : DataArray
        Flags of the reads, same shape: 1 do not use, 2 saturated, 4 jump.
    pixels : (y, x) array
        Flags of the pixels.
    overwrite : bool
        Whether a file that is there is replaced.

    Raises
    ------
    InputError
        If frame times are unknown or uneven: the format has one time for all groups.
    OutputExistsError
        If the file exists and is not to be overwritten.
    """
    primary = _primary(Path(path).name, science)
    flags = pixels.astype(np.int64) - 2**31
    with atomic(Path(path), overwrite=overwrite) as temporary:
        with temporary.open("wb") as stream:
            stream.write(_bytes(primary))
            at = _reserve(stream, "SCI", -32, science.shape, {"BUNIT": "DN"})
            place = _reserve(stream, "PIXELDQ", 32, pixels.shape, {"BZERO": 2**31, "BSCALE": 1})
            group_place = _reserve(stream, "GROUPDQ", 8, groups.shape, {})
        for dtype, offset, values in ((">f4", at, science), ("u1", group_place, groups)):
            write_strips(values, partial(np.memmap, temporary, dtype, "r+", offset, values.shape))
        small = np.memmap(temporary, ">i4", "r+", place, pixels.shape)
        small[...] = flags
        small.flush()
    return Path(path)


def timing(science: xr.DataArray) -> tuple[int, float]:
    """Reads averaged into a group, and time from one group to the next [s].

    Raises
    ------
    InputError
        If they are unknown or differ from group to group.
    """
    source = science.attrs.get("source", "the ramp")
    times, reads = science.coords["read_times"], science.coords["reads_per_frame"].values
    if times.attrs.get("units", "s") != "s":
        raise InputError(f"{source} has no frame time, which a JWST ramp file needs: give --frame-time")
    intervals = np.diff(times.values.astype(np.float64))
    if np.ptp(intervals) > EVEN * float(intervals.mean()) or np.ptp(reads) > 0:
        raise InputError(
            f"{source}: its frames are not evenly spaced, which a JWST ramp file cannot hold: "
            "leave out --groupdq"
        )
    return int(reads[0]), float(intervals.mean())


def _primary(name: str, science: xr.DataArray) -> Any:
    """Header of the whole exposure: that of its FITS file, and what ramp fitting reads."""
    from astropy.io import fits

    attrs: Mapping[Any, Any] = science.attrs
    reads, interval = timing(science)
    integrations, groups, rows, columns = science.shape
    header = fits.PrimaryHDU().header
    for card in _own_cards(attrs.get("source")):
        header.append(card, end=True)
    default = {
        "TELESCOP": "UNKNOWN", "INSTRUME": str(attrs.get("instrument", "UNKNOWN")), "GROUPGAP": 0,
        "SUBSTRT1": 1, "SUBSTRT2": 1, "FASTAXIS": 1, "SLOWAXIS": 2, "INTSTART": 1, "INTEND": integrations,
    }  # fmt: skip
    for key, value in default.items():
        header.setdefault(key, value)
    header["FILENAME"], header["DATAMODL"] = name, "RampModel"
    sizes = {
        "NINTS": integrations, "NGROUPS": groups, "NFRAMES": reads, "SUBSIZE1": columns, "SUBSIZE2": rows
    }  # fmt: skip
    header.update(sizes)
    header["TGROUP"] = (interval, "[s] time from one group to the next")
    header.setdefault("TFRAME", interval / (reads + int(header["GROUPGAP"])))
    known = {"GAIN": "gain", "RDNOISE": "read_noise", "SATURATE": "saturation", "NOUTPUTS": "amplifiers"}
    header.update({key: attrs[word] for key, word in known.items() if attrs.get(word) is not None})
    if attrs.get("reference_border") is not None:
        header["REFBORD"] = ",".join(str(int(width)) for width in attrs["reference_border"])
    for step in ("S_SATURA", "S_REFPIX", "S_JUMP"):
        header[step] = "COMPLETE"
    return header


def _own_cards(source: str | None) -> list[Any]:
    """Cards of the primary header of a FITS file that are not about the layout of the file."""
    from astropy.io import fits

    path = Path(source or "")
    if not path.is_file():
        return []
    with path.open("rb") as stream:
        if stream.read(6) != b"SIMPLE":
            return []
    cards = fits.getheader(path, 0).cards
    return [
        card
        for card in cards
        if card.keyword not in STRUCTURE
        and not card.keyword.startswith("NAXIS")
        and card.keyword not in ("COMMENT", "HISTORY")
    ]


def _reserve(stream: Any, name: str, bitpix: int, shape: tuple[int, ...], more: Mapping[str, Any]) -> int:
    """Write the header of an image and leave room for its values; returns where they begin."""
    from astropy.io import fits

    header = fits.Header([("XTENSION", "IMAGE"), ("BITPIX", bitpix), ("NAXIS", len(shape))])
    for k, size in enumerate(reversed(shape), 1):
        header[f"NAXIS{k}"] = size
    header.update({"PCOUNT": 0, "GCOUNT": 1, "EXTNAME": name, **more})
    stream.write(_bytes(header))
    begin = int(stream.tell())
    size = int(np.prod(shape)) * abs(bitpix) // 8
    stream.truncate(begin + -(-size // BLOCK) * BLOCK)
    stream.seek(0, os.SEEK_END)
    return begin


def _bytes(header: Any) -> bytes:
    return bytes(header.tostring(), "ascii")
