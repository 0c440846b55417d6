"""What must become of damaged files of every format, and a player of many cases; see :mod:`.damage`.

Each case is a number: the same number gives the same damage. Whatever the damage, opening and reading ends
in one sentence that names the file, or in an array: the right one where the damage touches nothing that is
read (or a checksum guards it), one that differs by no more values than bytes were changed where plain values
were hit, and never one that is full of zeros which nobody wrote.

Run as a module, this file plays many cases in a process of its own, which may die or hang without harm:
``python -m tests.store.fuzz FORMAT FIRST COUNT FOLDER``.
"""

from __future__ import annotations

import faulthandler
import resource
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray

from fmbdask.errors import InputError
from fmbdask.store.ramps import open_ramp

from .damage import FORMATS, rng_of

#: Share of zeros in an array whose original has none.
ZEROS = 0.02
HANG = 30.0
MEMORY = 8 * 2**30


def read(path: Path) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """All values, flags and coordinates of an exposure."""
    with warnings.catch_warnings(), dask.config.set(scheduler="synchronous"):
        warnings.simplefilter("ignore")
        opened = open_ramp(path)
        values = opened.values
        flags = opened.flags.values if "flags" in opened.coords else None
        for name in opened.coords:
            np.asarray(opened.coords[name].values)
        assert np.all(np.diff(opened.read_times) > 0), "read times do not increase"
        return values, flags


def play(kind: str, case: int, original: Path, folder: Path) -> str:
    """Damage a copy of the original, read it, and judge what comes of it.

    Returns
    -------
    str
        ``sentence: ...``, ``right`` or ``other``.

    Raises
    ------
    AssertionError
        If the outcome is none of those that are allowed.
    """
    path = folder / original.name
    folder.mkdir(parents=True)
    (shutil.copytree if original.is_dir() else shutil.copy)(original, path)
    expected, _ = read(original)
    done = FORMATS[kind][1](path, rng_of(case))
    try:
        values, flags = read(path)
    except InputError as error:
        sentence = str(error)
        good = "\n" not in sentence and path.name in sentence
        assert good, f"{done.what}: no good sentence: {sentence!r}"
        return f"sentence: {sentence}"
    except Exception as error:
        raise AssertionError(f"{done.what}: {''.join(traceback.format_exception(error))}") from error
    if np.array_equal(values, expected, equal_nan=values.dtype.kind == "f"):
        return "right"
    assert done.limit != 0, f"{done.what}: reads as another array, though nothing that is read was touched"
    if done.limit is not None:
        assert values.shape == expected.shape, f"{done.what}: shape {values.shape}"
        differing = int(np.sum(~((values == expected) | ((values != values) & (expected != expected)))))
        assert differing <= done.limit, f"{done.what}: {differing} values differ"
    bad = values == 0 if flags is None else (values == 0) & (flags == 0)
    assert bad.mean() < ZEROS, f"{done.what}: {bad.mean():.0%} of the values read as zero"
    return "other"


def main(kind: str, first: int, count: int, folder: Path) -> None:
    """Play cases, one line each before and after it."""
    # the process is on its own: a runaway allocation fails, and a case that hangs ends it
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    home = folder / "original"
    home.mkdir(parents=True)
    original = FORMATS[kind][0](home)
    read(original)
    for case in range(first, first + count):
        print(f"case {case}", flush=True)
        faulthandler.dump_traceback_later(HANG, exit=True)
        try:
            # a folder of its own: files that are replaced within one tick of the clock look the same
            outcome = play(kind, case, original, folder / f"case{case}")
        except AssertionError as error:
            outcome = f"WRONG {error}"
        faulthandler.cancel_dump_traceback_later()
        shutil.rmtree(folder / f"case{case}")
        print(f"  {outcome}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
