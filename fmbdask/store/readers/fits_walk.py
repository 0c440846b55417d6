"""A walk over the headers of a FITS file, by their mandatory keywords only.

It comes before astropy, which takes minutes or for ever over some damaged headers (no END card before
gigabytes of data, billions of axes), and passes over what is left when lengths are wrong. Source: FITS
standard 4.0, sections 3.3 and 4.4.1.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import IO

from ...errors import InputError

BLOCK, CARD = 2880, 80
#: Blocks of one header: 36 cards each.
MOST_BLOCKS = 5000
MOST_AXES = 999
BITPIX = (8, 16, 32, 64, -32, -64)
WANTED = re.compile(rb"(BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|ZIMAGE) *= *([^ /]*)")


@dataclass(frozen=True)
class Place:
    """Where one header-data unit lies [bytes], and whether it is a tile-compressed image."""

    header: int
    data: int
    size: int
    tiles: bool

    @property
    def end(self) -> int:
        """Where the next one begins."""
        return self.data + -(-self.size // BLOCK) * BLOCK


def walk(file: IO[bytes], path: str) -> list[Place]:
    """Find the header-data units of a file.

    Parameters
    ----------
    file : binary file
        At any position; read to the end of its last header.
    path : str
        Its name, for messages.

    Raises
    ------
    InputError
        If a mandatory keyword is missing or damaged, a header does not end, or bytes are left over that are
        no extension. A file that ends within the data of its last unit is left to who needs that data.
    """
    length = os.fstat(file.fileno()).st_size
    places: list[Place] = []
    start = 0
    while start < length:
        where = f"{path}[{len(places)}]"
        file.seek(start)
        first = file.read(len(b"XTENSION"))
        if places and first != b"XTENSION":
            _check_rest(file, start, length, path, len(places))
            return places
        place = _unit(file, start, where)
        places.append(place)
        start = place.end
    return places


def _unit(file: IO[bytes], start: int, where: str) -> Place:
    """Read one header."""
    file.seek(start)
    values: dict[str, str] = {}
    for number in range(MOST_BLOCKS):
        block = file.read(BLOCK)
        if len(block) < BLOCK:
            break
        for place in range(0, BLOCK, CARD):
            card = block[place : place + CARD]
            if card[:8] == b"END     ":
                return _place(values, start, start + (number + 1) * BLOCK, where)
            if found := WANTED.match(card):
                values.setdefault(found[1].decode(), found[2].decode("latin-1"))
    raise InputError(f"{where} has a header without an END card: get a fresh copy of the file")


def _place(values: dict[str, str], start: int, data: int, where: str) -> Place:
    """Work out how long the data are."""
    bitpix = _integer(values, "BITPIX", where)
    if bitpix not in BITPIX:
        raise InputError(f"{where} says BITPIX = {bitpix}: give 8, 16, 32, 64, -32 or -64")
    axes = _integer(values, "NAXIS", where)
    if not 0 <= axes <= MOST_AXES:
        raise InputError(f"{where} says NAXIS = {axes}: get a fresh copy of the file")
    sizes = [_integer(values, f"NAXIS{n}", where) for n in range(1, axes + 1)]
    parameters = _integer(values, "PCOUNT", where, 0)
    groups = _integer(values, "GCOUNT", where, 1)
    if min((*sizes, parameters, groups, _integer(values, "TFIELDS", where, 0))) < 0:
        raise InputError(f"{where} has an axis or a count below 0 (NAXISn, PCOUNT, GCOUNT): get a fresh copy")
    if axes > 1 and sizes[0] == 0:  # random groups, which old radio data have
        sizes = sizes[1:]
    elements = math.prod(sizes) if axes else 0
    size = abs(bitpix) // 8 * groups * (parameters + elements) if axes else 0
    return Place(start, data, size, values.get("ZIMAGE") == "T")


def _integer(values: dict[str, str], keyword: str, where: str, default: int | None = None) -> int:
    text = values.get(keyword)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        said = "lacks" if text is None else "has no number as"
        raise InputError(f"{where} {said} {keyword} in its header: get a fresh copy of the file") from None


def _check_rest(file: IO[bytes], start: int, length: int, path: str, index: int) -> None:
    """Refuse what follows the last unit, unless it is empty."""
    file.seek(start)
    while block := file.read(2**20):
        if block.strip(b"\0 "):
            raise InputError(
                f"{path} goes on for {length - start} bytes behind extension {index - 1} that are no "
                "extension, so "
                "a length in it is wrong: get a fresh copy of the file"
            )
