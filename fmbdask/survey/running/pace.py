"""How far a run is, how fast, and how long it will take: one line for people."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

#: Called with (regions done, regions, text).
Report = Callable[[int, int, str], None]

#: The rate is that of so long a time before now [s].
RECENT = 60.0


@dataclass
class Pace:
    """Counts of a run.

    Attributes
    ----------
    regions, total : int
        Regions of all stages that ended, and all of them.
    items, of_items, failed : int
        Items that were reduced in the last stage, all items, and those that failed.
    unusable : int
        Those among the failed that were known to be of no use when the run was planned.
    """

    total: int
    of_items: int
    regions: int = 0
    items: int = 0
    failed: int = 0
    unusable: int = 0
    _recent: deque[tuple[float, int, int]] = field(default_factory=deque)
    _nbytes: int = 0

    def add(self, now: float, nbytes: int, regions: int) -> None:
        """Note what was read and done."""
        self._nbytes += nbytes
        self.regions += regions
        self._recent.append((now, self._nbytes, self.regions))
        while now - self._recent[0][0] > RECENT:
            self._recent.popleft()

    def text(self) -> str:
        """Items, rate, time to go and failures."""
        words = [f"{self.items}/{self.of_items} inputs"]
        if len(self._recent) > 1:
            (begin, nbytes, done), (end, *last) = self._recent[0], self._recent[-1]
            if end > begin and last[1] > done:
                words.append(f"{(last[0] - nbytes) / (end - begin) / 1e6:.3g} MB/s")
                left = (self.total - self.regions) * (end - begin) / (last[1] - done)
                hours, minutes, seconds = int(left // 3600), int(left // 60 % 60), int(left % 60)
                words.append(
                    f"ETA {hours}:{minutes:02}:{seconds:02}" if hours else f"ETA {minutes:02}:{seconds:02}"
                )
        if self.failed:
            words.append(f"{self.failed} failed")
        return " · ".join(words)
