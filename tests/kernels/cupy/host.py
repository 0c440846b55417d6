"""The kernels for GPUs on this processor: the same sources, compiled as C++, threads one after the other."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fmbdask_kernels.cupy.card import STANDARD, Kept, source
from numpy.typing import NDArray

SHIM = Path(__file__).with_name("shim.h")


def compiler() -> str | None:
    """A C++ compiler of this machine."""
    return shutil.which("g++") or shutil.which("clang++")


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="kernels-")


def host_card() -> HostCard:
    """Such a card, for which every kernel is compiled once in a run of the tests."""
    if compiler() is None:
        pytest.skip("there is no C++ compiler (g++ or clang++) to build the kernels for GPUs as C++ with")
    return HostCard(Path(_folder().name))


class HostCard:
    """A card whose memory is that of this machine, and whose threads take turns."""

    xp = np

    def __init__(self, folder: Path, per_block: int = 232_448, per_processor: int = 233_472) -> None:
        self.folder, self.per_block, self.per_processor = folder, per_block, per_processor
        self._kept = Kept()
        self.launched: list[tuple[str, tuple[str, ...], int]] = []

    def with_shared(self, per_block: int) -> HostCard:
        """Return one like this with another amount of shared memory."""
        return HostCard(self.folder, per_block, max(per_block, self.per_processor))

    def keep(self, made_of: Any, make: Callable[[], NDArray[Any]]) -> Any:
        return self._kept.get(made_of, make)

    def launch(
        self,
        kernel: str,
        options: tuple[str, ...],
        grid: tuple[int, int],
        block: tuple[int, int],
        shared: int,
        arguments: Sequence[Any],
    ) -> None:
        assert shared <= self.per_block
        self.launched.append((kernel, options, shared))
        held: list[Any] = []
        for a in arguments:
            if a is None:
                held.append(ctypes.c_void_p(None))
            elif isinstance(a, np.ndarray):
                assert a.flags.c_contiguous
                held.append(ctypes.c_void_p(a.ctypes.data))
            else:
                held.append({np.int32: ctypes.c_int, np.float32: ctypes.c_float}[type(a)](a))
        pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(h) for h in held))
        shape = (ctypes.c_uint * 4)(*grid, *block)
        assert self._library(kernel, options).launch(shape, shared, pointers) == 0, (
            "written behind shared memory"
        )

    def _library(self, kernel: str, options: tuple[str, ...]) -> Any:
        name = "".join(c if c.isalnum() else "_" for c in "".join((kernel, *options)))
        path = self.folder / f"{name}.so"
        if not path.exists():
            text = self.folder / f"{name}.cpp"
            launcher = (
                f'extern "C" int launch(const unsigned *shape, unsigned shared, void **arguments)\n'
                f"{{ return run({kernel}, shape, shared, arguments); }}\n"
            )
            text.write_text("\n".join([SHIM.read_text(), source(kernel), launcher]))
            command = [
                compiler() or "g++", STANDARD, "-O1", "-w", "-shared", "-fPIC", *options, str(text),
                "-o", str(path),
            ]  # fmt: skip
            built = subprocess.run(command, capture_output=True, text=True)
            assert built.returncode == 0, built.stderr
        return ctypes.CDLL(str(path))


class Stream:
    """A stream that remembers how often it was waited for."""

    def __init__(self) -> None:
        self.waits = 0

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def synchronize(self) -> None:
        self.waits += 1


class StreamingHost(HostCard):
    """The host as a card with streams, whose copies are done at once."""

    def __init__(self, card: HostCard) -> None:
        super().__init__(card.folder)
        self.lock = threading.Lock()
        self.streams: list[Stream] = []
        self.sent = 0

    def launch(
        self,
        kernel: str,
        options: tuple[str, ...],
        grid: tuple[int, int],
        block: tuple[int, int],
        shared: int,
        arguments: Sequence[Any],
    ) -> None:
        with self.lock:  # the shared memory of the host is one
            super().launch(kernel, options, grid, block, shared, arguments)

    def stream(self) -> Any:
        self.streams.append(Stream())
        return self.streams[-1]

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        return np.full(nbytes, 0xA5, np.uint8)

    def send(self, source: NDArray[np.uint8], target: Any) -> None:
        self.sent += source.nbytes
        target[...] = source

    def fetch(self, source: Any, target: NDArray[np.float32]) -> None:
        target[...] = source

    def active(self) -> AbstractContextManager[Any]:
        return nullcontext()
