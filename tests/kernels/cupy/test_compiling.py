"""The kernels for GPUs compile for the cards that are in use, without one: by NVRTC, to machine code."""

from __future__ import annotations

import ctypes

import pytest
from fmbdask_kernels.cupy import nvrtc
from fmbdask_kernels.cupy.card import KERNELS, source


@pytest.fixture(scope="module")
def compiler() -> ctypes.CDLL:
    found = nvrtc.library()
    if found is None:
        pytest.skip("there is no NVRTC: pip install nvidia-cuda-nvrtc (Linux and Windows)")
    return found


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize(
    ("kernel", "options"),
    [
        ("temporal", ()),
        ("temporal", ("-DSPILL",)),
        ("masked", ("-DDATA=unsigned short", "-DWHOLE=1")),
        ("rates", ("-DDATA=float",)),
    ],
    ids=["temporal", "temporal of long ramps", "masked", "rates"],
)
def test_kernels_compile_and_stay_in_registers(
    compiler: ctypes.CDLL, kernel: str, options: tuple[str, ...], architecture: str
) -> None:
    made = nvrtc.compile_kernel(compiler, kernel, architecture, options)
    assert made.code.startswith(b"\x7fELF")
    assert (made.stack, made.spilled) == (0, 0)
    # a multiprocessor has 65536: enough for twice the threads that there is shared memory for at 450 reads
    assert 2 * 192 * made.registers <= 65536


def test_what_does_not_compile_is_told(compiler: ctypes.CDLL) -> None:
    with pytest.raises(ValueError, match="DATA"):
        nvrtc.compile_kernel(compiler, "rates", "sm_90")


@pytest.mark.parametrize("kernel", KERNELS)
def test_sources_are_complete(kernel: str) -> None:
    text = source(kernel)
    assert f'extern "C" __global__ void {kernel}(' in text
    assert "#define SLOPE 0\n" in text
