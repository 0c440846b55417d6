"""Progress as a bar on a terminal and as plain lines in a log, behind one callback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: `report(done, total, text)`: how many of how many, and what is being done.
Report = Callable[[int, int, str], None]

#: In a log, work of more items than this is reported every tenth.
LINES = 20


@contextmanager
def progress() -> Iterator[Report]:
    """Show the progress that is reported on stderr.

    A text that changes continues the same bar; counts that start again, with another text, start a new bar.
    """
    if sys.stderr.isatty():
        with bar() as report:
            yield report
    else:
        yield plain_lines()


@contextmanager
def bar() -> Iterator[Report]:
    """Rich progress bars, one for each stage of the work."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as display:
        stage = Stage()

        def report(done: int, total: int, text: str) -> None:
            if stage.begins(done, total):
                stage.task = int(display.add_task(text, total=total))
            display.update(stage.task, completed=done, total=total, description=text)  # type: ignore[arg-type]

        yield report


class Stage:
    """Tells when counts start again."""

    def __init__(self) -> None:
        self.task = 0
        self._last: tuple[int, int] | None = None

    def begins(self, done: int, total: int) -> bool:
        """Whether this count belongs to new work rather than to that of the count before."""
        new = self._last is None or done < self._last[0] or total != self._last[1]
        self._last = (done, total)
        return new


def plain_lines() -> Report:
    """One line an item, or one a tenth of the work where items are many."""
    stage = Stage()
    shown = 0

    def report(done: int, total: int, text: str) -> None:
        nonlocal shown
        begins = stage.begins(done, total)
        part = done if total <= LINES else 10 * done // total
        if begins or part != shown:
            print(f"{done}/{total} {text}", file=sys.stderr, flush=True)
        shown = part

    return report
