"""One unit of a run: what it needs is read and checked, what it makes is kept, or published whole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...atomic import discard, publish, temporary_name
from ...errors import InputError
from ...store.run.epochs import check_reign
from ...store.run.folder import RunFolder, sync_folder
from ...store.run.items import Item
from ...store.run.parts import DamagedPartError, PartWriter, folder_checksum, read_part
from ...store.run.units import PREPARE, REDUCE, WHOLE_RUN, Part, Unit
from ..pipelines.protocol import Context, Pipeline, Stage

#: Products that this process has checked: path, checksum and time of the last change of the folder.
_checked: set[tuple[str, str, int]] = set()


def product_path(folder: RunFolder, pipeline: Pipeline, unit: Unit, name: str = "") -> Path:
    """Folder of what a reduction makes.

    ``products/<item>``, or ``products/<stage>/<item>`` where a pipeline has several stages; ``catalog`` for
    the run, or ``products/<stage>.run`` for the run at a stage that another follows.
    """
    several = len(pipeline.stages) > 1
    stage = pipeline.stages[unit.stage].name
    if unit.item == WHOLE_RUN:
        last = unit.stage == len(pipeline.stages) - 1
        return folder.catalog if last else folder.products / f"{stage}.run"
    return folder.products / stage / name if several else folder.products / name


class Doing:
    """Does the units of a task one after the other, and knows where their results lie.

    Parameters
    ----------
    folder : RunFolder
    pipeline : Pipeline
    epoch : int
        Nothing is published under a later one.
    items : mapping
        Items of the units; for the reduction of the run all that were reduced.
    known : mapping
        Results of earlier units.
    parts : PartWriter
        Takes the results of these.
    """

    def __init__(
        self,
        folder: RunFolder,
        pipeline: Pipeline,
        epoch: int,
        items: dict[int, Item],
        known: dict[Unit, Part],
        parts: PartWriter,
    ) -> None:
        self.folder, self.pipeline, self.epoch, self.items = folder, pipeline, epoch, items
        self.known = known
        self.damaged: list[Unit] = []
        self._parts = parts
        self._prepared: tuple[Unit, Any] | None = None

    def do(self, unit: Unit, context: Context) -> Part:
        """Do one unit and return where its result lies; see ``damaged`` after an error.

        Raises
        ------
        DamagedPartError
            If the result of an earlier unit is missing or damaged; ``damaged`` lists all of these.
        SupersededError
            If another coordinator has taken over: nothing was published.
        Exception
            Whatever the pipeline raises.
        """
        self.damaged = []
        stage = self.pipeline.stages[unit.stage]
        self._open_products(unit, context)
        if unit.item == WHOLE_RUN:
            return self._reduce_run(unit, stage, context)
        item = self.items[unit.item]
        if item.problem:
            raise InputError(item.problem)
        if unit.region == PREPARE:
            prepared = stage.prepare(item, context)
            part = self._keep(unit, prepared, context)
            self._prepared = unit, prepared
            return part
        prepared = self._read_prepared(unit, context)
        if unit.region == REDUCE:
            return self._reduce(unit, stage, item, prepared, context)
        return self._keep(unit, stage.map(item, unit.region, prepared, context), context)

    def _keep(self, unit: Unit, value: Any, context: Context) -> Part:
        with context.writing():
            part = self._parts.write(value)
        self.known[unit] = part
        return part

    def _read(self, unit: Unit, context: Context) -> Any:
        """Result of an earlier unit."""
        with context.reading():
            try:
                if unit not in self.known:
                    raise DamagedPartError(f"the result of {unit} is not there: it is done again")
                return read_part(self.folder, self.known[unit])
            except DamagedPartError:
                self.damaged.append(unit)
                raise

    def _read_prepared(self, unit: Unit, context: Context) -> Any:
        wanted = unit._replace(region=PREPARE)
        if self._prepared is None or self._prepared[0] != wanted:
            self._prepared = wanted, self._read(wanted, context)
        return self._prepared[1]

    def _reduce(self, unit: Unit, stage: Stage, item: Item, prepared: Any, context: Context) -> Part:
        regions = [unit._replace(region=r) for r in range(item.regions[unit.stage])]

        def results() -> Iterator[Any]:
            for region in regions:
                yield self._read(region, context)

        def make(target: Path) -> None:
            stage.reduce(item, prepared, results(), target, context)

        try:
            return self._publish(unit, item.name, make, context)
        finally:
            if self.damaged:  # one was found on the way: name all of them at once
                self._find_damaged(regions)

    def _find_damaged(self, units: list[Unit]) -> None:
        self.damaged = []
        for unit in units:
            try:
                self._read(unit, Context(self.folder))
            except DamagedPartError:
                continue

    def _reduce_run(self, unit: Unit, stage: Stage, context: Context) -> Part:
        products = []
        with context.reading():
            for index in sorted(self.items):
                if index != WHOLE_RUN:
                    made = Unit(unit.stage, index, REDUCE)
                    products.append((self.items[index], self._check_product(made)))
        if self.damaged:
            raise DamagedPartError(f"{len(self.damaged)} products are damaged: their items are reduced again")
        return self._publish(unit, "", lambda target: stage.reduce_run(products, target, context), context)

    def _open_products(self, unit: Unit, context: Context) -> None:
        """Give the products of earlier stages to the context: of this item, and of the whole run."""
        found = {}
        for number, earlier in enumerate(self.pipeline.stages[: unit.stage]):
            with context.reading():
                if unit.item != WHOLE_RUN:
                    found[earlier.name] = self._check_product(Unit(number, unit.item, REDUCE))
                whole = Unit(number, WHOLE_RUN, REDUCE)
                if whole in self.known:
                    found[f"{earlier.name}.run"] = self._check_product(whole)
        context.products = found
        if self.damaged:
            raise DamagedPartError("the product of an earlier stage is damaged: it is made again")

    def _check_product(self, unit: Unit) -> Path:
        """Folder of a product that is what its record says; else it is noted as damaged."""
        part = self.known.get(unit)
        path = self.folder.path / (part.path if part else "")
        try:
            if part is None:
                raise FileNotFoundError
            key = str(path), part.checksum, path.stat().st_mtime_ns
            if key not in _checked:
                if folder_checksum(path) != (part.length, part.checksum):
                    raise FileNotFoundError
                _checked.add(key)
        except OSError:
            self.damaged.append(unit)
        return path

    def _publish(self, unit: Unit, name: str, make: Callable[[Path], None], context: Context) -> Part:
        """Let a product be made under another name, and give it its own when it is whole and on the disk."""
        target = product_path(self.folder, self.pipeline, unit, name)
        with context.writing():
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = temporary_name(target)
            temporary.mkdir()
        try:
            make(temporary)
            with context.writing():
                size, digest = folder_checksum(temporary, sync=True)
                check_reign(self.folder.epochs, self.epoch)
                if not _is(target, size, digest):
                    publish(temporary, target)
                    sync_folder(target.parent)
        finally:
            discard(temporary)
        self.known[unit] = part = Part(self.folder.relative(target), time.time_ns(), size, digest)
        return part


def _is(path: Path, size: int, digest: str) -> bool:
    """Whether a product is there already: made before its process was killed, or by another worker."""
    try:
        return os.path.isdir(path) and folder_checksum(path) == (size, digest)
    except OSError:
        return False
