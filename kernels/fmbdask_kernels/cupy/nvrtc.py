"""Compile the kernels without a GPU, by the NVRTC of a toolkit or of ``pip install nvidia-cuda-nvrtc``.

CuPy compiles them by itself where there is a GPU; this is for checks on machines that have none.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .card import STANDARD, source


@dataclass(frozen=True)
class Compiled:
    """Machine code of a kernel, and what its threads take: registers, and bytes that do not fit into them."""

    code: bytes
    registers: int
    stack: int
    spilled: int


def library() -> ctypes.CDLL | None:
    """NVRTC, None where there is none."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    found = [path for folder in folders for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.*"))]
    for name in [*map(str, found), ctypes.util.find_library("nvrtc")]:
        if name:
            try:
                return ctypes.CDLL(name)
            except OSError:
                continue
    return None


def compile_kernel(
    nvrtc: ctypes.CDLL, kernel: str, architecture: str, options: tuple[str, ...] = ()
) -> Compiled:
    """Compile one kernel for ``sm_90``, say.

    Raises
    ------
    ValueError
        If it does not compile, with what the compiler said.
    """
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(
        ctypes.byref(program), source(kernel).encode(), f"{kernel}.cu".encode(), 0, None, None
    )  # fmt: skip
    try:
        given = [STANDARD, f"-arch={architecture}", "--ptxas-options=-v", *options]
        words = (ctypes.c_char_p * len(given))(*(word.encode() for word in given))
        failed = nvrtc.nvrtcCompileProgram(program, len(given), words)
        log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).decode().rstrip("\0")
        if failed:
            raise ValueError(log)
        code = _read(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

    def number(pattern: str) -> int:
        found = re.search(pattern, log)
        if found is None:
            raise ValueError(f"the compiler did not say what {kernel} takes: {log}")
        return int(found[1])

    spilled = number(r"(\d+) bytes spill stores")
    return Compiled(code, number(r"Used (\d+) registers"), number(r"(\d+) bytes stack"), spilled)


def _read(size_of: Any, read: Any, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    read(program, buffer)
    return buffer.raw
