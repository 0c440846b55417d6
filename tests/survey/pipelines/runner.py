"""A run without workers: every unit in this process, its results pickled as they are between processes."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from pathlib import Path

from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.items import Item
from fmbdask.survey.pipelines.protocol import Context, Pipeline


def run_all(pipeline: Pipeline, items: Sequence[Item], folder: Path, *, seed: int = 0) -> list[Context]:
    """Do all units of items without a problem, regions in an order of their own; returns their contexts."""
    run = RunFolder(folder)
    run.make()
    order = random.Random(seed)
    several = len(pipeline.stages) > 1
    good = [item for item in items if not item.problem]
    made: dict[str, dict[int, Path]] = {}
    whole: dict[str, Path] = {}
    contexts = []
    for number, stage in enumerate(pipeline.stages):
        made[stage.name] = {}

        def context(item: Item) -> Context:
            products = {name: paths[item.index] for name, paths in made.items() if item.index in paths}
            contexts.append(Context(run, products | {f"{name}.run": path for name, path in whole.items()}))
            return contexts[-1]

        for item in good:
            prepared = pickle.dumps(stage.prepare(item, context(item)))
            regions = list(range(item.regions[number]))
            order.shuffle(regions)
            parts = {
                r: pickle.dumps(stage.map(item, r, pickle.loads(prepared), context(item))) for r in regions
            }
            target = run.products / stage.name / item.name if several else run.products / item.name
            target.mkdir(parents=True)
            results = (pickle.loads(parts[r]) for r in sorted(parts))
            stage.reduce(item, pickle.loads(prepared), results, target, context(item))
            made[stage.name][item.index] = target
        last = number == len(pipeline.stages) - 1
        target = run.catalog if last else run.products / f"{stage.name}.run"
        target.mkdir(exist_ok=True)
        earlier = {f"{name}.run": path for name, path in whole.items()}
        stage.reduce_run([(i, made[stage.name][i.index]) for i in good], target, Context(run, earlier))
        whole[stage.name] = target
    return contexts
