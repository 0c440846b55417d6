"""Care with containers of chunks: HDF5 files opened once a process, chunk files of Zarr stores checked."""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import product
from typing import Any

from ...errors import InputError
from .files import Stamp, check_unchanged, reason


@lru_cache(maxsize=16)
def opened(path: str, stamp: Stamp) -> Any:
    """Open a file once per process; h5py itself lets one thread in at a time.

    Raises
    ------
    InputError
        If h5py is not installed, the file is another by now, or it cannot be opened.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            f"{path} is an HDF5 file, for which h5py is missing: pip install 'fmbdask[formats]'"
        ) from error
    check_unchanged(path, stamp)
    try:
        return h5py.File(path, "r")
    except Exception as error:  # the library raises whatever it stumbles over
        raise InputError(
            f"{path} cannot be read as HDF5 ({reason(error)}): get a fresh copy of it"
        ) from error


def check_blosc(path: str, member: str, array: Any, first: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Refuse a chunk of a window whose file is not as long as its blosc header says.

    The decoder looks at no length but the header's, and would read what lies behind the end of a file that
    was cut short. Source: blosc 1 chunk format (bytes 12 to 15: compressed size).

    Raises
    ------
    InputError
        If a file is too short or too long.
    """
    last = array.compressors[-1] if len(array.compressors) else None
    if "blosc" not in type(last).__name__.lower() or getattr(array, "shards", None):
        return
    spans = [range(f // c, (f + n - 1) // c + 1) for f, n, c in zip(first, size, array.chunks, strict=True)]
    for place in product(*spans):
        file = os.path.join(path, member, array.metadata.encode_chunk_key(place))
        try:
            with open(file, "rb") as chunk:
                header = chunk.read(16)
                length = os.fstat(chunk.fileno()).st_size
        except FileNotFoundError:
            continue
        if len(header) < 16 or int.from_bytes(header[12:], "little") != length:
            raise InputError(f"{file} is truncated or damaged: write the store again")
