"""One way through a network: rows of one shape in batches of one size, whatever there is of them.

A batch that is not full is filled with zeros, and never has one row alone on a CPU: so a row has the same
bits whatever is beside it (oneDNN takes another path for a batch of one, 13 times slower). A batch that is
too large for the memory is halved, and what was found to fit is remembered.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ConfigError, InputError

Array = NDArray[Any]
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Elements of a batch on a CPU, in the first channel: more of them at once are no faster.
CPU_ELEMENTS = 2**18
#: Rows of a batch at most, and the share of the free memory of a GPU that one may take.
MOST_ROWS, SHARE = 256, 0.6
#: Batches under way on a GPU: while one is computed, the next goes there and the one before comes back.
UNDER_WAY = 2


def precision_of(name: str, device: torch.device) -> torch.dtype:
    """Find the type that a network computes in.

    Parameters
    ----------
    name : {"auto", "float32", "bfloat16", "float16"}
        ``auto`` takes bfloat16 where the device has instructions for it, else float32.
    device : torch.device

    Raises
    ------
    ConfigError
        If there is no such type, or not on this device.
    """
    if name == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bfloat16()
        return torch.bfloat16 if fast else torch.float32
    if name not in PRECISIONS:
        raise ConfigError(f"there is no precision {name}: give one of auto, {', '.join(PRECISIONS)}")
    if name == "float16" and device.type == "cpu":
        raise ConfigError("a CPU does not compute in float16: give bfloat16 or float32")
    return PRECISIONS[name]


def _cpu_has_bfloat16() -> bool:
    there = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not in every version
    return bool(there is not None and there())


@dataclass
class _Sent:
    """A batch under way: how many rows count, what comes back, and what tells that it is there."""

    rows: int
    found: Tensor
    ready: torch.cuda.Event | None


class Batches:
    """Sends rows through a network.

    Parameters
    ----------
    network : callable
        From a (rows, ...) tensor on the device to another one with as many rows.
    device : torch.device
    dtype : torch.dtype
        What the network takes; what it gives comes back as float32.
    size : int, optional
        Rows of a batch; found for the device if not given.
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        size: int | None = None,
    ) -> None:
        if size is not None and size < 1:
            raise ConfigError(f"a batch of {size} rows cannot be: give 1 or more")
        self.network, self.device, self.dtype, self.size = network, device, dtype, size
        self.least = 1 if device.type == "cuda" else 2
        self._sizes: dict[tuple[int, ...], int] = {}
        self._lock = threading.Lock()
        self._streams: tuple[torch.cuda.Stream, torch.cuda.Stream] | None = None
        if device.type == "cuda":
            self._streams = (
                torch.cuda.Stream(device),  # type: ignore[no-untyped-call]
                torch.cuda.Stream(device),  # type: ignore[no-untyped-call]
            )

    def size_of(self, shape: tuple[int, ...]) -> int:
        """Rows of a batch for rows of this shape."""
        with self._lock:
            if shape not in self._sizes:
                self._sizes[shape] = max(self.least, self.size or self._find(shape))
            return self._sizes[shape]

    def __call__(self, rows: Iterable[NDArray[np.float32]]) -> Iterator[Array]:
        """Send rows of one shape through the network.

        Parameters
        ----------
        rows : iterable of float32 arrays
            Is read as it is needed.

        Yields
        ------
        (some, ...) float32 array
            What the network makes of the next rows, in their order.

        Raises
        ------
        InputError
            If rows differ in shape, or not even the smallest batch fits into the memory.
        """
        waiting: list[NDArray[np.float32]] = []
        under_way: deque[_Sent] = deque()
        for row in rows:
            if waiting and row.shape != waiting[0].shape:
                raise InputError(
                    f"rows of shapes {waiting[0].shape} and {row.shape} cannot go through a network "
                    "together: give them one shape"
                )
            waiting.append(row)
            if len(waiting) >= self.size_of(row.shape):
                yield from self._pass(waiting, under_way)
                waiting = []
        if waiting:
            yield from self._pass(waiting, under_way)
        while under_way:
            yield _fetched(under_way.popleft())

    def _pass(self, rows: list[NDArray[np.float32]], under_way: deque[_Sent]) -> Iterator[Array]:
        """Send rows on, in as many batches as they take, and give back what is there by then."""
        shape, done = rows[0].shape, 0
        while done < len(rows):
            size = self.size_of(shape)
            part = rows[done : done + size]
            batch = torch.zeros((size, *shape), pin_memory=self.device.type == "cuda")
            for place, row in enumerate(part):
                batch[place] = torch.from_numpy(np.ascontiguousarray(row, np.float32))
            sent = self._try(batch, len(part))
            if sent is None:
                while under_way:  # what is under way holds memory
                    yield _fetched(under_way.popleft())
                self._halve(shape, size)
                continue
            under_way.append(sent)
            done += len(part)
            while len(under_way) >= (UNDER_WAY if self._streams else 1):
                yield _fetched(under_way.popleft())

    def _try(self, batch: Tensor, rows: int) -> _Sent | None:
        """Send a batch; None where memory is too small, with all that it took given back."""
        try:
            return self._send(batch, rows)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        return None

    def _halve(self, shape: tuple[int, ...], size: int) -> None:
        if size <= self.least:
            raise InputError(
                f"{size} rows of shape {shape} do not fit into the memory of the {self.device.type} at "
                "once: give smaller patches"
            )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        with self._lock:
            self._sizes[shape] = max(self.least, min(self._sizes[shape], size // 2))

    def _send(self, batch: Tensor, rows: int) -> _Sent:
        with torch.inference_mode():
            if self._streams is None:
                return _Sent(rows, self._through(batch)[:rows], None)
            there, back = self._streams
            here = torch.cuda.current_stream(self.device)
            with torch.cuda.stream(there):
                sent = batch.to(self.device, non_blocking=True)
            here.wait_stream(there)
            sent.record_stream(here)
            found = self._through(sent)[:rows]
            back.wait_stream(here)
            with torch.cuda.stream(back):
                returned = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
                returned.copy_(found, non_blocking=True)
                found.record_stream(back)
                ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
                ready.record(back)
            return _Sent(rows, returned, ready)

    def _through(self, batch: Tensor) -> Tensor:
        batch = batch.to(self.dtype)
        if batch.ndim == 5:
            batch = batch.contiguous(memory_format=torch.channels_last_3d)
        return self.network(batch).float().contiguous()

    def _find(self, shape: tuple[int, ...]) -> int:
        """A power of two: what a CPU wants, or what fits into the free memory of a GPU."""
        most = MOST_ROWS
        if self._streams is None:
            most = CPU_ELEMENTS // max(1, int(np.prod(shape[1:])))
        else:
            with torch.inference_mode():
                free = torch.cuda.mem_get_info(self.device)[0]
                before = torch.cuda.memory_allocated(self.device)
                torch.cuda.reset_peak_memory_stats(self.device)
                try:
                    self._through(torch.zeros((2, *shape), device=self.device))
                except torch.OutOfMemoryError:
                    return self.least
                taken = (torch.cuda.max_memory_allocated(self.device) - before) / 2
            most = int(SHARE * free / max(1.0, UNDER_WAY * taken))
        most = max(1, min(MOST_ROWS, most))
        return int(2 ** (most.bit_length() - 1))


def _fetched(sent: _Sent) -> Array:
    if sent.ready is not None:
        sent.ready.synchronize()
    found: Array = sent.found.numpy()
    return found


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that memory was too small: the allocator of CPUs has no type for it."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
