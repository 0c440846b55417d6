"""What FITS headers say: the images of a file, and the keywords that describe a ramp."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .decode import Scaling
from .files import Stamp, frame_times, reason, stem_of
from .fits_walk import walk
from .packed import unpacked

#: Reference rows and columns at every edge of detectors of 2048 x 2048 pixels; MIRI has 1032 columns.
DETECTOR_BORDER = {"NIRCAM": 4, "NIRISS": 4, "NIRSPEC": 4, "FGS": 4}
H2RG_SIZE = 2048
#: Parts of units of calibrated flux.
FLUX_UNITS = ("jy", "erg", "mag", "watt", "/sr", "/cm", "photon")
MIRI_COLUMNS = 1032


@dataclass(frozen=True, eq=False)
class Image:
    """One image extension: where its bytes lie and what its header says.

    ``constant`` is the value of an HST image of one value, which has no bytes (PIXVALUE), else None.
    """

    path: str
    index: int
    name: str
    version: int
    shape: tuple[int, ...]
    scaling: Scaling
    offset: int
    header: Mapping[str, Any]
    constant: int | None = None

    @property
    def where(self) -> str:
        """File and extension, for messages."""
        return f"{self.path}[{self.index}{', ' + self.name if self.name else ''}]"

    @property
    def nbytes(self) -> int:
        """Bytes of the stored values."""
        return 0 if self.constant is not None else math.prod(self.shape) * abs(self.scaling.bitpix) // 8


def read_images(path: str, stamp: Stamp, *, constants: bool = False) -> tuple[dict[str, Any], list[Image]]:
    """List the images of a FITS file that hold pixels, reading headers only.

    Parameters
    ----------
    path, stamp
        The file.
    constants : bool
        Whether HST images of one value, which have no pixels, are listed too.

    Returns
    -------
    primary : dict
        The primary header.
    images : list of Image
        Images of at least one dimension, in the order of the file.

    Raises
    ------
    InputError
        If the headers cannot be read, the file is compressed and damaged, or it ends before its data.
    """
    from astropy.io import fits

    images: list[Image] = []
    primary: dict[str, Any] = {}
    plain = unpacked(path, stamp)
    with open(path, "rb") if plain is None else plain.reopen() as file:
        walk(file, path)
    size = stamp.size if plain is None else plain.content.size
    with warnings.catch_warnings():
        # a truncated file is told below, in our words
        warnings.simplefilter("ignore")
        try:
            with fits.open(path if plain is None else plain.reopen(), mode="readonly", memmap=True) as hdus:
                for index, hdu in enumerate(hdus):
                    header = {
                        k: v for k, v in hdu.header.items() if k and not isinstance(v, fits.card.Undefined)
                    }
                    if index == 0:
                        primary = header
                    count = int(header.get("NAXIS", 0))
                    constant: int | None = None
                    shape: tuple[int, ...]
                    if constants and count == 0 and {"PIXVALUE", "NPIX1", "NPIX2"} <= header.keys():
                        constant, shape = (
                            int(header["PIXVALUE"]),
                            (int(header["NPIX2"]), int(header["NPIX1"])),
                        )
                    elif not hdu.is_image or count == 0:
                        continue
                    else:
                        shape = tuple(int(header[f"NAXIS{i}"]) for i in range(count, 0, -1))
                    images.append(
                        Image(
                            path=path,
                            index=index,
                            name=str(header.get("EXTNAME", "")).strip().upper(),
                            version=int(header.get("EXTVER", 1)),
                            shape=shape,
                            scaling=_scaling(header, f"{path}[{index}]"),
                            offset=int(hdu.fileinfo()["datLoc"]),
                            header=header,
                            constant=constant,
                        )
                    )
        except InputError:
            raise
        except Exception as error:  # astropy raises whatever it stumbles over in a damaged header
            raise InputError(
                f"{path} cannot be read as FITS ({reason(error)}): get a fresh copy of it"
            ) from error
    for image in images:
        if image.offset + image.nbytes > size:
            raise InputError(
                f"{image.where} is truncated: the file has {size} bytes and its header asks for "
                f"{image.offset + image.nbytes}, so copy the file again"
            )
    return primary, images


def _scaling(header: Mapping[str, Any], where: str) -> Scaling:
    """Read BITPIX, BSCALE, BZERO and BLANK."""
    bitpix = int(header["BITPIX"])
    values = {"BSCALE": header.get("BSCALE", 1.0), "BZERO": header.get("BZERO", 0.0)}
    if bitpix > 0 and "BLANK" in header:
        values["BLANK"] = header["BLANK"]
    for keyword, value in values.items():
        finite = isinstance(value, int | float) and math.isfinite(value)
        if not finite or (keyword == "BSCALE" and value == 0):
            raise InputError(
                f"{where} says {keyword} = {value!r}: mend the header, it must be a finite number"
            )
    blank = values.get("BLANK")
    return Scaling(
        bitpix, float(values["BSCALE"]), float(values["BZERO"]), None if blank is None else int(blank)
    )


def number(header: Mapping[str, Any], path: str, *keywords: str, least: float = 0.0) -> float | None:
    """Read the first of these keywords that is there.

    Raises
    ------
    InputError
        If its value is no number, or not above ``least``.
    """
    for keyword in keywords:
        value = header.get(keyword)
        if value is None or value == "":
            continue
        try:
            result = float(value)
        except (TypeError, ValueError):
            raise InputError(
                f"{path} says {keyword} = {value!r}: mend the header, it must be a number"
            ) from None
        if not math.isfinite(result) or result <= least:
            raise InputError(
                f"{path} says {keyword} = {value!r}: mend the header, it must be above {least:g}"
            )
        return result
    return None


def read_timing(
    header: Mapping[str, Any], path: str, frames: int
) -> tuple[NDArray[np.float64] | None, NDArray[np.int64]]:
    """Work out when the reads of each frame happened.

    Group g of a JWST exposure averages NFRAMES consecutive reads and drops GROUPGAP reads after them; read n
    (from 1) ends n frame times after the reset.

    Returns
    -------
    read_times : (T,) array or None
        Mean time of the reads of each frame since the reset [s]; None without a frame time.
    reads_per_frame : (T,) array
        Reads averaged into each frame.

    Notes
    -----
    Source: JWST user documentation, "Understanding exposure times"; the same convention as stcal's read
    pattern.
    """
    averaged, gap, frame_time, group_time = _group_of(header, path)
    counts = np.full(frames, averaged, np.int64)
    if frame_time is None:
        return None, counts
    if group_time is not None:
        times = frame_time * (averaged + 1) / 2 + group_time * np.arange(frames)
        return np.asarray(times, np.float64), counts
    return frame_times(counts, frame_time, gap), counts


def _group_of(header: Mapping[str, Any], path: str) -> tuple[int, int, float | None, float | None]:
    """Reads averaged and dropped in a group, time between reads and between groups [s]."""
    averaged = int(number(header, path, "NFRAMES", "NFRAME") or 1)
    gap = int(number(header, path, "GROUPGAP", least=-1) or 0)
    frame_time = number(header, path, "TFRAME", "FRMTIME", "FRAMETIM", "FRAMETIME")
    group_time = number(header, path, "TGROUP")
    if frame_time is None and group_time is not None:
        frame_time = group_time / (averaged + gap)
    return averaged, gap, frame_time, group_time


def read_attrs(
    primary: Mapping[str, Any], extension: Mapping[str, Any], path: str, shape: tuple[int, int, int, int]
) -> dict[str, Any]:
    """Gather what the headers say about the detector; a key that is missing is unknown.

    Levels and the border are given as they stand: what overrides them may cure them.

    Returns
    -------
    dict
        Some of ``units, gain, read_noise, saturation, reference_border, amplifiers, amplifier_layout,
        instrument, read_interval``: see :func:`fmbdask.open_ramp`.
    """
    header = {**primary, **extension}
    attrs: dict[str, Any] = {"units": units_of(header, path)}
    for key, keywords in (
        ("gain", ("GAIN",)),
        ("read_noise", ("RDNOISE", "READNOIS")),
        ("saturation", ("SATURATE",)),
    ):
        value = next((header[keyword] for keyword in keywords if header.get(keyword, "") != ""), None)
        if value is not None:
            attrs[key] = value
    averaged, _, frame_time, _ = _group_of(header, path)
    if averaged > 1 and frame_time is not None:
        attrs["read_interval"] = frame_time
    if name := str(header.get("INSTRUME", "")).strip():
        attrs["instrument"] = name
    instrument = attrs.get("instrument", "").upper()
    # along rows the amplifiers of NIRISS and NIRSpec lie the other way: column amplifiers would be wrong
    outputs = number(header, path, "NOUTPUTS")
    if outputs is not None and header.get("FASTAXIS", 1) in (1, -1):
        attrs["amplifiers"] = int(outputs)
        attrs["amplifier_layout"] = str(header.get("AMPLAYOU", "contiguous")).strip().lower()
    if instrument == "MIRI":
        attrs["amplifiers"], attrs["amplifier_layout"] = 4, "interleaved"
    border = header["REFBORD"] if "REFBORD" in header else _detector_border(header, path, instrument, shape)
    if border is not None:
        attrs["reference_border"] = border
    return attrs


def units_of(header: Mapping[str, Any], path: str) -> str:
    """Read the unit of the values: DN unless BUNIT says otherwise.

    Raises
    ------
    InputError
        If these are slopes, per second, or calibrated fluxes, and no ramp.
    """
    unit = str(header.get("BUNIT", "DN")).strip() or "DN"
    lowered = unit.lower().replace(" ", "")
    if lowered.endswith(("/s", "/sec", "/second", "s-1", "s**-1", "s^-1")):
        raise InputError(
            f"{path} says BUNIT = {unit!r}, which are slopes and no ramp: give the exposure before ramp "
            "fitting"
        )
    if any(word in lowered for word in FLUX_UNITS):
        raise InputError(
            f"{path} says BUNIT = {unit!r}, which is calibrated flux and no ramp: give the exposure before "
            "flux "
            "calibration"
        )
    if lowered in ("dn", "adu", "count", "counts"):
        return "DN"
    return "electron" if lowered in ("electron", "electrons", "e-") else unit


def parse_border(value: Any, what: str) -> list[int]:
    """Read a reference border: one number for all sides, or bottom, top, left, right.

    Raises
    ------
    InputError
        If it is neither.
    """
    parts = value.split(",") if isinstance(value, str) else value
    try:
        sides = [int(p) for p in parts] if isinstance(parts, (list, tuple)) else [int(parts)] * 4
    except (TypeError, ValueError, OverflowError):
        sides = []
    if len(sides) == 1:
        sides *= 4
    if len(sides) != 4 or min(sides) < 0:
        raise InputError(f"{what} is {value!r}: give one number of pixels, or bottom, top, left, right")
    return sides


def _detector_border(
    header: Mapping[str, Any], path: str, instrument: str, shape: tuple[int, int, int, int]
) -> list[int] | None:
    """Find which edges of a JWST (sub)array are reference pixels, from where it lies on the detector.

    Source: JWST user documentation, detector pages (H2RG: 4 pixels on every side of 2048 x 2048; MIRI: 4
    columns left and right of 1032 columns, none above and below).
    """
    rows, columns = shape[2:]
    left = number(header, path, "SUBSTRT1", *(["COLSTART"] if instrument == "MIRI" else []))
    bottom = number(header, path, "SUBSTRT2")
    if left is None:
        return None
    if instrument == "MIRI":
        return [0, 0, 4 * (left == 1), 4 * (left + columns - 1 == MIRI_COLUMNS)]
    if bottom is None or instrument not in DETECTOR_BORDER:
        return None
    width = DETECTOR_BORDER[instrument]
    return [
        width * (bottom == 1),
        width * (bottom + rows - 1 == H2RG_SIZE),
        width * (left == 1),
        width * (left + columns - 1 == H2RG_SIZE),
    ]


def default_exposure(path: str) -> dict[str, Any]:
    """Attributes every source has: its name and its path."""
    return {"exposure": stem_of(path), "source": path}
