"""The table of layouts, and which of them to use here."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from fmbdask.errors import InputError

from ..write import as_text, write_tables
from .cases import layouts, ramp, vectors
from .measuring import measure

Report = Callable[[int, int, str], None]
#: Layouts within this share of the fastest are as good: noise of a measurement.
AS_GOOD = 0.15
HEADING = """\
{what} on {folder}: GB/s of the uncompressed array (write: until it is on the disk; cold: after the system was
asked to forget the files; threads: one a core), CPU seconds a GB read, one window across chunks, and size
before over after compression. (*) is how fmbdask writes."""


def io_files(
    folder: Path | None, out: Path, *, quick: bool = False, report: Report | None = None
) -> tuple[str, list[Path]]:
    """Compare layouts on a file system; write ``io.txt`` and one CSV for ramps and vectors each.

    Parameters
    ----------
    folder : Path, optional
        On the file system that is measured; that of ``out`` by default.
    out : Path
        Folder of the tables.
    quick : bool
        Small arrays, which stay in caches: shows that it works.
    report : callable, optional
        Called with (done, total, text).

    Returns
    -------
    str, list of Path

    Raises
    ------
    InputError
        If there is too little room.
    """
    frames, size, objects = (40, 128, 8192) if quick else (200, 512, 65536)
    out.mkdir(parents=True, exist_ok=True)
    place = folder or out
    need = 3 * max(2 * frames * size * size, 4 * 768 * objects)
    free = shutil.disk_usage(place).free
    if free < need:
        raise InputError(f"{place} has {free / 1e6:.0f} MB free, this takes {need / 1e6:.0f} MB: make room")
    arrays: dict[str, NDArray[Any]] = {"ramps": ramp(frames, size), "vectors": vectors(objects)}
    cases = layouts(arrays["ramps"].shape, arrays["vectors"].shape)
    rows = []
    with tempfile.TemporaryDirectory(prefix="fmbdask_io_", dir=place) as name:
        for number, layout in enumerate(cases):
            if report is not None:
                report(number + 1, len(cases), f"{layout.data}: {layout.codec}")
            rows.append(measure(layout, arrays[layout.data], Path(name), 1 if quick else 3))
    table = pd.DataFrame(rows)
    tables, texts = {}, {}
    for what, group in table.groupby("data", sort=False):
        own = group.drop(columns="data")
        tables[str(what)] = own
        texts[str(what)] = (HEADING.format(what=what, folder=place), _marked(own))
    text = as_text(texts) + "\n" + "\n".join(advice(str(w), g) for w, g in table.groupby("data", sort=False))
    return text, write_tables(tables, text, out, "io")


def advice(what: str, rows: pd.DataFrame) -> str:
    """Say which layout to use.

    The time that counts is that of reading, once with empty caches: surveys read more than they write. Among
    those as fast as the fastest the smallest is best; a layout whose windows take ten times as long as the
    quickest ones is none, since snowballs and stamps are looked at in windows.
    """
    usable = rows[rows["window_ms"] <= 10 * rows["window_ms"].min()]
    fast = usable[usable["read_cold"] >= (1 - AS_GOOD) * usable["read_cold"].max()]
    usual = rows[rows["usual"]].iloc[0]
    if usual.name in fast.index and usual["ratio"] >= (1 - AS_GOOD) * fast["ratio"].max():
        return f"{what}: what fmbdask writes is right here ({_named(usual)})."
    best = fast.sort_values("ratio", ascending=False).iloc[0]
    gain = best["read_cold"] / usual["read_cold"]
    size = best["ratio"] / usual["ratio"]
    return (
        f"{what}: {_named(best)} is read {gain:.2f} times as fast as what fmbdask writes ({_named(usual)}), "
        f"at {1 / size:.2f} of its size."
    )


def _named(row: pd.Series) -> str:
    shards = f" in shards of {row['shards']}" if row["shards"] else ""
    return f"chunks of {row['chunks']}{shards}, {row['codec']}"


def _marked(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows.drop(columns="usual")
    shown["codec"] = [f"{c} (*)" if u else c for c, u in zip(rows["codec"], rows["usual"], strict=True)]
    return shown
