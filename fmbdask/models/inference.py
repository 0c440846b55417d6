"""Where networks run: the device, and one thread of torch inside a task.

A network sees batches of one shape, padded by whoever cuts them, so that a row has the same bits whatever is
beside it; parallel are the blocks, not what happens inside of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")

_lock = threading.Lock()
_users = 0
_before = 1


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Hold torch to one thread in the thread that asks.

    The number of threads of torch belongs to each thread (it is OpenMP's), and a thread that meets torch for
    the first time takes it from the process. So every thread of Dask asks for itself, those that are inside
    are not touched when another leaves, and the last one to leave restores what the first found.
    """
    global _users, _before
    import torch

    with _lock:
        here = torch.get_num_threads()  # a thread that never asked would take the number of the process later
        if _users == 0:
            _before = here
        _users += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            torch.set_num_threads(_before)


def device_of(name: str) -> torch.device:
    """Find the device that networks are to run on.

    Parameters
    ----------
    name : {"auto", "cpu", "cuda"}
        ``auto`` takes a GPU where there is one.

    Raises
    ------
    ConfigError
        If there is no such device here.
    """
    import torch

    if name not in DEVICES:
        raise ConfigError(f"there is no device {name}: give one of {', '.join(DEVICES)}")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("device cuda was asked for and torch sees no GPU here: give auto or cpu")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def apply(
    network: Callable[[torch.Tensor], torch.Tensor], batch: NDArray[np.float32], device: torch.device
) -> NDArray[Any]:
    """Send one batch through a network, without gradients.

    Parameters
    ----------
    network : callable
        From a tensor on the device to another.
    batch : (n, ...) float32
    device : torch.device

    Returns
    -------
    (n, ...) array
    """
    import torch

    with torch.inference_mode():
        found: NDArray[Any] = network(torch.from_numpy(batch).to(device)).cpu().numpy()
    return found
