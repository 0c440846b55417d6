"""Which layout a FITS file has, and the reader for it."""

from __future__ import annotations

from ...errors import InputError
from .files import Stamp
from .fits_cube import cube_from
from .fits_frames import open_frames
from .fits_header import read_images
from .jwst import is_jwst, is_raw_miri, open_jwst, open_raw_miri
from .protocol import RampSource

#: Names by which a cube is recognised among several.
CUBE_NAMES = ("SCI", "RAMP", "DATA", "")


def open_fits(path: str, stamp: Stamp) -> RampSource:
    """Open a ramp in a FITS file, reading headers only.

    In this order: JWST (an image SCI of four dimensions), raw MIRI, a cube of three or four dimensions, one
    frame per extension.

    Raises
    ------
    InputError
        If there is no ramp in the file, or more than one that might be meant.
    """
    primary, images = read_images(path, stamp)
    if not images:
        raise InputError(f"{path} has no image in any extension: give a file that holds a ramp")
    if is_jwst(images):
        return open_jwst(primary, images, stamp)
    if is_raw_miri(primary, images):
        return open_raw_miri(primary, images, stamp)
    cubes = [image for image in images if len(image.shape) > 2]
    if not cubes:
        flat = [image for image in images if len(image.shape) == 2]
        if len(flat) < 2:
            return cube_from(images[0], stamp, primary)
        return open_frames(primary, flat, stamp)
    for name in CUBE_NAMES:
        named = [image for image in cubes if image.name == name]
        if len(named) == 1:
            return cube_from(named[0], stamp, primary)
    if len(cubes) > 1:
        found = ", ".join(f"{image.index} {image.name}".strip() for image in cubes)
        raise InputError(f"{path} holds several cubes (extensions {found}): name the ramp's extension SCI")
    return cube_from(cubes[0], stamp, primary)
