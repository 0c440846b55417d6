"""Small exposures of our own making, as files."""

from __future__ import annotations

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
