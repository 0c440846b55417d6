"""Memory of a worker process: how much each unit needed, and an end before the machine makes one.

Counted is anonymous memory only: pages of files that are mapped or cached can be given back at any moment.
One thread a process looks every 50 ms. It cannot interrupt a kernel, so a process that exceeds its allowance
writes down who needed too much and exits; its nanny starts another.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

import psutil

#: Time between two looks, and when more than :data:`NEAR` of the allowance is in use [s].
INTERVAL, SHORT_INTERVAL = 0.05, 0.01
NEAR = 0.7
#: Share of the allowance above which freed memory is given back to the system between units, at most so
#: often [s]: it takes some ten milliseconds.
TIDY, TIDY_INTERVAL = 0.7, 5.0
#: Status of a process that ended itself.
EXIT_STATUS = 86

#: What a watch does before the process ends: gets the memory in use [byte] and whether no other unit ran.
Exceeded = Callable[[int, bool], None]


def anonymous_memory() -> int:
    """Anonymous memory of this process that is resident [byte]."""
    if sys.platform.startswith("linux"):
        try:
            status = os.open("/proc/self/status", os.O_RDONLY)
        except OSError:  # no /proc in some containers
            return int(psutil.Process().memory_full_info().uss)
        try:
            content = os.read(status, 8192)
        finally:
            os.close(status)
        begin = content.find(b"RssAnon:")
        if begin >= 0:
            return int(content[begin + 8 : content.index(b"kB", begin)]) * 1024
    return int(psutil.Process().memory_full_info().uss)


def give_back() -> int:
    """Give freed memory back to the system where the C library can; returns what is in use then [byte].

    What there is the first time, libraries above all, is not looked at again: it would take most of the time.
    """
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()
    if sys.platform.startswith("linux"):
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)
    return anonymous_memory()


class Watch:
    """Follows the memory of the process while one thread does one unit after the other.

    Parameters
    ----------
    allowance : int
        Anonymous memory that the process may use [byte]; 0 only measures.
    exceeded : callable
        Called in another thread when more is in use while a unit is in hand, just before the process ends.
    """

    def __init__(self, allowance: int, exceeded: Exceeded) -> None:
        self.allowance = allowance
        self._exceeded = exceeded
        self._peak = 0
        self._busy = False
        self._units = 0

    def begin(self) -> bool:
        """A unit begins.

        Returns
        -------
        bool
            False where this process holds more than the allowance already, through what earlier units left
            behind: the unit must not be blamed for it and needs a new process.
        """
        used = anonymous_memory()
        if self.allowance and used > TIDY * self.allowance:
            now = time.monotonic()
            if used > self.allowance or now - _guard.tidied > TIDY_INTERVAL:
                _guard.tidied = now
                used = give_back()
        if self.allowance and used > self.allowance and _guard.units_done and _guard.alone(self):
            return False
        self._peak = used
        self._busy = True
        return True

    def end(self) -> int:
        """The unit has ended; returns the largest memory of the process that was seen meanwhile [byte]."""
        if self._busy:
            self._saw(anonymous_memory())
            self._busy = False
            _guard.units_done += 1
        return self._peak

    def _saw(self, used: int) -> None:
        self._peak = max(self._peak, used)

    def __enter__(self) -> Watch:
        _guard.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _guard.remove(self)


class _Guard:
    """The thread of a process that looks; it runs from the first watch on, and sleeps while there is none."""

    def __init__(self) -> None:
        self.units_done = 0
        self.tidied = -TIDY_INTERVAL
        self._lock = threading.Lock()
        self._watches: set[Watch] = set()
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, watch: Watch) -> None:
        with self._lock:
            self._watches.add(watch)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._look, name="memory guard", daemon=True)
                self._thread.start()
        self._wanted.set()

    def remove(self, watch: Watch) -> None:
        with self._lock:
            self._watches.discard(watch)
            if not self._watches:
                self._wanted.clear()

    def alone(self, watch: Watch) -> bool:
        """Whether no other unit is in hand."""
        with self._lock:
            return not any(other._busy for other in self._watches if other is not watch)

    def _look(self) -> None:
        pause = threading.Event()
        interval = INTERVAL
        while True:
            pause.wait(interval)
            self._wanted.wait()
            used = anonymous_memory()
            with self._lock:
                busy = [watch for watch in self._watches if watch._busy]
            allowance = min((watch.allowance for watch in busy if watch.allowance), default=0)
            for watch in busy:
                watch._saw(used)
            if allowance and used > allowance:
                self._end(used, busy)
            interval = SHORT_INTERVAL if allowance and used > NEAR * allowance else INTERVAL

    @staticmethod
    def _end(used: int, busy: list[Watch]) -> None:
        try:
            for watch in busy:
                watch._exceeded(used, len(busy) == 1)
        finally:  # whatever could not be written: the memory must be given back now
            os._exit(EXIT_STATUS)


_guard = _Guard()
