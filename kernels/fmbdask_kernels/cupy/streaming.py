"""Blocks of an exposure streamed through a GPU: while one is computed, the next one is on its way.

A card has two lanes, each with a stream, a buffer of pinned memory for what goes there and one for what comes
back. A thread takes a lane, packs its block, and waits without holding the interpreter; as threads come with
block after block, copies in both directions and kernels of the two lanes overlap.
"""

from __future__ import annotations

import queue
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..planes import COUNT
from ..rate_tables import RateTables
from ..tables import Offsets, Prior, Tables
from .card import Card, current
from .packed import pack_offsets, pack_prior
from .rates import best_rates
from .temporal import Told, features, known_type, tell_shared

#: Lanes of a card: one computes while the other one copies.
LANES = 2
#: Where parts of a buffer begin [byte]: whole lines of the card's memory.
ALIGNED = 256


class StreamingCard(Card, Protocol):
    """A card with streams, and memory of this machine that it copies from and to by itself."""

    def stream(self) -> Any:
        """Return a new stream, a context in which all is done on it, with ``synchronize``."""

    def pinned(self, nbytes: int) -> NDArray[np.uint8]:
        """Memory of this machine that the card can reach."""

    def send(self, source: NDArray[np.uint8], target: Any) -> None:
        """Begin to copy pinned memory to the card, on the current stream."""

    def fetch(self, source: Any, target: NDArray[np.float32]) -> None:
        """Begin to copy from the card to pinned memory, on the current stream."""

    def active(self) -> AbstractContextManager[Any]:
        """Make this card the current one of the thread."""


@dataclass(frozen=True)
class Block:
    """Counts of a block (T, ny, nx) with all that is known of them; see the kernels for CPUs."""

    data: NDArray[Any]
    used: NDArray[np.int64]
    pattern: NDArray[np.float64]
    tables: Tables
    prior: Prior
    offsets: Offsets
    rates: RateTables
    saturation: NDArray[np.float32]
    usable: NDArray[np.bool_] | None = None
    appearance_sigma: float = 5.0


class Lane:
    """One stream of a card with its buffers, which grow to the largest block."""

    def __init__(self, card: StreamingCard) -> None:
        self.card = card
        self.stream = card.stream()
        self._sent = card.pinned(0)
        self._there: Any = None
        self._fetched = card.pinned(0)

    def run(self, block: Block) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Planes of a block (planes, ny, nx), and its rates and their errors (2, ny, nx)."""
        ny, nx = block.data.shape[1:]
        taken = known_type(block.data)
        contents = {
            "data": _frames(taken, block.used),
            "level": block.saturation,
            "prior": pack_prior(block.prior, nx),
            "offsets": pack_offsets(block.offsets, nx),
        }
        if block.usable is not None:
            contents["usable"] = _frames(block.usable, block.used)
        with self.stream:
            there = self._send(contents)
            shared = tell_shared(self.card, block.used, block.tables, block.pattern)
            told = Told(
                *shared, there["prior"], there["offsets"], block.tables.rho.size,
                block.prior.variance.shape[0], block.offsets.has_gradient,
            )  # fmt: skip
            planes = features(
                self.card, there["data"], told, there["level"], there.get("usable"), block.appearance_sigma
            )
            best = best_rates(self.card, there["data"], planes, told, block.rates)
            back = self._room(4 * (COUNT + 2) * ny * nx).view(np.float32).reshape(COUNT + 2, ny, nx)
            self.card.fetch(planes, back[:COUNT])
            self.card.fetch(best, back[COUNT:])
            self.stream.synchronize()
        return back[:COUNT].copy(), back[COUNT:].copy()

    def _send(self, contents: dict[str, NDArray[Any]]) -> dict[str, Any]:
        """Pack arrays into the buffer, and begin to send it; returns them as they will be on the card."""
        places, total = {}, 0
        for name, values in contents.items():
            places[name] = total
            total += -(-values.nbytes // ALIGNED) * ALIGNED
        if self._there is None or self._sent.size < total:
            self._sent, self._there = self.card.pinned(total), self.card.xp.empty(total, np.uint8)
        found = {}
        for name, values in contents.items():
            span = slice(places[name], places[name] + values.nbytes)
            self._sent[span].view(values.dtype).reshape(values.shape)[...] = values
            found[name] = self._there[span].view(values.dtype).reshape(values.shape)
        self.card.send(self._sent[:total], self._there[:total])
        return found

    def _room(self, nbytes: int) -> NDArray[np.uint8]:
        if self._fetched.size < nbytes:
            self._fetched = self.card.pinned(nbytes)
        return self._fetched[:nbytes]


class Lanes:
    """The lanes of a card; a thread waits for one that is free."""

    def __init__(self, card: StreamingCard, lanes: int = LANES) -> None:
        self.card = card
        self._free: queue.Queue[Lane] = queue.Queue()
        for _ in range(lanes):
            self._free.put(Lane(card))

    def run(self, block: Block) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Run a block on a lane; see :meth:`Lane.run`."""
        lane = self._free.get()
        try:
            with self.card.active():
                return lane.run(block)
        finally:
            self._free.put(lane)


def _frames(values: NDArray[Any], used: NDArray[np.int64]) -> NDArray[Any]:
    """Frames in use: a view where none is left out between them."""
    first, last = int(used[0]), int(used[-1]) + 1
    return values[first:last] if last - first == used.size else values[used]


_lanes: dict[int, Lanes] = {}
_making = threading.Lock()


def first_pass(block: Block) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features and rates of a block by the GPU of this process, for any number of threads at a time.

    Parameters
    ----------
    block : Block

    Returns
    -------
    (planes, ny, nx) float32 array, (2, ny, nx) float32 array
        As :func:`fmbdask_kernels.temporal.temporal_features` and :func:`fmbdask_kernels.rates.rates` give
        them, in memory of this machine.
    """
    card = current()
    with _making:
        if card.number not in _lanes:
            _lanes[card.number] = Lanes(card)
    return _lanes[card.number].run(block)
