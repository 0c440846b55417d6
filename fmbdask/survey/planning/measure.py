"""The process that measures what units cost: questions come line by line as JSON, so do its answers."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...cluster.memory import bound_arenas
from ...errors import FmbdaskError
from ...store.run.folder import RunFolder
from ...store.run.items import Item
from ...store.run.parts import folder_checksum
from ..config import SurveyConfig
from ..pipelines import make
from ..pipelines.protocol import Context, Pipeline, Stage
from ..worker.guard import anonymous_memory, give_back

#: Time between two looks at the memory [s].
INTERVAL = 0.002
FEWEST_REGIONS = 2


class Meter:
    """Largest anonymous memory of this process since the last :meth:`begin`."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.peak = max(self.peak, anonymous_memory())

    def begin(self) -> None:
        """Forget the peak."""
        self.peak = anonymous_memory()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Append the time that something takes [s], without that in which other programs had the core."""
    begin, waited = time.perf_counter(), _waited()
    yield
    seconds.append(max(0.0, time.perf_counter() - begin - (_waited() - waited)))


def _waited() -> float:
    """Time for which this thread could have run but had no core [s]; 0 where the system does not tell.

    Source: Linux, Documentation/scheduler/sched-stats.rst, second field of /proc/<pid>/schedstat.
    """
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def spread(count: int) -> list[int]:
    """All regions, in an order whose beginnings are spread over the whole.

    Examples
    --------
    >>> spread(8)
    [0, 5, 2, 7, 4, 1, 6, 3]
    """
    step = max(1, round(count * 0.618))
    while np.gcd(step, count) != 1:
        step += 1
    return [(step * k) % count for k in range(count)]


class Measurer:
    """Measures items of one pipeline.

    Parameters
    ----------
    pipeline : Pipeline
    seconds : float
        Time for the regions of an item [s].
    """

    def __init__(self, pipeline: Pipeline, seconds: float) -> None:
        self.pipeline, self.seconds = pipeline, seconds
        self.meter = Meter()
        self.imports = 0
        self.tried = 0.0

    def warm(self, item: Item) -> None:
        """Make the process ready, and note what it takes before the work."""
        import distributed  # noqa: F401  (every worker has it)

        self.pipeline.warm()
        begin = time.perf_counter()
        with suppress(Exception):  # what is loaded at first use is no cost of the second
            self.measure(item, seconds=0.0)
        self.tried = time.perf_counter() - begin
        self.imports = give_back()

    def measure(self, item: Item, seconds: float | None = None) -> list[dict[str, Any]]:
        """Do a few regions of an item in every stage."""
        found = []
        products: dict[str, Path] = {}
        with tempfile.TemporaryDirectory() as scratch:
            folder = RunFolder(Path(scratch))
            for number, stage in enumerate(self.pipeline.stages):
                target = Path(scratch) / f"product-{number}"
                if not item.regions[number]:
                    continue
                budget = self.seconds if seconds is None else seconds
                found.append(self._stage(number, stage, item, folder, products, target, budget))
                whole = target
                if hasattr(stage, "rehearse"):
                    whole = Path(scratch) / f"run-{number}"
                    whole.mkdir()
                    stage.rehearse([(item, target)], whole, Context(folder, products))
                products |= {stage.name: target, f"{stage.name}.run": whole}
        return found

    def _stage(
        self,
        number: int,
        stage: Stage,
        item: Item,
        folder: RunFolder,
        products: Mapping[str, Path],
        target: Path,
        budget: float,
    ) -> dict[str, Any]:
        give_back()
        self.meter.begin()
        prepare: list[float] = []
        with timed(prepare):
            prepared = stage.prepare(item, Context(folder, products))
        regions: list[float] = []
        sizes: list[int] = []
        count = item.regions[number]
        with tempfile.TemporaryFile() as parts:
            for region in spread(count):
                with timed(regions):
                    result = stage.map(item, region, prepared, Context(folder, products))
                    sizes.append(_append(parts, result))
                if sum(regions) > budget and len(regions) >= FEWEST_REGIONS:
                    break
            work = _Reduction(stage, item, prepared, parts, len(sizes), Context(folder, products), target)
            reduce = work.measure(count, budget)
        whole = len(regions) == count
        files = [p for p in target.rglob("*") if p.is_file()]
        return {
            "stage": number,
            "nbytes": item.nbytes,
            "pixels": max(1, int(np.prod(item.shape)) // item.shape[-3]) if len(item.shape) >= 3 else 1,
            "regions": count,
            "prepare": prepare[0],
            "region": float(np.mean(regions)),
            "reduce": reduce,
            "memory": max(0, self.meter.peak - self.imports),
            "part": int(np.mean(sizes)),
            "measured": len(regions),
            "nbytes_out": sum(p.stat().st_size for p in files) if whole else 0,
            "files": len(files),
        }


@dataclass
class _Reduction:
    """The reduction of an item, of which a few regions were done.

    Attributes
    ----------
    stage, item, prepared
    parts : file
        Results of the regions, pickled one after the other.
    done : int
        How many.
    context : Context
    target : Path
        Gets the product of all of these.
    """

    stage: Stage
    item: Item
    prepared: Any
    parts: IO[bytes]
    done: int
    context: Context
    target: Path

    def measure(self, count: int, budget: float) -> float:
        """Time that it takes with ``count`` regions [s]; ``budget`` is for what takes long [s].

        The reduction of few regions says what each adds, that of none what all share. What takes long for
        every region is measured apart, on as many as the budget allows.
        """
        light = getattr(self.stage, "light", None)
        counts = [self.done] if self.done == count else [self.done // 2, self.done]
        stage = self.stage if light is None else light
        seconds = [self._once(stage, n, kept=light is None and n == counts[-1]) for n in counts]
        found = seconds[-1]
        if len(counts) == 2:
            each = max(0.0, (seconds[1] - seconds[0]) / max(1, counts[1] - counts[0]))
            found += each * (count - self.done)
        if light is None:
            return found
        heavy = count * self._heavy(light, budget)
        whole = self.done == count and heavy <= budget  # no need to guess
        seconds = [self._once(self.stage if whole else light, self.done, kept=True)]
        return seconds[0] if whole else found + heavy

    def _heavy(self, light: Any, budget: float) -> float:
        """Time that what takes long adds for a region [s]."""
        full: Any = self.stage
        added: list[float] = []
        spent: list[float] = []
        for result in self._results(self.done):
            with timed(spent):
                light.finish_region(self.item, self.prepared, result)
            with timed(spent):
                filling = full.finish_region(self.item, self.prepared, result)
            added.append(max(0.0, spent[-1] - spent[-2] - filling))
            if sum(spent) + sum(spent[-2:]) > budget:
                break
        return float(np.mean(added))

    def _once(self, stage: Stage, count: int, *, kept: bool) -> float:
        """Reduce so many regions [s]."""
        own = self.target if kept else self.target.with_name(f"{self.target.name}-some")
        own.mkdir()
        seconds: list[float] = []
        with timed(seconds):
            stage.reduce(self.item, self.prepared, self._results(count), own, self.context)
            folder_checksum(own, sync=True)  # as a product is before it gets its name
        if not kept:
            shutil.rmtree(own)
        return seconds[0]

    def _results(self, count: int) -> Iterator[Any]:
        self.parts.seek(0)
        for _ in range(count):
            yield pickle.load(self.parts)


def _append(parts: IO[bytes], value: Any) -> int:
    content = pickle.dumps(value, protocol=5)
    parts.write(content)
    return len(content)


def here(config: SurveyConfig) -> tuple[SurveyConfig, list[str]]:
    """What can be measured of a configuration where there may be no GPU, and what to know of that."""
    notes = []
    if config.device == "gpu":
        config = config.model_copy(update={"device": "auto"})
    if config.detection.model is not None and config.detection.model_device == "cuda":
        from ...models import need
        from ...models.inference import device_of

        need("networks", "torch")
        if device_of("auto").type != "cuda":
            notes.append("the network was measured on a processor, for want of a GPU: on one it is faster")
        detection = config.detection.model_copy(update={"model_device": "auto"})
        config = config.model_copy(update={"detection": detection})
    return config, notes


def main() -> None:
    """Answer questions until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    bound_arenas()
    measurer: Measurer | None = None
    for line in sys.stdin:
        question = json.loads(line)
        answer: dict[str, Any] = {}
        refused = "refused" if measurer is None else "problem"
        try:
            if measurer is None:
                config, notes = here(SurveyConfig.model_validate(question["config"]))
                measurer = Measurer(make(config), question["seconds"])
            if "warm" in question:
                refused = "refused"
                measurer.warm(_item(question["warm"]))
                answer |= {"imports": measurer.imports, "tried": measurer.tried, "notes": notes}
            else:
                answer["samples"] = measurer.measure(_item(question["item"]))
        except FmbdaskError as error:
            answer[refused] = str(error)
        except Exception as error:
            answer["problem"] = f"{type(error).__name__}: {error}"
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _item(fields: Mapping[str, Any]) -> Item:
    return Item(**{**fields, "shape": tuple(fields["shape"]), "regions": tuple(fields["regions"])})


if __name__ == "__main__":
    main()
