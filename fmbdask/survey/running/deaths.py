"""Who is to blame when worker processes die: the unit that started and did not end, if it was the only one.

Of several units in one process the next death tells, once each has been repeated alone. A process that its
nanny has replaced died of what it did; one that does not come back was lost with its job or its node, which
is no unit's fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from distributed import KilledWorker

from ...store.run.units import Record, Unit
from .flights import address_of, in_hand, process_of

#: Within this time the nanny of a process that died has it replaced [s].
RETURN = 20.0


class _Death(NamedTuple):
    lost: Record
    name: str
    address: str
    time: float


class Deaths:
    """Deaths of worker processes, and what is known of them.

    Parameters
    ----------
    workers : callable
        Returns the address of each worker by its name.
    """

    def __init__(self, workers: Callable[[], Mapping[str, str]]) -> None:
        self._workers = workers
        #: process -> number of units that it had in hand; 0 if it was ended on purpose
        self._suspects: dict[str, int] = {}
        self._open: list[_Death] = []

    @property
    def undecided(self) -> set[Unit]:
        """Units of which it is not known yet whether they are to blame."""
        return {death.lost.unit for death in self._open}

    def intended(self, process: str) -> None:
        """Say that a process was ended on purpose: nobody is to blame."""
        self._suspects[process] = 0

    def note(
        self, records: list[Record], error: KilledWorker, others: Iterable[list[Record]], now: float
    ) -> Record | None:
        """Note that the worker of a task died.

        Parameters
        ----------
        records : list of Record
            Journal of the task.
        error : KilledWorker
            What Dask says.
        others : iterable of list of Record
            Journals of the other tasks at workers; looked at where processes have several threads.
        now : float
            [s]

        Returns
        -------
        Record or None
            What is to be written down of a unit that is one of several suspects.
        """
        unit, process = in_hand(records), process_of(records)
        if unit is None:
            return None
        if process not in self._suspects:
            self._suspects[process] = 1
            if getattr(error.last_worker, "nthreads", 1) > 1:
                more = sum(process_of(r) == process and in_hand(r) is not None for r in others)
                self._suspects[process] += more
        suspects = self._suspects[process]
        if suspects > 1:
            note = f"its worker process died while it was done, and {suspects - 1} more with it"
            return lost(records, unit, "lost", note, counted=False)
        if suspects:
            record = lost(records, unit, "lost", "", counted=True)
            name = str(getattr(error.last_worker, "name", ""))
            self._open.append(_Death(record, name, address_of(process), now))
        return None

    def decide(self, now: float) -> list[Record]:
        """What is to be written down of deaths by now."""
        if not self._open:
            return []
        workers, decided = self._workers(), []
        for death in list(self._open):
            replaced = workers.get(death.name, death.address) != death.address
            if replaced or now - death.time > RETURN:
                self._open.remove(death)
                how = "its worker process died" if replaced else "its worker was lost with its job or node"
                note = f"{how} while it was done"
                decided.append(replace(death.lost, note=note, counted=replaced))
        return decided


def lost(records: list[Record], unit: Unit, cause: str, note: str, *, counted: bool) -> Record:
    """What is written down of a unit that started and did not end, from the journal of its task."""
    begun = next(r for r in reversed(records) if r.kind == "started" and r.unit == unit)
    seconds = max(time.time() - begun.time, 0.0)
    return replace(begun, kind="lost", cause=cause, note=note, counted=counted, seconds=seconds)
