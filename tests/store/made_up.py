"""Small exposures of our own making, as files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray


def ramp(shape: tuple[int, ...] = (6, 10, 12), dtype: Any = np.uint16, seed: int = 1) -> NDArray[Any]:
    """Noise over most of the 16-bit scale."""
    return np.random.default_rng(seed).integers(100, 60000, shape).astype(dtype)


def write_fits(path: Path, data: NDArray[Any], *, name: str = "", **header: Any) -> Path:
    """One image: primary, or a named extension."""
    image = fits.ImageHDU(data, name=name) if name else fits.PrimaryHDU(data)
    primary = image if not name else fits.PrimaryHDU()
    for key, value in header.items():
        primary.header[key] = value
    fits.HDUList([primary, image] if name else [primary]).writeto(path, overwrite=True)
    return path


def write_frames(path: Path, frames: list[NDArray[Any]], names: list[str] | None = None) -> Path:
    """One frame per extension."""
    images = [fits.ImageHDU(f, name=n) for f, n in zip(frames, names or [""] * len(frames), strict=True)]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(path, overwrite=True)
    return path


def write_jwst(path: Path, science: NDArray[Any], extra: dict[str, NDArray[Any]], **header: Any) -> Path:
    """An exposure in the layout of a JWST ``_uncal`` or ``_ramp`` file."""
    primary = fits.PrimaryHDU()
    for key, value in header.items():
        primary.header[key] = value
    images = [fits.ImageHDU(science, name="SCI")]
    images += [fits.ImageHDU(data, name=name) for name, data in extra.items()]
    fits.HDUList([primary, *images]).writeto(path, overwrite=True)
    return path


def write_roman(path: Path, data: NDArray[Any], compression: str | None = None, **more: Any) -> Path:
    """An exposure in the layout of the public schema `wfi_science_raw`, tagged as such."""
    import asdf
    from asdf.tagged import TaggedDict

    pattern = more.pop("read_pattern", [[1], [2, 3], [5, 6, 7, 8], *[[n] for n in range(9, 6 + len(data))]])
    exposure = {
        "type": "WFI_IMAGE",
        "nresultants": len(data),
        "frame_time": 3.16247,
        "ma_table_name": "IM_UNEVEN",
        "ma_table_number": 1009,
        "read_pattern": pattern,
        "truncated": False,
    }
    roman = {
        "meta": {
            "exposure": exposure | more.pop("exposure", {}),
            "instrument": {"name": "WFI", "detector": "WFI01", "optical_element": "F158"},
            "telescope": "ROMAN",
        },
        "data": data,
        "amp33": more.pop("amp33", ramp((len(data), data.shape[1], 3), seed=9)),
        **more,
    }
    tag = "asdf://stsci.edu/datamodels/roman/tags/wfi_science_raw-1.4.0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asdf.AsdfFile({"roman": TaggedDict(roman, tag)}).write_to(path, all_array_compression=compression)
    return path


def write_target_pixels(
    path: Path, flux: NDArray[Any], raw: NDArray[Any], days: NDArray[Any], quality: NDArray[Any]
) -> Path:
    """A target pixel file as Kepler and TESS write it: (cadence, y, x) in a binary table."""
    rows, columns = flux.shape[1:]
    shape = f"({columns},{rows})"
    size = rows * columns
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("TIME", "D", "BJD - 2454833", array=days),
            fits.Column("CADENCENO", "J", array=np.arange(len(days))),
            fits.Column("RAW_CNTS", f"{size}J", "count", null=-1, dim=shape, array=raw.reshape(len(raw), -1)),
            fits.Column("FLUX", f"{size}E", "e-/s", dim=shape, array=flux.reshape(len(flux), -1)),
            fits.Column("QUALITY", "J", array=quality),
        ],
        name="TARGETTABLES",
    )
    table.header["INSTRUME"], table.header["GAIN"] = "Kepler Photometer", 113.31
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "Kepler"
    aperture = fits.ImageHDU(np.ones((rows, columns), np.int32), name="APERTURE")
    fits.HDUList([primary, table, aperture]).writeto(path, overwrite=True)
    return path


def write_hst(path: Path, slopes: NDArray[Any], times: list[float], unit: str = "ELECTRONS/S") -> Path:
    """A WFC3/IR exposure: the latest read first, with quality flags."""
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header["INSTRUME"] = "WFC3"
    for version, (slope, time) in enumerate(zip(slopes, times, strict=True), 1):
        hdus += [fits.ImageHDU(slope, name="SCI", ver=version), fits.ImageHDU(slope, name="ERR", ver=version)]
        hdus[-2].header.update({"SAMPTIME": time, "BUNIT": unit})
        quality = np.zeros(slope.shape, np.int16)
        quality[0, version - 1] = 256
        hdus.append(fits.ImageHDU(quality, name="DQ", ver=version))
    hdus.writeto(path, overwrite=True)
    return path


def write_hdf5(path: Path, data: NDArray[Any], name: str = "data", **options: Any) -> Path:
    """A ramp in an HDF5 file, with times, flags and attributes."""
    import h5py

    with h5py.File(path, "w") as file:
        array = file.create_dataset(name, data=data, **options)
        array.attrs.update({"gain": 1.5, "reference_border": [1, 1, 1, 1], "instrument": "H2RG"})
        file["read_times"] = 2.5 * np.arange(1.0, data.shape[-3] + 1)
        flags = np.zeros(data.shape, np.uint8)
        flags[..., 1, 2, 3] = 2
        file.create_dataset("flags", data=flags)
    return path


def litter(folder: Path) -> list[Path]:
    """Unfinished files that a writer left behind."""
    return [p for p in folder.rglob("*") if p.name.endswith(".partial")]
