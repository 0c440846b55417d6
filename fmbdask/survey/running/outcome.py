"""A run as its user holds it: where it is, how far, and its tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import RunError
from ...store.run.folder import RunFolder
from ...store.run.items import read_items
from ...store.run.ledger import Ledger
from ...store.run.units import REDUCE, WHOLE_RUN

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """A run, and how far it is.

    Attributes
    ----------
    path : Path
    items, done, failed : int
        Inputs, those that were reduced in the last stage, and those that failed.
    complete : bool
        Whether the catalogue is made.
    stopped : str
        Why it stopped before its end; empty if it did not.
    """

    path: Path
    items: int
    done: int
    failed: int
    complete: bool
    stopped: str = ""

    @property
    def summary(self) -> dict[str, int]:
        """Inputs, done and failed."""
        return {"items": self.items, "done": self.done, "failed": self.failed}

    def catalog(self, tables: str = "*.parquet") -> pd.DataFrame:
        """The tables of the run.

        Parameters
        ----------
        tables : str
            Which ones, below ``catalog``, where there are several kinds.

        Raises
        ------
        RunError
            If there are none yet.
        """
        import pandas as pd

        files = sorted((self.path / "catalog").glob(tables))
        if not self.complete or not files:
            raise RunError(f"the run in {self.path} has no catalogue: `fmbdask survey resume {self.path}`")
        return pd.concat([pd.read_parquet(file) for file in files], ignore_index=True)

    def describe(self) -> str:
        """What became of it, and what to do next, in lines."""
        lines = [
            f"{self.path}: {self.done} of {self.items} inputs done"
            + (f", {self.failed} failed" if self.failed else "")
        ]
        if self.stopped:
            lines.append(f"stopped: {self.stopped}; `fmbdask survey resume {self.path}` goes on")
        if self.complete:
            lines.append(f"catalogue {self.path / 'catalog'}, report {self.path / 'report.html'}")
        if self.failed:
            lines.append(f"`fmbdask survey failures {self.path}` lists what failed and why")
        return "\n".join(lines)


def look(folder: RunFolder, stopped: str = "") -> Run:
    """How far a run is."""
    items = read_items(folder.items_file)
    with Ledger.snapshot(folder) as ledger:
        reduced = ledger.done_counts(REDUCE)
        failed = {f.unit.item for f in ledger.failures(final=True) if f.unit.item != WHOLE_RUN}
    failed |= items.unusable
    last = len(items[0].regions) - 1 if len(items) else 0
    done = sum(stage == last and item != WHOLE_RUN for stage, item in reduced)
    return Run(folder.path, len(items), done, len(failed), (last, WHOLE_RUN) in reduced, stopped)
