"""Results appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from .errors import InputError, OutputExistsError


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse to write where something is.

    Raises
    ------
    OutputExistsError
        If the path exists and is not to be overwritten.
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} is already there: remove it or allow overwriting")


def temporary_name(path: Path) -> Path:
    """Make up a name beside the path, on the same file system."""
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")


def publish(temporary: Path, path: Path) -> None:
    """Give a finished file or folder its name, in place of what was there."""
    if path.is_dir() and not path.is_symlink():
        # a folder cannot be replaced in one step: move the old one aside first, then drop it
        aside = temporary_name(path)
        path.rename(aside)
        temporary.rename(path)
        shutil.rmtree(aside)
    elif temporary.is_dir() and path.exists():
        path.unlink()
        temporary.rename(path)
    else:
        os.replace(temporary, path)


def discard(temporary: Path) -> None:
    """Remove what an unfinished write left."""
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Write under a temporary name; the result takes its place when the block ends without an error.

    Parameters
    ----------
    path : Path
        Where the file or folder will be; missing folders above it are made.
    overwrite : bool
        Whether something that is there is replaced.

    Yields
    ------
    Path
        The temporary name to write to.

    Raises
    ------
    OutputExistsError
        If the path exists and is not to be overwritten.
    InputError
        If the folder cannot be made.
    """
    check_free(path, overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent} cannot be made ({error.strerror}): choose another folder") from error
    temporary = temporary_name(path)
    try:
        yield temporary
        publish(temporary, path)
    finally:
        discard(temporary)
