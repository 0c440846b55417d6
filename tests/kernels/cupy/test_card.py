"""Whether there is a GPU to use, and what a card keeps."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fmbdask_kernels.arrays import on_gpu
from fmbdask_kernels.cupy.card import KEPT, Kept, missing


class CUDARuntimeError(RuntimeError):
    """What CuPy raises without a driver."""


def cupy_with(count: Any) -> SimpleNamespace:
    """A stand-in for CuPy that finds so many GPUs, or raises."""

    def devices() -> int:
        if isinstance(count, Exception):
            raise count
        return int(count)

    runtime = SimpleNamespace(getDeviceCount=devices, CUDARuntimeError=CUDARuntimeError)
    return SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (None, "CuPy is not installed"),
        (cupy_with(0), "CuPy sees no GPU"),
        (cupy_with(CUDARuntimeError("no driver")), "CuPy sees no GPU"),
        (cupy_with(2), None),
    ],
    ids=["no CuPy", "no GPU", "no driver", "two GPUs"],
)
def test_what_is_missing_is_told(module: Any, why: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", module)
    assert missing() == why


def test_arrays_of_numpy_are_not_on_a_gpu() -> None:
    assert not on_gpu(np.zeros(3))
    assert not on_gpu([1, 2])
    assert on_gpu(type("ndarray", (), {"__module__": "cupy._core.core"})())


def test_what_is_kept_is_made_once_and_not_mistaken() -> None:
    kept, made = Kept(), []

    def make() -> int:
        made.append(len(made))
        return made[-1]

    first = np.zeros(1)
    assert kept.get(first, make) == kept.get(first, make) == 0
    for _ in range(3 * KEPT):
        kept.get(np.zeros(1), make)  # a new array may take the place in memory of one that went
    assert made == list(range(3 * KEPT + 1))
    assert kept.get(first, make) == 3 * KEPT + 1
