"""What the units of a run cost, measured on a few regions of a few inputs in a process of its own.

A fresh process shows how much anonymous memory the work takes above the imports, and survives what an input
may do to it. It runs where the plan is made: a faster node needs less.
"""

from __future__ import annotations

import json
import os
import platform
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ConfigError
from ...store.catalog import versions
from ...store.run.items import Item, ItemTable
from ...store.run.suffixes import suffix_of
from ..config import SurveyConfig
from ..running.schedule import Costs

Report = Callable[[int, int, str], None]
#: Most kinds of inputs (by type and shape) that are measured.
MOST_KINDS = 6
#: Longest time that an answer of the process is waited for [s]: longer than any compilation.
PATIENCE = 300.0
#: What was measured of memory is multiplied by this: inputs differ.
MARGIN = 1.1


@dataclass(frozen=True)
class Sample:
    """What one input cost in one stage.

    Attributes
    ----------
    stage : int
    kind : str
        Suffix and type of the values, see :func:`kind_of`.
    nbytes, pixels, regions : int
        Size of the input, pixels of all its integrations, and its number of regions.
    prepare, region, reduce : float
        Time of the units [s]; a region is one of average size.
    memory : int
        Largest anonymous memory above the imports [byte].
    part : int
        Bytes that a region hands to the reduction.
    measured : int
        Regions that were measured.
    nbytes_out, files : int
        Size of the product and its number of files; 0 bytes where not all regions were measured.
    """

    stage: int
    kind: str
    nbytes: int
    pixels: int
    regions: int
    prepare: float
    region: float
    reduce: float
    memory: int
    part: int
    measured: int
    nbytes_out: int
    files: int


@dataclass(frozen=True)
class Calibration:
    """What was measured, where, with which versions, how long a process takes until it can work [s], and what
    to know of that."""

    samples: tuple[Sample, ...] = ()
    imports: int = 0
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    start: float = 0.0
    notes: tuple[str, ...] = ()

    def costs(self, stage: int, item: Item) -> Costs:
        """Expected time of the units of an item [s].

        Time per byte is interpolated between the sizes that were measured of this kind of input; other kinds
        are taken where there are none. The time of `prepare` follows the size less than proportionally, so
        it is interpolated as it is.
        """
        near = self._near(stage, item)
        regions = item.regions[stage]
        if not near or not regions:
            return Costs(0.0, 0.0, 0.0)
        size = max(item.nbytes, 1)
        per_byte = _between(near, size, lambda s: s.region * s.regions / s.nbytes)
        reduce = _between(near, size, lambda s: s.reduce / s.pixels) * _pixels(item)
        return Costs(_grown(near, size, lambda s: s.prepare), per_byte * size / regions, reduce)

    def seconds(self, item: Item) -> float:
        """Expected time of an item in one thread [s]."""
        return sum(self.costs(stage, item).whole(n) for stage, n in enumerate(item.regions) if n)

    def memory(self, item: Item) -> int:
        """Anonymous memory of an item's largest unit, with a margin [byte]; 0 where nothing was measured."""
        found = 0.0
        for stage in range(len(item.regions)):
            near = self._near(stage, item)
            if near:
                found = max(found, _grown(near, max(item.nbytes, 1), lambda s: float(s.memory)))
        return int(MARGIN * found)

    def part_bytes(self, item: Item) -> int:
        """Bytes that the regions of an item hand to its reductions."""
        found = 0.0
        for stage, regions in enumerate(item.regions):
            near = self._near(stage, item)
            if near:
                found += _between(near, max(item.nbytes, 1), lambda s: s.part * s.regions / s.pixels) * (
                    _pixels(item) if regions else 0
                )
        return int(found)

    def out(self, item: Item) -> tuple[float, float]:
        """Bytes of the products of an item (0 where that is not known), and number of files."""
        nbytes = files = 0.0
        for stage, regions in enumerate(item.regions):
            near = self._near(stage, item) if regions else []
            whole = [s for s in near if s.nbytes_out]
            if whole:
                nbytes += _between(whole, item.nbytes, lambda s: s.nbytes_out / s.pixels) * _pixels(item)
            if near:
                files += _between(near, item.nbytes, lambda s: s.files)
        return nbytes, files

    def _near(self, stage: int, item: Item) -> list[Sample]:
        """Samples of the same kind, smallest first; of any kind where there are none."""
        of_stage = [s for s in self.samples if s.stage == stage]
        same = [s for s in of_stage if s.kind == kind_of(item)] or of_stage
        return sorted(same, key=lambda s: s.nbytes)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Calibration:
        """Inverse of :meth:`as_json`.

        Raises
        ------
        TypeError, KeyError
            If the values are no calibration.
        """
        samples = tuple(Sample(**s) for s in values["samples"])
        words = {name: tuple(values.get(name, ())) for name in ("problems", "notes")}
        return Calibration(**{**values, "samples": samples, **words})


def _between(samples: Sequence[Sample], nbytes: int, value: Callable[[Sample], float]) -> float:
    """Interpolate a value over the logarithm of the size; beyond the samples the nearest holds."""
    sizes, values = _means(samples, value)
    return float(np.interp(np.log(max(nbytes, 1)), np.log(sizes), values))


def _grown(samples: Sequence[Sample], nbytes: int, value: Callable[[Sample], float]) -> float:
    """Interpolate a value that grows with the size; above the samples it grows in proportion."""
    sizes, values = _means(samples, value)
    found = float(np.interp(nbytes, sizes, values))
    return found * max(1.0, nbytes / sizes[-1])


def _means(samples: Sequence[Sample], value: Callable[[Sample], float]) -> tuple[list[float], list[float]]:
    """Sizes that were measured, and the mean of a value at each."""
    groups: dict[int, list[float]] = {}
    for s in samples:
        groups.setdefault(max(s.nbytes, 1), []).append(value(s))
    sizes = sorted(groups)
    return [float(n) for n in sizes], [float(np.mean(groups[n])) for n in sizes]


def _pixels(item: Item) -> int:
    return int(np.prod(item.shape)) // (item.shape[-3] if len(item.shape) >= 3 else 1) if item.shape else 1


def kind_of(item: Item) -> str:
    """What the time per byte depends on beside the size: how it is stored, and the type of the values."""
    return f"{suffix_of(item.path)} {item.dtype} {len(item.shape)}"


def choose(items: Iterable[Item]) -> list[Item]:
    """Choose what is measured: of each kind the smallest, the largest and the most common size, twice each
    where there are so many, from the first and the middle of the inputs."""
    table = ItemTable.of(items)
    sound = table.sound
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for code, kind in enumerate(table.kinds):
        if kind.units:
            groups.setdefault((kind_of(kind), kind.shape), []).append(code)
    places = {key: np.flatnonzero(sound & np.isin(table.code, codes)) for key, codes in groups.items()}
    nbytes = {key: table.kinds[codes[0]].nbytes for key, codes in groups.items()}
    by_kind: dict[str, list[tuple[int, ...]]] = {}
    for name, shape in groups:
        if places[name, shape].size:
            by_kind.setdefault(name, []).append(shape)

    def weight(name: str, shape: tuple[int, ...]) -> int:
        return places[name, shape].size * nbytes[name, shape]

    chosen: list[tuple[str, tuple[int, ...]]] = []
    for name, shapes in by_kind.items():
        shapes.sort(key=lambda shape: nbytes[name, shape])
        common = max(shapes, key=lambda shape: weight(name, shape))
        chosen += [(name, shape) for shape in dict.fromkeys((common, shapes[-1], shapes[0]))]
    chosen.sort(key=lambda key: -weight(*key))
    found = []
    for key in chosen[:MOST_KINDS]:
        mine = places[key].tolist()
        found.append(table[mine[0]])
        if len(mine) > 2:
            found.append(table[mine[len(mine) // 2]])
    return found


def calibrate(
    config: SurveyConfig,
    items: Sequence[Item],
    *,
    seconds: float = 4.0,
    side: int = 1,
    progress: Report | None = None,
) -> Calibration:
    """Measure what the units of a run cost.

    Parameters
    ----------
    config : SurveyConfig
    items : sequence of Item
    seconds : float
        Time for the regions of one input [s]: at least two, and all of those that fit.
    side : int
        Processes that measure side by side, each all that is chosen: as many as will work side by side on a
        machine, since cores that share memory and clock slow each other down.
    progress : callable, optional

    Returns
    -------
    Calibration
        Without samples where nothing could be measured; ``problems`` says why.
    """
    chosen = choose(items)
    machine = {"host": platform.node(), "cpu": _cpu(), "cores": os.cpu_count() or 1, "side": side}
    lock = threading.Lock()
    done = 0

    def tell() -> None:
        nonlocal done
        with lock:
            if progress is not None:
                progress(done, side * len(chosen), "measuring a few regions")
            done += 1

    if not chosen:
        return Calibration((), 0, machine, versions())
    with ThreadPoolExecutor(side) as pool:
        orders = [chosen[n % len(chosen) :] + chosen[: n % len(chosen)] for n in range(side)]
        parts = list(pool.map(lambda order: _measure(config, order, seconds, tell), orders))
    starts = [start for part in parts for start in part.starts]
    return Calibration(
        tuple(sample for part in parts for sample in part.samples),
        max(part.imports for part in parts),
        machine,
        versions(),
        tuple(dict.fromkeys(problem for part in parts for problem in part.problems)),
        float(np.mean(starts)) if starts else 0.0,
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


@dataclass
class _Part:
    """What one process after the other measured."""

    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    imports: int = 0


def _measure(config: SurveyConfig, chosen: Sequence[Item], seconds: float, tell: Callable[[], None]) -> _Part:
    """Measure inputs in a process, and in another one when that ends."""
    found = _Part()
    waiting = list(chosen)
    while waiting:
        begin = time.perf_counter()
        with _Child(config, seconds) as child:
            try:
                answer = child.ask({"warm": asdict(waiting[-1])})
                found.starts.append(max(0.0, time.perf_counter() - begin - answer["tried"]))
                found.imports = max(found.imports, int(answer["imports"]))
                found.notes += answer["notes"]
                while waiting:
                    tell()
                    item = waiting.pop(0)
                    answer = child.ask({"item": asdict(item)})
                    found.samples += [Sample(**s, kind=kind_of(item)) for s in answer.get("samples", [])]
                    if "problem" in answer:
                        found.problems.append(f"{item.path}: {answer['problem']}")
            except _GoneError as error:
                if not found.samples and len(waiting) == len(chosen):  # nothing works
                    waiting.clear()
                found.problems.append(str(error))
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


class _GoneError(Exception):
    """The process that measures ended, or does not answer."""


class _Child:
    """The process that measures, and answers line by line."""

    def __init__(self, config: SurveyConfig, seconds: float) -> None:
        self._setup = {"config": config.as_json(), "seconds": seconds}

    def __enter__(self) -> _Child:
        command = [sys.executable, "-m", "fmbdask.survey.planning.measure"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        return self

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Send a question and wait for its answer."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(self._setup | dict(question)).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            raise _GoneError(self._why()) from None
        self._setup = {}
        end = time.monotonic() + PATIENCE
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise _GoneError(f"an input gave nothing to measure within {PATIENCE:.0f} s")
            piece = os.read(process.stdout.fileno(), 65536)
            if not piece:
                raise _GoneError(self._why())
            line += piece
        answer: dict[str, Any] = json.loads(line)
        if "refused" in answer:
            raise ConfigError(answer["refused"])
        return answer

    def _why(self) -> str:
        process = self._process
        process.wait()
        said = process.stderr.read().decode(errors="replace").split("\n") if process.stderr else []
        last = next((line for line in reversed(said) if line.strip()), "no message")
        return f"the process that measures ended with status {process.returncode}: {last.strip()}"

    def __exit__(self, *unused: object) -> None:
        process = self._process
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
