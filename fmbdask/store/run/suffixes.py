"""Suffixes of the names of inputs, one by one and of millions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

#: So many last characters of a path tell its suffix, most often.
_TAILS = 6, 9


def suffix_of(path: str) -> str:
    """What the name of an input ends with, in small letters; with what stands before ``.gz`` and ``.fz``.

    Examples
    --------
    >>> suffix_of("/data/A.fits.gz"), suffix_of("/data/.hidden")
    ('.fits.gz', '')
    """
    name = path[path.rfind("/") + 1 :].rstrip('"]').lower()
    cut = name.rfind(".", 0, -3) if name.endswith((".gz", ".fz")) else name.rfind(".")
    return name[cut:] if cut > 0 else ""


def suffixes(paths: pa.LargeStringArray) -> tuple[NDArray[np.int64], list[str]]:
    """Which of a few suffixes each path has, (n,), and these.

    Paths of a survey end in few ways, so that a few distinct ends are looked at and not every path.
    """
    number: dict[str, int] = {}
    codes = np.full(len(paths), -1, np.int64)
    rest = np.arange(len(paths))
    for length in _TAILS:
        tails = pc.utf8_slice_codeunits(paths.take(rest), -length).dictionary_encode()
        found = [suffix_of(tail) for tail in tails.dictionary.to_pylist()]
        # an end without a suffix does not tell
        by_tail = np.array([number.setdefault(s, len(number)) if s else -1 for s in found] or [-1])
        codes[rest] = by_tail[tails.indices.to_numpy()]
        rest = rest[codes[rest] < 0]
        if not len(rest):
            break
    for place in rest.tolist():
        codes[place] = number.setdefault(suffix_of(paths[place].as_py()), len(number))
    return codes, list(number)
