"""Files by path: their identity, their memory maps (one per process), and the checks every format shares."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError

#: Axes of a ramp, in their order.
DIMS = ("integration", "frame", "y", "x")
#: Fewest frames in which a step can be told from a slope.
FEWEST_FRAMES = 4


class Stamp(NamedTuple):
    """Size [bytes], modification time [ns] and inode of a file: what makes it the same file."""

    size: int
    mtime_ns: int
    inode: int


def stamp_of(path: str | os.PathLike[str]) -> Stamp:
    """Look up the identity of a file.

    Raises
    ------
    InputError
        If there is no such file, or it may not be read.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise InputError(f"{path} cannot be reached ({error.strerror}): check the path") from error
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read: ask its owner for read permission")
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


def check_unchanged(path: str, stamp: Stamp) -> None:
    """Refuse a file whose size or time is no longer that of its opening."""
    if stamp_of(path) != stamp:
        raise InputError(f"{path} has changed since it was opened: open it again when it is complete")


def reason(error: Exception) -> str:
    """Say in one line what a library says about an error, for a sentence of ours."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def stem_of(path: str | os.PathLike[str]) -> str:
    """Name an exposure after its file: the name without its last suffix, and without .gz or .fz after it."""
    name = Path(path).name
    for packed in (".gz", ".fz"):
        name = name.removesuffix(packed)
    return Path(name).stem


def ramp_shape(shape: Sequence[int], where: str) -> tuple[int, int, int, int]:
    """Complete (frame, y, x) or (integration, frame, y, x) and refuse what is no ramp.

    Parameters
    ----------
    shape : sequence of int
        The array's shape in the file.
    where : str
        File and extension or array, for the message.

    Raises
    ------
    InputError
        For other numbers of dimensions, an empty axis, or fewer than four frames.
    """
    if len(shape) not in (3, 4):
        raise InputError(
            f"{where} has {len(shape)} dimension{'s' * (len(shape) != 1)}, shape {tuple(shape)}: "
            "give a cube (frame, y, x) or (integration, frame, y, x)"
        )
    full = (1, *shape) if len(shape) == 3 else tuple(shape)
    if 0 in full:
        raise InputError(f"{where} is empty, shape {tuple(shape)}: give an exposure that holds data")
    if full[1] < FEWEST_FRAMES:
        raise InputError(
            f"{where} has {full[1]} frame{'s' * (full[1] != 1)} along the ramp, shape {tuple(shape)}: "
            f"give at least {FEWEST_FRAMES} frames"
        )
    return full[0], full[1], full[2], full[3]


def working_dtype(stored: np.dtype[Any], where: str) -> np.dtype[Any]:
    """Choose the type a ramp is worked on: the first of uint16, float32, float64 that holds the stored one.

    Integers of 64 bits are exact up to 2**53.

    Raises
    ------
    InputError
        For values that are no real numbers.
    """
    if stored.kind == "u" and stored.itemsize <= 2:
        return np.dtype(np.uint16)
    if (stored.kind == "i" and stored.itemsize <= 2) or (stored.kind == "f" and stored.itemsize <= 4):
        return np.dtype(np.float32)
    if stored.kind in "iu" or (stored.kind == "f" and stored.itemsize == 8):
        return np.dtype(np.float64)
    raise InputError(f"{where} holds values of type {stored}: give real numbers of at most 64 bits")


def frame_times(reads_per_frame: NDArray[np.int64], frame_time: float, gap: int = 0) -> NDArray[np.float64]:
    """Mean time of the reads of each frame since the reset.

    Reads follow one another, ``gap`` reads are dropped after each frame, and read n (from 1) ends n frame
    times after the reset.

    Parameters
    ----------
    reads_per_frame : (T,) array
        Reads averaged into each frame.
    frame_time : float
        Time of one read [s].
    gap : int
        Reads dropped between frames.

    Returns
    -------
    (T,) array
        [s]
    """
    before = np.concatenate([[0], np.cumsum(reads_per_frame + gap)[:-1]])
    return np.asarray(frame_time * (before + (reads_per_frame + 1) / 2), np.float64)
