"""What a failure of a unit means for it: try again, how, or never; decided from all its failures so far.

Bad data and mistakes in programs are final at once. File systems are asked again after a pause. A unit that
needed too much memory, or whose worker died with nothing else in hand, is repeated alone and with more
memory; one that hung is repeated alone. Those that only shared a dying process are repeated alone without an
attempt counted, so that the next death names the culprit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

#: Most counted failures of one cause, where it is not the number of attempts of the run.
MOST = {"data": 1, "code": 1, "memory": 2, "deadline": 2}
#: What happened to the process that did the unit, so that the unit is repeated with nothing beside it.
_OF_PROCESSES = {"memory", "lost", "deadline"}
#: Failures that do not count, of one unit: beyond so many something else is wrong.
_MOST_UNCOUNTED = 20


class Setback(NamedTuple):
    """One failure of a unit, as far as it matters for what is done next."""

    cause: str
    counted: bool = True
    final: bool = False


class Verdict(NamedTuple):
    """What becomes of a unit that failed.

    Attributes
    ----------
    final : bool
        It is not tried again.
    alone : bool
        It is repeated with nothing else in its process.
    large : bool
        It is repeated where there is more memory.
    pause : float
        It is repeated after this time [s].
    """

    final: bool = False
    alone: bool = False
    large: bool = False
    pause: float = 0.0


@dataclass(frozen=True)
class Policy:
    """How often units are tried.

    Attributes
    ----------
    attempts : int
        Most attempts of a unit that fails for reasons that may pass.
    pause : float
        Time before the first repetition of input or output that failed; doubles with each [s].
    """

    attempts: int = 3
    pause: float = 2.0

    def judge(self, history: Iterable[Setback]) -> Verdict:
        """Decide from all failures of a unit, the last one at the end."""
        setbacks: Sequence[Setback] = list(history)
        counts = Counter(s.cause for s in setbacks if s.counted)
        uncounted = sum(not s.counted for s in setbacks)
        if (
            any(s.final for s in setbacks)
            or any(n >= MOST.get(cause, self.attempts) for cause, n in counts.items())
            or counts.total() >= max(self.attempts, 2)
            or uncounted >= _MOST_UNCOUNTED
        ):
            return Verdict(final=True)
        again = setbacks[-1].cause == "io"
        return Verdict(
            alone=any(s.cause in _OF_PROCESSES for s in setbacks),
            large=bool(counts["memory"] or counts["lost"]),
            pause=self.pause * 2.0 ** (counts["io"] - 1) if again and counts["io"] else 0.0,
        )
