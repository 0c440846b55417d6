"""Names in the directory of a run, and small files that are replaced whole and reach the disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...atomic import discard, temporary_name
from ...errors import RunError

#: Version of the layout: a run of another version is refused by name.
LAYOUT = 1
#: Files that are waited for at once.
SYNCS = 8


@dataclass(frozen=True)
class RunFolder:
    """The directory of a run.

    ``run.json`` says what is done, with which configuration and versions; ``plan.json`` what it will cost;
    ``items.parquet`` lists the inputs; ``journal/`` holds what happened, the truth; ``ledger.sqlite`` an
    index of it; ``parts/`` results of regions until their item is reduced; ``products/`` one folder an item;
    ``catalog/`` the tables of the whole run; ``epochs/`` who coordinates.
    """

    path: Path

    @staticmethod
    def at(path: str | os.PathLike[str]) -> RunFolder:
        """Open the directory of an existing run.

        Raises
        ------
        RunError
            If there is no run, or one of another layout.
        """
        folder = RunFolder(Path(path).absolute())
        if not folder.run_file.is_file():
            raise RunError(
                f"{path} holds no run (there is no {folder.run_file.name} in it): "
                "give the output folder of `fmbdask survey run`"
            )
        layout = folder.read_json(folder.run_file).get("layout")
        if layout != LAYOUT:
            raise RunError(
                f"{path} is a run of layout {layout}, this version reads {LAYOUT}: use the other version"
            )
        return folder

    @property
    def run_file(self) -> Path:
        """What is done."""
        return self.path / "run.json"

    @property
    def plan_file(self) -> Path:
        """What it costs."""
        return self.path / "plan.json"

    @property
    def items_file(self) -> Path:
        """The inputs."""
        return self.path / "items.parquet"

    @property
    def ledger_file(self) -> Path:
        """Index of the journals."""
        return self.path / "ledger.sqlite"

    @property
    def journal(self) -> Path:
        """What happened."""
        return self.path / "journal"

    @property
    def parts(self) -> Path:
        """Results of regions that wait."""
        return self.path / "parts"

    @property
    def products(self) -> Path:
        """Results of items."""
        return self.path / "products"

    @property
    def catalog(self) -> Path:
        """Tables of the whole run."""
        return self.path / "catalog"

    @property
    def epochs(self) -> Path:
        """Who coordinates."""
        return self.path / "epochs"

    @property
    def logs(self) -> Path:
        """Logs of coordinators and jobs."""
        return self.path / "logs"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def failures(self) -> Path:
        """Table of what failed."""
        return self.path / "failures.csv"

    @property
    def stop_file(self) -> Path:
        """Asks the coordinator and the workers to stop after the unit in hand."""
        return self.path / "stop"

    def make(self) -> None:
        """Make the directory and those in it."""
        for folder in (
            self.path,
            self.journal,
            self.parts,
            self.products,
            self.catalog,
            self.epochs,
            self.logs,
        ):
            folder.mkdir(parents=True, exist_ok=True)

    def sweep(self) -> int:
        """Remove what reductions that were killed left unfinished; returns the number of leftovers.

        To be called by a new coordinator: a writer that still lives and is swept away fails, and must not
        publish any more.
        """
        places = (".catalog", "products/.*", "products/*/.*")
        found = [path for place in places for path in self.path.glob(f"{place}.*.partial")]
        for path in found:
            discard(path)
        return len(found)

    def relative(self, path: Path) -> str:
        """A path as it is written into records: relative to the run, so that a run can be moved."""
        return path.relative_to(self.path).as_posix()

    def read_json(self, path: Path) -> dict[str, Any]:
        """Read a small file.

        Raises
        ------
        RunError
            If it is missing or damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{path} is missing: this is no complete run; begin it anew") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}): restore it from a copy or begin anew") from None
        if not isinstance(content, dict):
            raise RunError(f"{path} is damaged: restore it from a copy or begin the run anew")
        return content


def write_json(path: Path, content: Any) -> None:
    """Replace a small file by a new one, whole, and wait until it is on the disk."""
    write_durably(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file whole, and wait until it is on the disk."""
    temporary = temporary_name(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_all(paths: Sequence[Path]) -> None:
    """Wait until files, or the names in folders, are on the disk.

    All at once: a file system brings together what is asked of it at the same time, so that the fifteen files
    of a product take little longer than one.
    """
    at_once([partial(sync_folder, path) for path in paths])


def at_once(waits: Sequence[Callable[[], None]]) -> None:
    """Wait for several things at the same time."""
    if len(waits) < 2:
        for wait in waits:
            wait()
        return
    with ThreadPoolExecutor(min(len(waits), SYNCS)) as pool:
        for future in [pool.submit(wait) for wait in waits]:
            future.result()


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder, or a file that was written and closed, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
