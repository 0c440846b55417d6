"""Anomalous objects of embedding stores: summarise spans, learn from all of them, score spans, rank all.

Regions are spans of objects; the reductions of the run train the detectors and write the lists. Results are
those of the detectors' own ``fit`` and ``score``, bit by bit, for any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...anomaly.protocol import Report
from ...anomaly.summary import (
    Summary,
    piece_of,
    sample_limit,
    sample_share,
    span_of,
    summarise,
)
from ...errors import FmbdaskError, InputError
from ...store.embeddings.opening import Store
from ...store.run.items import Item
from ..config import SurveyConfig
from ..objects.detecting import SearchConfig, given, missing, notes_of, search_of, warm
from ..objects.ensembles import with_members
from ..objects.learning import learn, merge_all, rehearsal, relearn, reweighed
from ..objects.models import load_models, save_models
from ..objects.scored import NAME as SCORES
from ..objects.scored import gather, scores_of, write_scores
from ..objects.stores import (
    ROWS,
    Known,
    columns_of,
    described,
    disagreement,
    ids_of,
    opened,
    rows_at,
    rows_of,
)
from ..objects.summaries import merge_into, merged, read_summary, write_summary
from ..objects.writing import write_lists
from .describing import contents
from .protocol import Context, Memory

#: Folders in the product of the run of a learning stage.
MODELS, SUMMARY = "models", "summary"
#: Memory of a unit beside arrays [byte].
BASE = 64 * 2**20
#: Where the first stage puts its summaries, and what later ones are called.
LEARN, REWEIGH, SCORE = "learn", "reweigh", "score"


class EmbeddingPipeline:
    """Learning and scoring, two stages or more; a :class:`~fmbdask.survey.pipelines.protocol.Pipeline`.

    Parameters
    ----------
    config : SurveyConfig
        Its ``options`` are the fields of :class:`~fmbdask.survey.objects.detecting.SearchConfig`.

    Raises
    ------
    ConfigError
        If the options cannot be used.
    """

    name = "embeddings"

    def __init__(self, config: SurveyConfig) -> None:
        self.search = search = search_of(config.options)
        learning: list[LearnStage] = []
        if search.learns:
            learning = [LearnStage(search), *(ReweighStage(search, n) for n in range(search.reweights))]
        self.stages: tuple[EmbeddingStage, ...] = (
            *learning,
            ScoreStage(search, learning[-1].name if learning else None),
        )

    def items(self, paths: Sequence[str], first: int) -> list[Item]:
        """Describe stores from their metadata."""
        return [self._item(path, index) for index, path in enumerate(paths, first)]

    def _item(self, path: str, index: int) -> Item:
        item = Item(index, "", path)
        try:
            store = opened(path)
            kept = described(store)
            self.search.check(store, kept)
        except (FmbdaskError, OSError) as error:
            return replace(item, problem=" ".join(str(error).split()))
        return self.shaped(item, (store.objects, sum(k.width for k in kept.values())), "float32")

    def shaped(self, item: Item, shape: Sequence[int], dtype: str) -> Item:
        """Complete an item of so many objects and features."""
        objects, features = shape[-2:]
        span = span_of(objects)
        return replace(
            item, shape=(1, 1, objects, features), dtype=dtype, edge=span,
            regions=(-(-objects // span),) * len(self.stages), nbytes=objects * features * 4,
            nbytes_out=objects * BYTES_OUT,
        )  # fmt: skip

    def disagreement(self, paths: Sequence[str]) -> str:
        """Why stores cannot be learned from together; empty if they can."""
        return disagreement({path: self.search.chosen(described(opened(path)), path) for path in paths})

    def fingerprint(self) -> Mapping[str, Any]:
        """What the results depend on beside the inputs."""
        named = [] if self.search.models is None else [self.search.models]
        return {"pipeline": self.name, "options": self.search.model_dump(), "contents": contents(named)}

    def warm(self) -> None:
        """Load what detectors are made of."""
        warm(self.search)


#: Bytes that an object takes in the products: scores and their p-values, in two formats.
BYTES_OUT = 400


class EmbeddingStage:
    """What the stages have in common."""

    resources: Mapping[str, float] = {}

    def __init__(self, search: SearchConfig, name: str) -> None:
        self.search, self.name = search, name
        self.known = search.known
        self.progress: Report | None = None

    def prepare(self, item: Item, context: Context) -> None:
        """Nothing is shared."""

    def memory(self, item: Item) -> Memory:
        """Bound the memory of its units."""
        raise NotImplementedError

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> Any:
        """Work on a span."""
        raise NotImplementedError

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Put the results of all spans of a store together."""
        raise NotImplementedError

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """Put those of all stores together."""
        raise NotImplementedError

    def opened(self, item: Item) -> tuple[Store, dict[str, Any]]:
        """The store of an item and those of its modalities that are wanted."""
        store = opened(item.path)
        return store, self.search.chosen(described(store))

    def pieces(self, item: Item, region: int, rows: int, context: Context) -> Iterator[Any]:
        """Read the objects of a region, so many at a time."""
        store, kept = self.opened(item)
        start, stop = span(item, region)
        with context.reading():
            columns = columns_of(store, start, stop, list(kept), self.known)
        for begin in range(start, stop, rows):
            with context.reading():
                found = rows_of(store, columns, begin, min(begin + rows, stop))
            for vectors in found.vectors.values():
                context.saw(vectors)
            yield found
            del found


class LearnStage(EmbeddingStage):
    """Moments of all objects and a sample of them, which the detectors learn from."""

    def __init__(self, search: SearchConfig, name: str = LEARN) -> None:
        super().__init__(search, name)

    def memory(self, item: Item) -> Memory:
        """Sums of each fold in float64, pieces of the store, the sample; also as they are kept."""
        widths = self._widths(item)
        objects = item.shape[2]
        own = sample_share(objects, widths) * min(item.edge, objects) * 4 * sum(widths.values())
        sums = self.search.folds * 8 * sum(w * w for w in widths.values())
        pieces = 3 * 4 * piece_of(widths) * sum(widths.values())
        region = BASE + pieces + round(3 * own) + 3 * sums
        learning = 4 * sums + self.search.memory_to_learn(widths)
        return Memory(BASE, region, BASE + max(round(2 * own) + 4 * sums, learning))

    def _widths(self, item: Item) -> dict[str, int]:
        """Features of each modality; without the store, as if there were one."""
        try:
            return {m: k.width for m, k in self.opened(item)[1].items()}
        except (FmbdaskError, OSError):
            return {"all": item.shape[3]}

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> Summary:
        """Summarise a span."""
        _, kept = self.opened(item)
        widths = {m: k.width for m, k in kept.items()}
        share = sample_share(item.shape[2], widths)
        if self.search.moments:
            pieces = self.pieces(item, region, piece_of(widths), context)
            return summarise(pieces, self.search.folds, share=share)
        store, (start, stop) = opened(item.path), span(item, region)  # the sample is enough
        with context.reading():
            # a few more than the sample takes, which is cut from them
            below = np.uint64(min(1.001 * share, 1.0) * (2**64 - 1025))
            rows, absent = rows_at(store, start, stop, below, list(kept), self.known)
        for vectors in rows.vectors.values():
            context.saw(vectors)
        found = summarise(rows, self.search.folds, share=share, moments=False)
        return replace(found, objects=stop - start, unusable=absent)

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Put the summaries of all spans together."""
        _, kept = self.opened(item)
        limit = sample_limit(item.shape[2], {m: k.width for m, k in kept.items()})
        summary = merge_into(target, results, limit)
        context.extra["unusable"] = dict(summary.unusable)

    def seconds_of_run(self, items: Sequence[Item]) -> float:
        """What training takes [s]."""
        return self.search.seconds_to_learn(len(items))

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """Train the detectors."""
        self._learn(products, target, context)

    def rehearse(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """Train them quickly."""
        self._learn(products, target, context, quickly=True)

    def _learn(
        self,
        products: Sequence[tuple[Item, Path]],
        target: Path,
        context: Context,
        *,
        quickly: bool = False,
    ) -> None:
        kept = self._agreed([item for item, _ in products])
        summary = merged([folder for _, folder in products])
        detectors = missing(self.search, kept)
        if quickly:
            summary = rehearsal(summary, detectors)
        learn(detectors, summary, kept, self.known, self.progress)
        context.extra["notes"] = notes_of(detectors)
        if self.search.reweights:
            (target / SUMMARY).mkdir()
            write_summary(target / SUMMARY, summary)
        save_models(detectors, target / MODELS)

    def _agreed(self, items: Sequence[Item]) -> dict[str, Any]:
        """Modalities of stores that can be learned from together."""
        if not items:
            raise InputError("no store could be read: correct the inputs")
        stores = {item.path: self.opened(item)[1] for item in items}
        why = disagreement(stores)
        if why:
            raise InputError(f"{why}: give those that agree a survey of their own")
        return next(iter(stores.values()))


class ReweighStage(LearnStage):
    """Moments once more, without the objects that turned out anomalous."""

    def __init__(self, search: SearchConfig, number: int) -> None:
        super().__init__(search, f"{REWEIGH}{number + 1}")
        self.number = number
        self.before = LEARN if number == 0 else f"{REWEIGH}{number}"

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> Any:
        """Moments of a span for each detector that asks for it."""
        detectors = load_models(context.products[f"{self.before}.run"] / MODELS)
        _, kept = self.opened(item)
        pieces = self.pieces(item, region, piece_of({m: k.width for m, k in kept.items()}), context)
        return reweighed(detectors, pieces, self.search.folds, self.number)

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Put the moments of all spans together, for each detector."""
        for name, summary in merge_all(results).items():
            (target / name).mkdir()
            write_summary(target / name, summary)

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """Fit the detectors once more."""
        before = context.products[f"{self.before}.run"]
        detectors = dict(load_models(before / MODELS, fresh=True))
        summary = read_summary(context.products[f"{LEARN}.run"] / SUMMARY)
        names = sorted(p.name for p in products[0][1].iterdir()) if products else []
        moments = {name: merged([folder / name for _, folder in products]).moments for name in names}
        relearn(detectors, summary, moments)
        save_models(detectors, target / MODELS)

    def rehearse(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """Fit them once more."""
        self.reduce_run(products, target, context)


class ScoreStage(EmbeddingStage):
    """Scores of all objects, and the lists of the run."""

    def __init__(self, search: SearchConfig, before: str | None) -> None:
        super().__init__(search, SCORE)
        self.before = before
        self.known = Known(self.known.group)  # what is scored needs no labels

    def memory(self, item: Item) -> Memory:
        """A piece of the store, what models make of it, the models, and the ranks."""
        objects, features = item.shape[2:]
        piece = 4 * min(ROWS, objects) * features
        models = self.search.memory_of_models(features)
        scores = 16 * min(item.edge, objects) * MOST_DETECTORS
        return Memory(BASE, BASE + 8 * piece + models + scores, BASE + models + RANKING + 2 * scores)

    def detectors(self, item: Item, context: Context) -> Mapping[str, Any]:
        """The models of the run, given and trained, opened once a process."""
        found = dict(given(self.search, self.opened(item)[1], item.path))
        if self.before is not None:
            found |= load_models(context.products[f"{self.before}.run"] / MODELS, empty=True)
        return with_members(found) if self.search.find == "ensemble" else found

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> tuple[int, dict[str, Any]]:
        """Score a span, and say which it is."""
        return region, scores_of(self.detectors(item, context), self.pieces(item, region, ROWS, context))

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Write the scores of a store."""
        store, _ = self.opened(item)
        spans = ((ids_of(store, *span(item, region)), scores) for region, scores in results)
        with context.writing():
            context.extra["unscored"] = write_scores(target / SCORES, spans, self.detectors(item, context))

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """Rank, and write the lists."""
        if not products:
            raise InputError("no store could be scored: see why each failed")
        models = self.detectors(products[0][0], context)
        with TemporaryDirectory(dir=target) as scratch:
            _, notes = write_lists(
                self.search, models, [(item.name, opened(item.path)) for item, _ in products],
                gather([folder / SCORES for _, folder in products], Path(scratch)), target, Path(scratch),
            )  # fmt: skip
        context.extra["notes"] = notes


#: Detectors whose scores of a span are in memory, and what ranking takes beside the models [byte].
MOST_DETECTORS, RANKING = 12, 512 * 2**20


def span(item: Item, region: int) -> tuple[int, int]:
    """First object of a region, and the one after its last."""
    return region * item.edge, min((region + 1) * item.edge, item.shape[2])
