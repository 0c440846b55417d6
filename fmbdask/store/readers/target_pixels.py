"""Kepler, K2 and TESS target pixel files: one small image per cadence, in the rows of a binary table.

These are no ramps: each cadence is a flux of its own (FLUX, electrons per second) or a sum of counts
(RAW_CNTS), and nothing accumulates from one to the next. They open as what they are, with the attribute
``accumulating`` False, and detection refuses them. Who asks for ``accumulate`` gets the integral of the flux
over time, in electrons: the flux of a cadence holds since the cadence before it, across gaps too. A spike in
the flux is then a step. Values that are missing count as the pixel's median flux there, and are flagged.

Source: Kepler Archive Manual (KDMC-10008-006), sections 2.3.2 and 2.3.1.1 (QUALITY); TESS Science Data
Products Description Document, section 4 and table 32.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region
from .files import Stamp, ramp_shape, reason, working_dtype
from .fits_header import default_exposure, number
from .mapped import mapped
from .packed import unpacked
from .protocol import Exposure

DAY = 86400.0
COLUMNS = ("FLUX", "RAW_CNTS")
#: Bytes and type of the letters of TFORM (FITS standard 4.0, table 18).
FORMS = {
    "L": (1, "u1"),
    "X": (0, "u1"),
    "B": (1, "u1"),
    "I": (2, ">i2"),
    "J": (4, ">i4"),
    "K": (8, ">i8"),
    "A": (1, "S1"),
    "E": (4, ">f4"),
    "D": (8, ">f8"),
    "C": (8, ">c8"),
    "M": (16, ">c16"),
    "P": (8, ">i8"),
    "Q": (16, ">c16"),
}
#: QUALITY of cadences that are not to be used, the usual choice for light curves: pointing, safe modes,
#: desaturation, excluded by hand, no data (Kepler: detector anomaly, thruster firing; TESS: argabrightening,
#: impulsive outliers, bad calibration). Cosmic rays that the mission found are what we look for.
UNUSABLE = {
    "KEPLER": 1 | 2 | 4 | 8 | 32 | 256 | 16384 | 65536 | 1048576,
    "TESS": 1 | 2 | 4 | 8 | 16 | 32 | 128 | 512 | 16384,
}


@dataclass(frozen=True)
class Column:
    """One column of a binary table: where it begins in a row [bytes], its type, and its header keywords."""

    name: str
    offset: int
    dtype: str
    count: int
    keywords: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetPixels(Exposure):
    """The cadences of a target pixel file that have a time.

    Attributes
    ----------
    offset, row_bytes, rows
        Where the table begins [bytes], length of a row [bytes], number of rows.
    column : Column
        FLUX or RAW_CNTS.
    kept : (T,) int array
        Rows that have a time.
    unusable : (T,) bool array
        Whether QUALITY forbids to use the cadence.
    integrated : bool
        Whether fluxes are integrated over time.
    """

    offset: int
    row_bytes: int
    rows: int
    column: Column
    kept: NDArray[np.int64]
    unusable: NDArray[np.bool_]
    integrated: bool = False

    @property
    def stores_flags(self) -> bool:
        """QUALITY is always there."""
        return True

    def read(self, region: Region) -> NDArray[Any]:
        """Read one region: (T, ny, nx), C-contiguous; missing values are NaN, in an integral interpolated."""
        values = self._values(region)
        if not self.integrated:
            return np.ascontiguousarray(values, self.dtype)
        known = np.isfinite(values)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            middle = np.nanmedian(np.where(known, values, np.nan), axis=0)
        assert self.read_times is not None
        steps = np.diff(self.read_times, prepend=0.0)[:, None, None]
        return np.ascontiguousarray(np.cumsum(np.where(known, values, middle) * steps, axis=0), self.dtype)

    def read_flags(self, region: Region) -> NDArray[np.uint8]:
        """Flag unusable cadences and missing values as do-not-use (1)."""
        missing = ~np.isfinite(self._values(region))
        return (missing | self.unusable[:, None, None]).astype(np.uint8)

    def _values(self, region: Region) -> NDArray[np.float64]:
        stored = _column(
            self.path, self.stamp, self.offset, self.row_bytes, self.rows, self.column, self.shape[2:]
        )
        values = stored[:, region.y, region.x][self.kept].astype(np.float64)
        null = self.column.keywords.get("TNULL")
        if null is not None and np.dtype(self.column.dtype).kind == "i":
            values[values == null] = np.nan
        return values


def open_target_pixels(
    path: str, stamp: Stamp, primary: Mapping[str, Any], extension: int | str | None
) -> TargetPixels | None:
    """Open a target pixel file, reading headers, times and quality only; None if it is none.

    Parameters
    ----------
    path, stamp, primary
        The file and its primary header.
    extension : str, optional
        FLUX (the default) or RAW_CNTS.

    Raises
    ------
    InputError
        If the table is damaged, or there is no such column.
    """
    found = _find_table(path, stamp)
    if found is None:
        return None
    header, offset, index = found
    where = f"{path}[{index}]"
    columns, rows, row_bytes = _columns(header, where)
    name = str(extension).upper() if extension is not None else next(c for c in COLUMNS if c in columns)
    if name not in columns or name not in COLUMNS:
        raise InputError(f"{where} has no pixels in a column {extension}: give FLUX or RAW_CNTS as extension")
    column = columns[name]
    shape = _image_shape(column, f"{where}[{name}]")
    end = offset + rows * row_bytes
    size = mapped(path, stamp).size
    if end > size:
        raise InputError(
            f"{where} is truncated: the file has {size} bytes and its header asks for {end}, so copy the "
            "file "
            "again"
        )
    days = _scalars(path, stamp, offset, row_bytes, rows, columns, "TIME", where).astype(np.float64)
    quality = _scalars(path, stamp, offset, row_bytes, rows, columns, "QUALITY", where).astype(np.int64)
    kept = np.flatnonzero(np.isfinite(days))
    full = ramp_shape((kept.size, *shape), f"{where} (cadences with a time)")
    seconds = (days[kept] - days[kept[0]]) * DAY
    if not np.all(np.diff(seconds) > 0):
        raise InputError(f"{where} has times that do not increase: give the cadences in their order")
    notes = f"target pixel file: {name} of each cadence, which does not accumulate"
    if dropped := rows - kept.size:
        notes += f"; {dropped} of {rows} cadences have no time and are left out"
        warnings.warn(f"{path}: {dropped} of {rows} cadences have no time and are left out", stacklevel=2)
    both = {**primary, **header}
    attrs = {**default_exposure(path), "accumulating": False, "notes": notes}
    attrs |= {"units": "electron/s", "gain": 1.0} if name == "FLUX" else {"units": "DN"}
    if name != "FLUX" and (gain := number(both, path, "GAIN")) is not None:
        attrs["gain"] = gain
    if instrument := str(both.get("INSTRUME", "")).strip():
        attrs["instrument"] = instrument
    mission = "TESS" if "TESS" in str(both.get("TELESCOP", "")).upper() else "KEPLER"
    kind = np.dtype(column.dtype)
    return TargetPixels(
        path=path,
        stamp=stamp,
        shape=full,
        dtype=working_dtype(kind, where) if kind.kind == "f" else np.dtype(np.float64),
        attrs=attrs,
        read_times=seconds + float(np.median(np.diff(seconds))),
        reads_per_frame=np.ones(kept.size, np.int64),
        offset=offset,
        row_bytes=row_bytes,
        rows=rows,
        column=column,
        kept=kept,
        unusable=(quality[kept] & UNUSABLE[mission]) != 0,
    )


def accumulated(source: Any) -> TargetPixels:
    """Integrate the fluxes of a target pixel file over time.

    Raises
    ------
    InputError
        If the exposure is none, or its column holds no flux.
    """
    if not isinstance(source, TargetPixels):
        raise InputError(
            f"{source.path} is no target pixel file, it accumulates by itself: leave accumulate out"
        )
    if source.column.name != "FLUX":
        raise InputError(f"{source.path}: only FLUX can be accumulated: leave extension out, or give FLUX")
    attrs = {key: value for key, value in source.attrs.items() if key != "accumulating"}
    attrs |= {"units": "electron", "notes": attrs["notes"].replace("which does not accumulate", "integrated")}
    return replace(source, attrs=attrs, dtype=np.dtype(np.float64), integrated=True)


def _find_table(path: str, stamp: Stamp) -> tuple[dict[str, Any], int, int] | None:
    """Header and place of the first table with TIME and pixels."""
    from astropy.io import fits

    plain = unpacked(path, stamp)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fits.open(path if plain is None else plain.reopen(), memmap=True) as hdus:
                for index, hdu in enumerate(hdus):
                    if hdu.header.get("XTENSION") != "BINTABLE":
                        continue
                    names = {str(v).strip().upper() for k, v in hdu.header.items() if k.startswith("TTYPE")}
                    if "TIME" in names and names & set(COLUMNS):
                        return dict(hdu.header), int(hdu.fileinfo()["datLoc"]), index
        except Exception as error:  # astropy raises whatever it stumbles over in a damaged header
            raise InputError(
                f"{path} cannot be read as FITS ({reason(error)}): get a fresh copy of it"
            ) from error
    return None


def _columns(header: Mapping[str, Any], where: str) -> tuple[dict[str, Column], int, int]:
    """Work out the columns of a table, the number of its rows and their length."""
    columns: dict[str, Column] = {}
    offset = 0
    fields, rows, row_bytes = (header.get(k) for k in ("TFIELDS", "NAXIS2", "NAXIS1"))
    if type(fields) is not int or type(rows) is not int or type(row_bytes) is not int or rows < 1:
        raise InputError(f"{where} lacks TFIELDS, NAXIS1 or NAXIS2, or has no rows: get a fresh copy of it")
    for n in range(1, fields + 1):
        form = re.match(r"(\d*)([A-Z])", str(header.get(f"TFORM{n}", "")).strip().upper())
        if form is None or form[2] not in FORMS:
            raise InputError(f"{where} says TFORM{n} = {header.get(f'TFORM{n}')!r}: get a fresh copy of it")
        count = int(form[1] or 1)
        width, dtype = FORMS[form[2]]
        name = str(header.get(f"TTYPE{n}", "")).strip().upper()
        keywords = {k: header[f"{k}{n}"] for k in ("TDIM", "TNULL", "TSCAL", "TZERO") if f"{k}{n}" in header}
        columns[name] = Column(name, offset, dtype, count, keywords)
        offset += count * width if width else -(-count // 8)
    if offset != row_bytes:
        raise InputError(
            f"{where} has rows of {row_bytes} bytes where its columns add up to {offset}: get a fresh copy "
            "of it"
        )
    return columns, rows, row_bytes


def _image_shape(column: Column, where: str) -> tuple[int, int]:
    """Shape (y, x) of the image in each row."""
    sizes = [int(n) for n in re.findall(r"\d+", str(column.keywords.get("TDIM", "")))]
    if len(sizes) != 2 or sizes[0] * sizes[1] != column.count:
        raise InputError(
            f"{where} has {column.count} values a row and TDIM = {column.keywords.get('TDIM')!r}: get a "
            "fresh copy "
            "of the file"
        )
    scaled = (column.keywords.get("TSCAL", 1), column.keywords.get("TZERO", 0)) != (1, 0)
    if scaled or np.dtype(column.dtype).kind not in "if":
        raise InputError(f"{where} is stored as {column.dtype} with a scale: store plain numbers")
    return sizes[1], sizes[0]


def _scalars(
    path: str,
    stamp: Stamp,
    offset: int,
    row_bytes: int,
    rows: int,
    columns: Mapping[str, Column],
    name: str,
    where: str,
) -> NDArray[Any]:
    """Read a column of single numbers."""
    column = columns.get(name)
    if column is None or column.count != 1 or np.dtype(column.dtype).kind not in "if":
        raise InputError(f"{where} has no column {name} of single numbers: get a fresh copy of it")
    return _column(path, stamp, offset, row_bytes, rows, column, ()).copy()


def _column(
    path: str, stamp: Stamp, offset: int, row_bytes: int, rows: int, column: Column, shape: tuple[int, ...]
) -> NDArray[Any]:
    """View one column of the mapped table: (rows, *shape)."""
    dtype = np.dtype(column.dtype)
    inner = [dtype.itemsize * int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    view: NDArray[Any] = np.ndarray(
        (rows, *shape),
        dtype,
        buffer=mapped(path, stamp),
        offset=offset + column.offset,
        strides=(row_bytes, *inner),
    )
    return view
