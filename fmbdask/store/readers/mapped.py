"""The bytes of a file as memory: mapped once a process, checked at every use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .files import Stamp, check_unchanged
from .packed import unpacked


def mapped(path: str, stamp: Stamp) -> NDArray[np.uint8]:
    """Map what a file holds into memory, read-only; a compressed FITS file as its unpacked bytes.

    Every call looks whether the file is still the one that was opened: to touch the pages of a file that was
    cut short meanwhile would end the process.

    Raises
    ------
    InputError
        If it is not, or it cannot be mapped or unpacked.
    """
    check_unchanged(path, stamp)
    plain = unpacked(path, stamp)
    return _mapped(path, stamp) if plain is None else plain.content


@lru_cache(maxsize=16)
def _mapped(path: str, stamp: Stamp) -> NDArray[np.uint8]:
    """Map a whole file once per process; the last 16 files stay mapped."""
    try:
        return np.asarray(np.memmap(path, np.uint8, "r"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): check the file and its permissions") from error


def words(path: str, stamp: Stamp, offset: int, dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    """View part of a mapped file as an array, without reading it."""
    return np.ndarray(tuple(shape), np.dtype(dtype), buffer=mapped(path, stamp), offset=offset)
