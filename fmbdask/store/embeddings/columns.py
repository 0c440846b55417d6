"""Columns along the objects of a store: ids, positions and whatever a table says of them.

There are three kinds: int64, float64 and text. Where nothing is known an int64 column holds :data:`ABSENT`, a
float64 column NaN, and text is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError

#: What an integer column holds where nothing is known.
ABSENT = np.iinfo(np.int64).min
#: Units of the columns that have one.
UNITS = {"ra": "deg", "dec": "deg", "separation": "arcsec"}
Column = NDArray[Any]


def as_column(values: Any, name: str, where: str) -> Column:
    """Give a column one of the three kinds.

    Parameters
    ----------
    values : (n,) array or sequence
        Numbers, truth values or text.
    name, where : str
        The column and its file, for the message.

    Returns
    -------
    (n,) array
        int64, float64 or fixed-width text.

    Raises
    ------
    InputError
        For values of another kind or shape.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise InputError(f"{where}: {name} has shape {array.shape}: give one value for each object")
    if array.dtype.kind in "bi" or (array.dtype.kind == "u" and array.dtype.itemsize < 8):
        return array.astype(np.int64)
    if array.dtype.kind == "u":
        if len(array) and array.max() > np.iinfo(np.int64).max:
            raise InputError(f"{where}: {name} holds integers above 2**63 - 1: store them as text")
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    if array.dtype.kind == "S":
        try:
            return np.strings.decode(array, "utf-8") if len(array) else array.astype("U1")
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: {name} holds text that is not UTF-8: store it as UTF-8") from error
    if array.dtype.kind == "T":
        return fixed_width(array)
    if array.dtype.kind == "U":
        return array if array.dtype.itemsize else array.astype("U1")
    if array.dtype.kind == "O":
        return _from_objects(array, name, where)
    raise InputError(f"{where}: {name} holds values of type {array.dtype}: give numbers or text")


def _from_objects(values: NDArray[Any], name: str, where: str) -> Column:
    """Sort out single Python values, some of which may be None."""
    known = [plain_scalar(v) for v in values if v is not None]
    if all(isinstance(v, (bool, int)) for v in known):
        try:
            return np.array([ABSENT if v is None else int(plain_scalar(v)) for v in values], np.int64)
        except OverflowError:
            raise InputError(
                f"{where}: {name} holds integers of more than 64 bits: store them as text"
            ) from None
    if all(isinstance(v, (bool, int, float)) for v in known):
        return np.array([np.nan if v is None else float(plain_scalar(v)) for v in values], np.float64)
    if all(isinstance(v, str) for v in known):
        return np.array(["" if v is None else str(plain_scalar(v)) for v in values] or [""], str)[
            : len(values)
        ]
    kinds = sorted({type(v).__name__ for v in known})
    raise InputError(f"{where}: {name} holds values of kinds {', '.join(kinds)}: give numbers or text")


def plain_scalar(value: Any) -> Any:
    """A NumPy scalar, array of one value or bytes as a plain Python value."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    if isinstance(value, np.generic):
        value = value.item()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def fixed_width(values: NDArray[Any]) -> Column:
    """Text of variable width as the fixed width that sorts and compares fast."""
    width = int(np.strings.str_len(values).max()) if len(values) else 0
    return values.astype(f"U{max(width, 1)}")


def as_ids(values: Any, where: str) -> Column:
    """Check object ids: int64 or text, none of them missing.

    Raises
    ------
    InputError
        For other kinds, or an id that is missing.
    """
    ids = as_column(values, "object_id", where)
    if ids.dtype.kind == "f":
        whole = ids.astype(np.int64) if np.all(np.isfinite(ids)) else None
        if whole is None or np.any(whole != ids) or (len(ids) and np.abs(ids).max() >= 2**53):
            raise InputError(f"{where}: object ids are no whole numbers: give integers or text")
        ids = whole
    missing = ids == (ABSENT if ids.dtype.kind == "i" else "")
    if missing.any():
        raise InputError(
            f"{where}: object {int(np.argmax(missing))} (counted from 0) has no id: give every object one"
        )
    return ids


def repeated(ids: Column) -> Any | None:
    """One id that stands more than once, or None."""
    ordered = np.sort(ids)
    twice = np.flatnonzero(ordered[1:] == ordered[:-1])
    return ordered[twice[0]].item() if len(twice) else None


def places(ids: Column, among: Column) -> NDArray[np.int64]:
    """Where ids stand among others of the same kind, each of which is there once; -1 where they do not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(pa.array(ids), value_set=pa.array(among))
    return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def refuse_repeated(ids: Column, where: str, known: Column | None = None) -> None:
    """Refuse ids that stand twice, or that a store has already.

    Raises
    ------
    InputError
        Naming one of them.
    """
    twice = repeated(ids)
    if twice is not None:
        raise InputError(f"{where} has the object {twice} more than once: give each object one row")
    if known is None or not len(known):
        return
    if known.dtype.kind != ids.dtype.kind:
        raise InputError(
            f"{where} has ids that are {kind_of(ids)}, the store has {kind_of(known)}: use one kind"
        )
    both = places(ids, known) >= 0
    if both.any():
        raise InputError(
            f"{where} has the object {ids[np.argmax(both)]}, which is in the store already: leave it out"
        )


def kind_of(values: Column) -> str:
    """What the values of a column are, in words."""
    return {"i": "integers", "f": "numbers"}.get(values.dtype.kind, "text")


def check_positions(columns: Mapping[str, Column], ids: Column, where: str) -> None:
    """Refuse positions that are no degrees.

    Raises
    ------
    InputError
        Naming the first object with a right ascension outside -180..360 or a declination outside -90..90.
    """
    for name, low, high in (("ra", -180.0, 360.0), ("dec", -90.0, 90.0)):
        values = columns.get(name)
        if values is None:
            continue
        if values.dtype.kind != "f" and values.dtype.kind != "i":
            raise InputError(f"{where}: {name} is text: give degrees")
        bad = (values < low) | (values > high)
        if bad.any():
            first = int(np.argmax(bad))
            raise InputError(
                f"{where}: {name} of object {ids[first]} is {values[first]}: give degrees between "
                f"{low:g} and {high:g}"
            )


def absent(kind: np.dtype[Any], n: int) -> Column:
    """A column of which nothing is known; validity is then False."""
    if kind.kind == "b":
        return np.zeros(n, bool)
    if kind.kind == "i":
        return np.full(n, ABSENT, np.int64)
    return np.full(n, np.nan) if kind.kind == "f" else np.full(n, "", "U1")


def known(values: Column) -> NDArray[np.bool_]:
    """Where a column says something."""
    if values.dtype.kind == "b":
        return np.ones(len(values), bool)
    if values.dtype.kind == "i":
        return np.asarray(values != ABSENT)
    return ~np.isnan(values) if values.dtype.kind == "f" else np.asarray(values != "")


def take(values: Column, rows: NDArray[np.int64]) -> Column:
    """Rows of a column; a row of -1 is absent."""
    if not len(values):
        return absent(values.dtype, len(rows))
    found = values[np.maximum(rows, 0)]
    return np.where(rows >= 0, found, absent(values.dtype, 1)[0])


def joined(parts: Sequence[Column]) -> Column:
    """Pieces of one column; integers beside floating-point numbers become floating-point.

    Raises
    ------
    InputError
        If some pieces are numbers and some are text.
    """
    kinds = {part.dtype.kind for part in parts}
    if kinds == {"i", "f"}:
        parts = [np.where(known(p), p, np.nan) if p.dtype.kind == "i" else p for p in parts]
    elif len(kinds) > 1:
        raise InputError("a column holds numbers in one place and text in another: use one kind")
    return np.concatenate(parts)
