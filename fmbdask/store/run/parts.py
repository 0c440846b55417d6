"""Results of regions until their item is reduced: pickles, one after the other, in one file a task.

One file a task and not one a region: a survey has millions of regions. The journal says where each result
lies and what its checksum is; bytes that no record names do not exist.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import TracebackType
from typing import Any

import xxhash

from ...errors import RunError
from .folder import RunFolder, sync_all
from .units import Part

#: Files are read so many bytes at a time.
_BLOCK = 1 << 20


def checksum(content: bytes) -> str:
    """XXH3 (128 bit) of some bytes: guards against damage, ten times as fast as SHA-256."""
    return xxhash.xxh3_128_hexdigest(content)


class DamagedPartError(RunError):
    """A result that is missing or not what was written: its unit must be done again."""


class PartWriter:
    """Appends results to a new file of a task.

    Parameters
    ----------
    folder : RunFolder
    name : str
        Of the file below ``parts/``; no two executions share one.
    """

    def __init__(self, folder: RunFolder, name: str) -> None:
        self.path = folder.parts / f"{name}.parts"
        self._relative = folder.relative(self.path)
        self._file: Any = None
        self._offset = 0

    def write(self, value: Any) -> Part:
        """Append one result; it is on the disk when :meth:`sync` returns."""
        content = pickle.dumps(value, protocol=5)
        if self._file is None:  # most tasks of small items need none
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("xb", buffering=0)
        view = memoryview(content)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError:  # a nearly full disk took a piece: the next result must not lie behind it
            self._file.truncate(self._offset)
            self._file.seek(self._offset)
            raise
        part = Part(self._relative, self._offset, len(content), checksum(content))
        self._offset += len(content)
        return part

    def sync(self) -> None:
        """Wait until all results are on the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync and close."""
        if self._file is not None:
            try:
                self.sync()
            finally:
                self._file.close()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_part(folder: RunFolder, part: Part) -> Any:
    """Read a result back.

    Raises
    ------
    DamagedPartError
        If it is missing, shorter, or has another checksum.
    """
    path = folder.path / part.path
    try:
        with path.open("rb") as file:
            file.seek(part.offset)
            content = file.read(part.length)
    except OSError as error:
        raise DamagedPartError(
            f"{path} cannot be read ({error.strerror}): the region is done again"
        ) from None
    if len(content) != part.length or checksum(content) != part.checksum:
        raise DamagedPartError(f"{path} is damaged at byte {part.offset}: the region is done again")
    return pickle.loads(content)


def folder_checksum(path: Path, *, sync: bool = False) -> tuple[int, str]:
    """Size and checksum of a product: the names and the bytes of all files below a folder.

    Parameters
    ----------
    path : Path
    sync : bool
        Whether to wait until all of it is on the disk.

    Raises
    ------
    OSError
        If it is missing or cannot be read.
    """
    total, state = 0, xxhash.xxh3_128()
    os.stat(path)
    folders, files = [path], []
    for file in sorted(path.rglob("*")):
        if file.is_dir():
            folders.append(file)
            continue
        state.update(file.relative_to(path).as_posix().encode() + b"\0")
        length = 0
        with file.open("rb", buffering=0) as content:
            while block := content.read(_BLOCK):
                state.update(block)
                length += len(block)
        files.append(file)
        state.update(length.to_bytes(8, "little"))
        total += length
    if sync:
        sync_all(files)
        sync_all(folders)
    return total, state.hexdigest()
