"""A small pipeline of two stages and a run made by hand, for tests of workers and their processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fmbdask.store.run.epochs import Reign, acquire
from fmbdask.store.run.folder import LAYOUT, RunFolder, write_json
from fmbdask.store.run.items import Item
from fmbdask.store.run.units import PREPARE, REDUCE, WHOLE_RUN, Part, Unit
from fmbdask.survey.pipelines.protocol import Context, Memory
from fmbdask.survey.worker import loading
from fmbdask.survey.worker.task import Task

#: Called with (item, region) before a region is worked on: what a test wants to happen there.
Hook = Callable[[Item, int], None]


def nothing(item: Item, region: int) -> None:
    """Let it be."""


@dataclass
class SmallStage:
    """Squares numbers: region r of item i holds ``size`` times 1000 i + r, plus what was prepared."""

    name: str = "squares"
    size: int = 8
    hook: Hook = nothing
    resources: Mapping[str, float] = field(default_factory=dict)

    def memory(self, item: Item) -> Memory:
        return Memory(0, 8 * self.size, 8 * self.size)

    def prepare(self, item: Item, context: Context) -> Any:
        self.hook(item, PREPARE)
        return {"index": item.index, "earlier": {n: numbers(p) for n, p in context.products.items()}}

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> Any:
        self.hook(item, region)
        data = np.full(self.size, 1000 * item.index + region, np.int64)
        context.saw(data)
        context.extra["events"] = np.int64(region)
        return data**2

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        self.hook(item, REDUCE)
        total = [int(result.sum()) for result in results]
        (target / "maps").mkdir()
        (target / "maps" / "map.bin").write_bytes(bytes(range(256)) * 16)
        (target / "numbers.json").write_text(json.dumps({"total": total, **prepared}))

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        rows = {item.name: numbers(path) for item, path in products}
        (target / "numbers.json").write_text(json.dumps(rows))


def numbers(path: Path) -> Any:
    """What a product of this pipeline holds."""
    return json.loads((path / "numbers.json").read_text())


@dataclass
class SmallPipeline:
    """One stage, or two of which the second reads the products of the first."""

    stages: Sequence[SmallStage] = field(default_factory=lambda: [SmallStage()])
    name: str = "small"

    def items(self, paths: Sequence[str], first: int) -> list[Item]:
        return [Item(first + i, Path(p).stem, p) for i, p in enumerate(paths)]

    def fingerprint(self) -> Mapping[str, Any]:
        return {"name": self.name}

    def warm(self) -> None:
        pass


class SmallRun:
    """A run whose pipeline is handed to the workers of this process."""

    def __init__(
        self, path: Path, pipeline: SmallPipeline | None = None, items: int = 1, regions: int = 4
    ) -> None:
        self.pipeline = pipeline or SmallPipeline()
        self.folder = RunFolder(path)
        self.folder.make()
        write_json(
            self.folder.run_file,
            {"layout": LAYOUT, "name": "small", "pipeline": "small", "fingerprint": {"name": "small"}},
        )
        per_stage = (regions,) * len(self.pipeline.stages)
        self.items = {i: Item(i, f"item{i}", f"input{i}", regions=per_stage) for i in range(items)}
        self.reign: Reign = acquire(self.folder.epochs)
        self.known: dict[Unit, Part] = {}
        self.number = 0

    def units(self, item: int = 0, stage: int = 0) -> list[Unit]:
        """All units of an item in order."""
        regions = range(self.items[item].regions[stage])
        return [Unit(stage, item, r) for r in (PREPARE, *regions, REDUCE)]

    def whole(self, stage: int = 0) -> list[Unit]:
        """The reduction of the run."""
        return [Unit(stage, WHOLE_RUN, REDUCE)]

    def task(self, units: Sequence[Unit], **fields: Any) -> Task:
        """A task of this reign that knows all parts that are known."""
        self.number += 1
        given = {"items": self.items, "known": dict(self.known), "epoch": self.reign.epoch} | fields
        return Task(self.number, run=str(self.folder.path), units=tuple(units), **given)


def install(pipeline: SmallPipeline) -> None:
    """Let this process load this pipeline, whatever the run says."""
    from fmbdask.survey import pipelines

    loading._pipelines.clear()
    pipelines.load = lambda name, run: pipeline
