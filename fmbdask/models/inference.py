"""Where networks run: the device, and one thread of torch inside a task.

A network sees batches of one shape, padded by whoever cuts them, so that a row has the same bits whatever is
beside it; parallel are the blocks, not what happens inside of one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda")

_lock = threading.Lock()
_here = threading.local()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Hold torch to one thread in the thread that asks, and in no other.

    The number of threads of torch belongs to each thread (it is OpenMP's and MKL's), but setting it also
    notes it for threads that meet torch later: this is put right at once. So threads of Dask that come and
    go, inside and outside, do not disturb each other.
    """
    import torch

    if getattr(_here, "inside", False):
        yield
        return
    with _lock, ThreadPoolExecutor(1) as new:
        process = new.submit(torch.get_num_threads).result()
        torch.get_num_threads()  # until a thread has asked, what it sets is replaced by the noted number
        torch.set_num_threads(1)
        new.submit(torch.set_num_threads, process).result()
    _here.inside = True
    try:
        yield
    finally:
        _here.inside = False
        torch.set_num_threads(process)


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
