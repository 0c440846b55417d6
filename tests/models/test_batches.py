"""Batches: one size, filled up, never one row on a CPU, halved where memory ends."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fmbdask.errors import ConfigError, InputError  # noqa: E402
from fmbdask.models.batches import Batches, precision_of  # noqa: E402

CPU = torch.device("cpu")


class Seen:
    """Doubles what comes in, notes the sizes of batches, and fails as told to."""

    def __init__(self, most: int = 10**9, error: Callable[[], Exception] = torch.OutOfMemoryError) -> None:
        self.most, self.error, self.sizes = most, error, list[int]()

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > self.most:
            raise self.error()
        self.sizes.append(len(batch))
        return 2 * batch


def rows(count: int) -> list[np.ndarray]:
    return [np.full((3, 2), number, np.float32) for number in range(count)]


def through(batches: Batches, count: int) -> list[float]:
    found = np.concatenate([np.zeros((0, 3, 2)), *batches(iter(rows(count)))])
    assert found.shape == (count, 3, 2)
    return found[:, 0, 0].tolist()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_all_batches_have_one_size(count: int) -> None:
    seen = Seen()
    assert through(Batches(seen, CPU, size=4), count) == [2.0 * number for number in range(count)]
    assert seen.sizes == [4] * -(-count // 4)


def test_a_batch_on_a_cpu_never_has_one_row() -> None:
    seen = Seen()
    through(Batches(seen, CPU, size=1), 3)
    assert seen.sizes == [2, 2]


def test_a_cpu_takes_so_many_rows_as_fill_a_batch() -> None:
    batches = Batches(Seen(), CPU)
    sizes = [
        batches.size_of((5, *shape)) for shape in ((64, 32, 32), (64, 64, 64), (450, 256, 256), (1, 1, 1))
    ]
    assert sizes == [4, 2, 2, 256]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError,
        lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_a_batch_that_is_too_large_is_halved_and_the_size_remembered(error: Callable[[], Exception]) -> None:
    seen = Seen(most=3, error=error)
    batches = Batches(seen, CPU, size=16)
    assert through(batches, 21) == [2.0 * number for number in range(21)]
    assert seen.sizes == [2] * 11  # 16, 8 and 4 do not fit
    assert batches.size_of((3, 2)) == 2
    assert through(batches, 5) == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_what_does_not_fit_at_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"2 rows of shape \(3, 2\) do not fit .* give smaller patches"):
        through(Batches(Seen(most=1), CPU, size=8), 5)


def test_other_errors_of_a_network_pass() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        through(Batches(Seen(most=1, error=lambda: RuntimeError("a bug")), CPU), 5)


def test_rows_of_several_shapes_are_refused() -> None:
    batches = Batches(Seen(), CPU, size=4)
    with pytest.raises(InputError, match=r"rows of shapes \(3, 2\) and \(2, 3\) cannot go"):
        list(batches([np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float32)]))
    with pytest.raises(ConfigError, match="a batch of 0 rows"):
        Batches(Seen(), CPU, size=0)


def test_rows_are_read_as_they_are_needed() -> None:
    taken = []

    def given() -> object:
        for number, row in enumerate(rows(8)):
            taken.append(number)
            yield row

    found = Batches(Seen(), CPU, size=2)(given())  # type: ignore[arg-type]
    next(found)
    assert taken == [0, 1]


def test_threads_may_share_it_while_memory_ends() -> None:
    batches = Batches(Seen(most=2), CPU, size=64)
    found: dict[int, list[float]] = {}
    threads = [
        threading.Thread(target=lambda k=k: found.__setitem__(k, through(batches, 40 + k))) for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {k: [2.0 * number for number in range(40 + k)] for k in range(4)}


def test_types_to_compute_in(monkeypatch: pytest.MonkeyPatch) -> None:
    assert precision_of("float32", CPU) is torch.float32
    assert precision_of("bfloat16", CPU) is torch.bfloat16
    assert precision_of("auto", CPU) in (torch.float32, torch.bfloat16)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert precision_of("auto", CPU) is torch.float32
    with pytest.raises(ConfigError, match="no precision int8: give one of auto, float32"):
        precision_of("int8", CPU)
    with pytest.raises(ConfigError, match="a CPU does not compute in float16"):
        precision_of("float16", CPU)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_gives_what_a_cpu_gives() -> None:
    cuda = torch.device("cuda")
    assert through(Batches(Seen(), cuda, size=3), 20) == [2.0 * number for number in range(20)]
    assert through(Batches(Seen(most=2), cuda, size=16), 20) == [2.0 * number for number in range(20)]
    assert Batches(Seen(), cuda).size_of((3, 2)) == 256
