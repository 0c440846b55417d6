"""Which layout a FITS file has, and the reader for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InputError
from .files import FEWEST_FRAMES, Stamp
from .fits_cube import cube_from
from .fits_frames import open_frames
from .fits_header import Image, read_images
from .jwst import is_jwst, is_raw_miri, open_jwst, open_raw_miri
from .protocol import RampSource
from .target_pixels import open_target_pixels

#: Names by which a cube is recognised among several.
CUBE_NAMES = ("SCI", "RAMP", "DATA", "")
#: Names of images that stand beside a ramp and are none, whatever their shape.
BESIDE = {"GROUPDQ", "PIXELDQ", "DQ", "ERR", "REFOUT", "ZEROFRAME", "SAMP", "TIME", "APERTURE"}


def open_fits(path: str, stamp: Stamp, extension: int | str | None = None) -> RampSource:
    """Open a ramp in a FITS file, reading headers only.

    In this order: JWST (an image SCI of four dimensions), raw MIRI, a cube of three or four dimensions, a
    target pixel file, one frame per extension.

    Parameters
    ----------
    path, stamp
        The file.
    extension : int or str, optional
        Number or name of the cube, name of the frames, or column of a target pixel file.

    Raises
    ------
    InputError
        If there is no ramp in the file, or more than one that might be meant.
    """
    primary, listed = read_images(path, stamp, constants=True)
    images = [image for image in listed if image.constant is None]
    cubes = [image for image in images if len(image.shape) > 2]
    flat = [image for image in images if len(image.shape) == 2]
    if not cubes and len(flat) < FEWEST_FRAMES:
        target = open_target_pixels(path, stamp, primary, extension)
        if target is not None:
            return target
    if not images:
        raise InputError(f"{path} has no image in any extension: give a file that holds a ramp")
    if extension is not None:
        return _chosen(path, stamp, primary, listed, extension)
    if is_jwst(images):
        return open_jwst(primary, images, stamp)
    if is_raw_miri(primary, images):
        return open_raw_miri(primary, images, stamp)
    cubes = [image for image in cubes if image.name not in BESIDE]
    if not cubes:
        if all(image.name in BESIDE for image in images):
            raise InputError(
                f"{path} has no image of a ramp, only what stands beside one (extensions "
                f"{_names(images)}): get a "
                "fresh copy, or name one as extension"
            )
        if len(flat) < 2:
            return cube_from(images[0], stamp, primary)
        return open_frames(primary, [image for image in listed if len(image.shape) == 2], stamp)
    for name in CUBE_NAMES:
        named = [image for image in cubes if image.name == name]
        if len(named) == 1:
            return cube_from(named[0], stamp, primary)
    if len(cubes) > 1:
        raise InputError(
            f"{path} holds several cubes (extensions {_names(cubes)}): give the ramp's number or name as "
            "extension"
        )
    return cube_from(cubes[0], stamp, primary)


def _chosen(
    path: str, stamp: Stamp, primary: Mapping[str, Any], images: Sequence[Image], extension: int | str
) -> RampSource:
    """Open the extension that the user names."""
    text = str(extension).strip().upper()
    pixels = [image for image in images if image.constant is None]
    found = [image for image in pixels if image.name == text]
    if not found and text.isdigit():
        found = [image for image in pixels if image.index == int(text)]
    if not found:
        raise InputError(
            f"{path} has no image {extension} (but extensions {_names(pixels)}): give one of these"
        )
    if found[0].name == "SCI" and is_jwst(found):
        return open_jwst(primary, pixels, stamp)
    cubes = [image for image in found if len(image.shape) > 2]
    if len(cubes) > 1:
        raise InputError(
            f"{path} holds several cubes {extension} (extensions {_names(cubes)}): give the number of one"
        )
    if cubes or len(found) == 1:
        return cube_from(cubes[0] if cubes else found[0], stamp, primary)
    return open_frames(
        primary, [image for image in images if image in found or image.name == "DQ"], stamp, text
    )


def _names(images: Sequence[Image]) -> str:
    return ", ".join(f"{image.index} {image.name}".strip() for image in images)
