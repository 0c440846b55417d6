"""Tables of named columns: which are features, and which are the id, the label, a position or text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ..columns import ABSENT, Column, known
from .protocol import ID_NAMES, POSITION_NAMES

#: What the modality of a table is called.
FEATURES = "features"
#: Columns that say which objects are anomalous, the likeliest name first; never a feature.
LABEL_NAMES = (
    "label", "labels", "is_anomaly", "anomaly", "is_outlier", "outlier", "ground_truth", "target", "class",
    "y",
)  # fmt: skip
#: Columns that say when a step of a series was.
TIME_NAMES = (
    "time", "timestamp", "datetime", "date", "mjd", "jd", "bjd", "hjd", "utc", "cadenceno", "step",
)  # fmt: skip
#: Numbers of rows that libraries write without being asked.
ROW_NUMBERS = ("", "unnamed: 0", "__index_level_0__")
#: Words for an ordinary and for an anomalous object.
ORDINARY = {"0", "normal", "ordinary", "nominal", "inlier", "no", "false"}
ANOMALOUS = {"1", "anomaly", "anomalous", "abnormal", "outlier", "yes", "true"}
#: More columns than this are told by their number and the first of them.
SHOWN = 5


@dataclass(frozen=True)
class Chosen:
    """A modality of a table.

    Attributes
    ----------
    key : str
        How it was asked for.
    columns : tuple of str
        In the order of their vectors.
    named : bool
        Whether the columns have names of their own; else they are the numbered parts of a vector.
    """

    key: str
    columns: tuple[str, ...]
    named: bool


def choose_columns(
    numbers: Sequence[str],
    others: Sequence[str],
    wanted: Mapping[str, str] | None,
    path: str,
    aside: Sequence[str] = (),
) -> dict[str, Chosen]:
    """Choose the features of a table.

    Parameters
    ----------
    numbers, others : sequence of str
        Names of the columns that hold numbers, and of the others.
    wanted : mapping of str, optional
        By modality: names of columns with commas between them, one name, the prefix of numbered columns, or
        the name of the modality for all numbers. Without it all numbers are the modality ``features``, but
        for the id, the position and labels.
    aside : sequence of str
        More columns that are no features unless they are named: times, names of series.

    Raises
    ------
    InputError
        If there are none, or one is not there or holds text.
    """
    special = {
        *ID_NAMES,
        *LABEL_NAMES,
        *ROW_NUMBERS,
        *(n for names in POSITION_NAMES.values() for n in names),
    }
    if "x" in map(str.lower, numbers):
        special -= {"y"}  # beside x it is a coordinate
    special |= {name.lower() for name in aside}
    every = tuple(n for n in numbers if n.lower() not in special)
    found: dict[str, Chosen] = {}
    for name, key in (wanted or {FEATURES: FEATURES}).items():
        columns: tuple[str, ...] | None = tuple(part.strip() for part in key.split(","))
        named = True
        if "," not in key and key not in numbers and key not in others:
            columns = numbered(numbers, key)
            named = columns is None
            if columns is None and key == name:
                columns = every
        if columns is None:
            raise InputError(
                f"{path} has no vectors {key} for {name}: neither a column of that name nor consecutive "
                f"columns {key}0, {key}1, ...; name columns with --modality {name}=A,B,C"
            )
        for column in columns:
            if column not in numbers:
                raise InputError(
                    f"{path}: {column} "
                    + ("is no column of numbers" if column in others else "is no column")
                    + f", so it cannot be a feature of {name}: it has {shown(numbers) or 'no numbers'}"
                )
        if not columns:
            raise InputError(f"{path} has no column of numbers that can be a feature: give at least one")
        if len(set(columns)) < len(columns):
            raise InputError(f"{path}: --modality {name}={key} names a column twice: give each once")
        found[name] = Chosen(key, columns, named)
    return found


def column_name(name: str) -> str:
    """Name of a column in a store: that of the table, with underscores for what no identifier may hold."""
    made = re.sub(r"\W+", "_", name).strip("_")
    return name if name.isidentifier() or not made else made if made.isidentifier() else f"column_{made}"


def numbered(names: Iterable[str], prefix: str) -> tuple[str, ...] | None:
    """Columns of a prefix and a number, in the order of their numbers; None unless they are consecutive."""
    found = {int(m[1]): n for n in names if (m := re.fullmatch(rf"{re.escape(prefix)}_?(\d+)", n))}
    order = sorted(found)
    if not found or order != list(range(order[0], order[0] + len(order))):
        return None
    return tuple(found[i] for i in order)


def shown(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def check_names(names: Sequence[str], path: str) -> None:
    """Refuse columns of the same name.

    Raises
    ------
    InputError
        Naming the first of them.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{path} has two columns called {name}: rename one")
        seen.add(name)


def with_label(columns: dict[str, Column], path: str) -> tuple[dict[str, Column], list[str]]:
    """Call the column of labels ``label``: 0 ordinary, 1 anomalous, anything else unknown."""
    lowered = {name.lower(): name for name in columns}
    for usual in LABEL_NAMES:
        name = lowered.get(usual)
        found = None if name is None else as_label(columns[name])
        if name is None or found is None:
            continue
        notes = [] if name == "label" else [f"{path}: {name} became the column label"]
        values = set(np.unique(found[known(found)]).tolist())
        if values == {-1, 1}:
            notes.append(
                f"{path}: {name} holds 1 and -1 and no 0: 1 counts as anomalous, -1 as not known; write 0 "
                "for ordinary objects"
            )
        return {("label" if n == name else n): found if n == name else v for n, v in columns.items()}, notes
    return columns, []


def text_notes(columns: Mapping[str, Column], path: str) -> list[str]:
    """Say which columns are of text, and which of them look as if they should hold numbers."""
    texts = {n: v for n, v in columns.items() if v.dtype.kind == "U"}
    if not texts:
        return []
    notes = [f"{path}: columns of text are no features: {shown(list(texts))}"]
    for name, values in texts.items():
        some = values[np.strings.str_len(values) > 0]
        bad = [v for v in some.tolist() if not is_number(v)]
        if 0 < len(bad) < len(some) / 2:
            notes.append(
                f"{path}: {name} holds {bad[0]!r} among numbers, so it is text: leave such cells empty to "
                "make it a feature"
            )
    return notes


def is_number(text: str) -> bool:
    """Whether a cell is written as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_label(values: Column) -> Column | None:
    """Labels 0, 1 and -1 as int64, or None where a column holds something else."""
    if values.dtype.kind == "U":
        words = np.char.lower(np.char.strip(values))
        there = set(np.unique(words).tolist()) - {""}
        if not there or not there <= ORDINARY | ANOMALOUS:
            return None
        anomalous, ordinary = np.isin(words, list(ANOMALOUS)), np.isin(words, list(ORDINARY))
        return np.where(anomalous, 1, np.where(ordinary, 0, ABSENT))
    told = known(values)
    if not told.any() or not np.isin(values[told], (-1, 0, 1)).all():
        return None
    return np.where(told, np.where(told, values, 0).astype(np.int64), ABSENT)


def in_blocks(parts: Iterable[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    """Pieces of rows, of any length, as blocks of ``size`` rows; the last one may be shorter."""
    held: list[NDArray[np.float32]] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part)
        while count >= size:
            whole = np.concatenate(held)
            yield whole[:size]
            held, count = [whole[size:]], count - size
    if count:
        yield np.concatenate(held)


def as_floats(column: Any) -> NDArray[np.float64]:
    """An arrow column of numbers or truth values as float64, NaN where there is none."""
    import pyarrow as pa
    import pyarrow.types as pt

    if pt.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
