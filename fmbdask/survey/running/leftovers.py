"""Results of regions that nobody needs any more: their files are removed once the items are reduced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ...store.run.folder import RunFolder
from ...store.run.ledger import Ledger
from ...store.run.units import PREPARE, REDUCE, WHOLE_RUN, Record


class Leftovers:
    """Knows which files of results wait for which items.

    Parameters
    ----------
    folder : RunFolder
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._waiting: dict[str, set[int]] = defaultdict(set)
        self._files: dict[int, set[str]] = defaultdict(set)

    def take(self, records: Iterable[Record]) -> None:
        """Learn from the records of a task that is over, and remove the files that no item waits for."""
        reduced = []
        for record in records:
            if record.kind != "ended" or record.part is None or record.unit.item == WHOLE_RUN:
                continue
            if record.unit.region == REDUCE:
                reduced.append(record.unit.item)
            else:
                self._waiting[record.part.path].add(record.unit.item)
                self._files[record.unit.item].add(record.part.path)
        for item in reduced:
            for path in self._files.pop(item, ()):
                self._waiting[path].discard(item)
                if not self._waiting[path]:
                    del self._waiting[path]
                    _remove(self._folder.path / path)


def sweep(folder: RunFolder, ledger: Ledger) -> None:
    """Remove what killed reductions left, and files of results but those of items begun and not reduced."""
    folder.sweep()
    reduced = set(ledger.done_counts(REDUCE))
    begun = set(ledger.done_counts()) | set(ledger.done_counts(PREPARE))
    needed = {
        str(folder.path / ended.part.path)
        for stage, item in begun - reduced
        for ended in ledger.ended(stage, item)
        if ended.part is not None
    }
    for path in folder.parts.glob("*/*.parts"):
        if str(path) not in needed:
            _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):  # it takes room, no more
        path.unlink()
