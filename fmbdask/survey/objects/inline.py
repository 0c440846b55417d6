"""A search in one process: the stages of the survey pipeline one after the other, regions in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ...anomaly.threads import cores
from ...errors import InputError
from ...store.run.folder import RunFolder
from ...store.run.items import Item
from ..config import SurveyConfig
from ..pipelines.embeddings import EmbeddingPipeline, EmbeddingStage
from ..pipelines.protocol import Context
from ..planning.inputs import name_items

Report = Callable[[int, int, str], None]
#: What is being done with the objects, by the name of the stage.
WORDS = {"learn": "reading", "score": "scoring"}


@dataclass
class Made:
    """What a search made.

    Attributes
    ----------
    lists : Path
        Folder of the lists.
    models : Path, optional
        Folder of the models that were trained.
    notes : list of str
        What the user should know.
    """

    lists: Path
    models: Path | None = None
    notes: list[str] = field(default_factory=list)


def run_inline(
    config: SurveyConfig, folder: Path, *, threads: int | None = None, progress: Report | None = None
) -> Made:
    """Do all units of a search of stores.

    Parameters
    ----------
    config : SurveyConfig
        Of the embeddings pipeline; its inputs are stores.
    folder : Path
        Where products go, as in the folder of a run.
    threads : int, optional
        As many as there are cores by default; they change no bit.
    progress : callable, optional
        Called with (done, total, text).

    Raises
    ------
    InputError
        If a store cannot be used.
    """
    pipeline = EmbeddingPipeline(config)
    items = pipeline.items(config.inputs, 0)
    for item in items:
        if item.problem:
            raise InputError(item.problem)
    names = name_items([(item.path, "") for item in items], set())
    items = [replace(item, name=name) for item, name in zip(items, names, strict=True)]
    run, found = RunFolder(folder), Made(folder / "catalog")
    made: dict[str, dict[int, Path]] = {}
    whole: dict[str, Path] = {}
    count = threads or cores()
    with ThreadPoolExecutor(count) as pool:
        for stage in pipeline.stages:
            last = stage is pipeline.stages[-1]
            stage.progress = progress
            own: dict[int, Path] = {}
            for item in items:
                known = {name: paths[item.index] for name, paths in made.items()}
                context = Context(run, known | {f"{name}.run": path for name, path in whole.items()})
                own[item.index] = target = folder / stage.name / item.name
                target.mkdir(parents=True)
                results = _mapped(stage, item, context, pool, count, progress)
                stage.reduce(item, None, results, target, context)
                found.notes += notes_of(item, context.extra)
            made[stage.name] = own
            whole[stage.name] = target = found.lists if last else folder / f"{stage.name}.run"
            target.mkdir(parents=True, exist_ok=True)
            context = Context(run, {f"{name}.run": path for name, path in whole.items() if path != target})
            stage.reduce_run([(item, own[item.index]) for item in items], target, context)
            found.notes += context.extra.get("notes", [])
            if not last:
                found.models = target / "models"
    return found


class Plain(Context):
    """A context whose inputs need no checksum."""

    def saw(self, data: NDArray[Any]) -> None:
        """Count the bytes."""
        self.nbytes += data.nbytes


def notes_of(item: Item, extra: dict[str, Any]) -> list[str]:
    """What a unit said of a store in its record."""
    objects, name = item.shape[2], Path(item.path).name
    return [
        f"{count} of {objects} objects of {name} have no usable vector of {modality}: left out"
        for modality, count in extra.get("unusable", {}).items()
        if count
    ] + [f"{name}: {note}" for note in extra.get("notes", [])]


def _mapped(
    stage: EmbeddingStage,
    item: Item,
    context: Context,
    pool: ThreadPoolExecutor,
    ahead: int,
    progress: Report | None,
) -> Iterator[Any]:
    """Results of the regions of an item in their order; few wait that are not taken yet."""
    waiting: deque[Future[Any]] = deque()
    text = f"{WORDS.get(stage.name, 'reading again')} {Path(item.path).name}"
    taken = 0

    def next_result() -> Any:
        nonlocal taken
        found = waiting.popleft().result()
        taken += 1
        if progress is not None:
            progress(min(taken * item.edge, item.shape[2]), item.shape[2], text)
        return found

    for region in range(item.regions[0]):
        waiting.append(pool.submit(stage.map, item, region, None, Plain(context.folder, context.products)))
        if len(waiting) > ahead:
            yield next_result()
    while waiting:
        yield next_result()
