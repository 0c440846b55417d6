"""Detector histories as files: one JSON and one Parquet file a detector, in a folder.

The JSON names the Parquet file and its digest and is replaced last, so a history is whole at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from ..atomic import atomic
from ..errors import InputError
from .catalog import read_table, write_table
from .products import plain
from .readers import format_of
from .readers.files import stamp_of
from .readers.fits_header import read_images

#: Keywords of the start of an exposure: a date with a time, and a date whose time stands elsewhere.
STARTS = (("DATE-BEG", None), ("DATE-OBS", "TIME-OBS"))
#: Days of the modified Julian date before 1970.
MJD_1970 = 40587


@dataclass(frozen=True)
class StoredHistory:
    """What the files of one detector hold.

    ``about`` is the content of the JSON file, without the names of the others; ``pixels`` and ``bright`` are
    the tables of :class:`fmbdask.ramps.history.History`.
    """

    about: Mapping[str, Any]
    pixels: pd.DataFrame
    bright: pd.DataFrame


def observation(path: str | os.PathLike[str], attrs: Mapping[str, Any]) -> tuple[str, str]:
    """Name of the detector that took an exposure, and when it started (ISO 8601); empty where unknown.

    Parameters
    ----------
    path : path
    attrs : mapping
        What is known of the exposure besides.
    """
    name, started = str(attrs.get("instrument") or ""), ""
    if format_of(path) == "fits":
        header, _ = read_images(os.fspath(path), stamp_of(path), constants=True)
        parts = [str(header.get(k, "")).strip() for k in ("INSTRUME", "DETECTOR")]
        name = "-".join(dict.fromkeys(p for p in parts if p)) or name
        started = _start(header)
    return name, started


def _start(header: Mapping[str, Any]) -> str:
    """Start of an exposure as the primary header states it, UTC, or nothing."""
    for date, time in STARTS:
        text = str(header.get(date, "")).strip()
        if text and time and "T" not in text:
            clock = str(header.get(time, "")).strip()
            text = f"{text}T{clock}" if clock else ""
        if text:
            with contextlib.suppress(ValueError, OverflowError):
                moment = datetime.fromisoformat(text)
                return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC).isoformat()
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
        days = float(header["EXPSTART"]) - MJD_1970
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days)).isoformat()
    return ""


def write_history(
    folder: str | os.PathLike[str],
    stored: StoredHistory,
    *,
    units: Mapping[str, str],
    types: Mapping[str, str],
) -> Path:
    """Write or replace the history of one detector.

    Parameters
    ----------
    folder : path
        Made if it is not there.
    stored : StoredHistory
        ``about`` has the name of the detector as ``detector``.
    units, types : mapping
        Unit and type of each column of both tables, which are stored as one with the kind ``bright`` for the
        latter: types that can be empty.

    Returns
    -------
    Path
        The JSON file.
    """
    target = _file(Path(folder), str(stored.about["detector"]))
    parts = [part.astype(object) for part in (stored.pixels, stored.bright.assign(kind="bright"))]
    both = pd.concat(parts, ignore_index=True).reindex(columns=list(types)).astype(dict(types))
    # what was read from a file knows its units, which would be written twice
    both.attrs = {}
    with atomic(target, overwrite=True) as temporary:
        table = target.with_suffix(".partial.parquet")
        write_table(table, both, units=units, metadata={"detector": stored.about["detector"]}, overwrite=True)
        digest = _digest(table)
        name = f"{target.stem}-{digest[:12]}.parquet"
        os.replace(table, target.with_name(name))
        content = {**plain(stored.about), "pixels": name, "sha256": digest}
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for old in target.parent.glob(f"{target.stem}-*.parquet"):
        if old.name != name and re.fullmatch(rf"{re.escape(target.stem)}-[0-9a-f]{{12}}\.parquet", old.name):
            old.unlink(missing_ok=True)
    return target


def read_history(
    folder: str | os.PathLike[str], detector: str, *, columns: Sequence[str], bright: Sequence[str]
) -> StoredHistory:
    """Read the history of one detector.

    Parameters
    ----------
    folder : path
    detector : str
    columns, bright : sequence of str
        Columns that the two tables must have.

    Raises
    ------
    InputError
        If there is no such folder or detector, or a file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder: build a history with `fmbdask ramps history RESULTS -o`")
    path = _file(folder, detector)
    if not path.exists():
        known = ", ".join(detectors(folder)) or "none"
        raise InputError(
            f"{folder} has no history of detector {detector} (there is: {known}): name one with --detector, "
            "or build it with `fmbdask ramps history`"
        )
    again = "build it again with `fmbdask ramps history`"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        table = folder / Path(str(about["pixels"])).name
        whole = _digest(table) == about["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged or its table is missing ({type(error).__name__}): {again}"
        ) from error
    if not whole:
        raise InputError(f"{table} is not the table that {path.name} was written with: {again}")
    both = read_table(table)
    missing = [name for name in {*columns, *bright} if name not in both]
    if missing:
        raise InputError(f"{table} lacks the columns {', '.join(sorted(missing))}: {again}")
    is_bright = (both["kind"] == "bright").to_numpy()
    return StoredHistory(
        {k: v for k, v in about.items() if k not in ("pixels", "sha256")},
        both.loc[~is_bright, list(columns)].reset_index(drop=True),
        both.loc[is_bright, list(bright)].reset_index(drop=True),
    )


def has_history(folder: str | os.PathLike[str], detector: str) -> bool:
    """Whether a folder holds the history of a detector."""
    return _file(Path(folder), detector).exists()


def detectors(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the detectors in a folder."""
    found = []
    for path in sorted(Path(folder).glob("*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.append(str(json.loads(path.read_text(encoding="utf-8"))["detector"]))
    return found


def _file(folder: Path, detector: str) -> Path:
    """File of a detector, whatever characters its name has."""
    plain_name = re.sub(r"[^A-Za-z0-9_.-]+", "_", detector).strip("._") or "detector"
    if plain_name != detector:
        plain_name += "-" + hashlib.sha256(detector.encode()).hexdigest()[:6]
    return folder / f"{plain_name}.json"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
