"""Networks run on the device that was asked for, on one thread, and say what they need."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from fmbdask.errors import ConfigError, InputError
from fmbdask.models import need

torch = pytest.importorskip("torch")

from fmbdask.models.inference import apply, device_of, one_torch_thread  # noqa: E402


def test_what_is_absent_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    need("flows", "torch")
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(InputError, match=r"^flows need torch and zuko: install the extra models \(pip"):
        need("flows", "torch", "zuko")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of("auto").type == "cpu"
    with pytest.raises(ConfigError, match="torch sees no GPU here: give auto or cpu"):
        device_of("cuda")
    with pytest.raises(ConfigError, match="no device tpu: give one of auto, cpu, cuda"):
        device_of("tpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto").type == device_of("cuda").type == "cuda"
    assert device_of("cpu").type == "cpu"


def test_apply_keeps_no_gradients() -> None:
    weight = torch.ones(3, requires_grad=True)
    found = apply(lambda x: x * weight, np.ones((2, 3), np.float32), torch.device("cpu"))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.ones((2, 3)))


def test_one_thread_here_and_as_many_as_before_elsewhere() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    both_inside, first_left = threading.Barrier(2, timeout=60), threading.Event()
    seen: dict[str, list[int]] = {"first": [], "second": []}

    def first() -> None:
        with one_torch_thread(), one_torch_thread():
            both_inside.wait()
            seen["first"].append(torch.get_num_threads())
        seen["first"].append(torch.get_num_threads())
        first_left.set()

    def second() -> None:
        with one_torch_thread():
            with one_torch_thread():
                both_inside.wait()
            first_left.wait(60)
            seen["second"].append(torch.get_num_threads())  # the other one left: nothing changes here
            new = threading.Thread(target=lambda: seen.setdefault("new", [torch.get_num_threads()]))
            new.start()
            new.join()
        seen["second"].append(torch.get_num_threads())

    try:
        threads = [threading.Thread(target=f) for f in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == {"first": [1, 3], "second": [1, 3], "new": [3]}
        assert torch.get_num_threads() == 3
        with pytest.raises(KeyError), one_torch_thread():
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_it_leaves_the_number_where_blas_is_held_as_well() -> None:
    from fmbdask.anomaly.threads import one_thread

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with one_thread(), one_torch_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
