"""Work that is made up, of a length that is known: it shows what a survey costs beside its science.

An input is a small file, ``{"regions": 16}``; what each region does is said by the options of the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import ConfigError, InputError
from ...store.run.items import Item
from ..config import SurveyConfig
from .protocol import Context, Memory

Kind = Literal["sleep", "compute", "memory", "io"]
#: Bytes that one pass of a kind of work goes over: within a core's cache, beyond any cache, of a file.
BLOCKS: Mapping[str, int] = {"sleep": 0, "compute": 2**18, "memory": 2**26, "io": 2**23}
#: Memory of a unit beside its arrays [byte].
BASE = 16 * 2**20

_own = threading.local()


class Work(BaseModel):
    """What a region does: the options of a run of this pipeline."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Kind = Field("sleep", description="sleep, compute, memory or io")
    seconds: float = Field(1.0, ge=0, description="what a region is meant to take; sleep takes as long [s]")
    passes: int = Field(1, ge=1, description="how often a region goes over its block; nothing to sleep")


def do(work: Work, context: Context) -> None:
    """Do the work of one region.

    ``sleep`` waits. ``compute`` takes SHA-256 sums of a block that stays in the cache, which is arithmetic
    without the lock of the interpreter. ``memory`` copies one array of 64 MiB to another. ``io`` writes a
    block of 8 MiB to a file in the folder of the run, forces it to the disk, asks the system to forget it,
    and reads it back.

    Raises
    ------
    InputError
        If other bytes come back from the disk.
    """
    if work.task == "sleep":
        time.sleep(work.seconds)
    elif work.task == "compute":
        block, digest = _block("compute"), hashlib.sha256()
        for _ in range(work.passes):
            digest.update(block)
    elif work.task == "memory":
        source, target = _arrays()
        for _ in range(work.passes):
            np.copyto(target, source)
        context.nbytes += 2 * work.passes * source.nbytes
    else:
        _write_and_read(work.passes, context)


def _write_and_read(passes: int, context: Context) -> None:
    block = _block("io")
    with tempfile.TemporaryFile(dir=context.folder.path) as file:
        number = file.fileno()
        for _ in range(passes):
            with context.writing():
                os.pwrite(number, block, 0)
                os.fsync(number)
                if hasattr(os, "posix_fadvise"):
                    os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            with context.reading():
                found = os.pread(number, len(block), 0)
            if found != block:
                raise InputError(f"the disk of {context.folder.path} gave back other bytes: have it checked")
            context.nbytes += 2 * len(block)


@cache
def _block(kind: str) -> bytes:
    """Bytes that no file system can make short work of, the same in every process."""
    return np.random.default_rng(1).bytes(BLOCKS[kind])


def _arrays() -> tuple[Any, Any]:
    """Two arrays of this thread, every page of them in memory."""
    if not hasattr(_own, "arrays"):
        count = BLOCKS["memory"] // 8
        _own.arrays = np.full(count, 1.0), np.full(count, 0.0)
    found: tuple[Any, Any] = _own.arrays
    return found


class SyntheticPipeline:
    """Regions of made-up work, one stage; a :class:`~fmbdask.survey.pipelines.protocol.Pipeline`.

    Parameters
    ----------
    config : SurveyConfig
        Its ``options`` are the fields of :class:`Work`.

    Raises
    ------
    ConfigError
        If the options cannot be used.
    """

    name = "synthetic"

    def __init__(self, config: SurveyConfig) -> None:
        try:
            self.work = Work.model_validate(config.options)
        except ValidationError as error:
            said = error.errors()[0]
            where = ".".join(map(str, said["loc"]))
            raise ConfigError(
                f"options.{where} of the synthetic pipeline cannot be used ({said['msg']}): "
                f"it takes {', '.join(Work.model_fields)}"
            ) from None
        self.stages = (SyntheticStage(self.work),)

    def items(self, paths: Sequence[str], first: int) -> list[Item]:
        """Read how many regions the inputs have."""
        return [self._item(path, index) for index, path in enumerate(paths, first)]

    def _item(self, path: str, index: int) -> Item:
        item = Item(index, "", path)
        try:
            regions = json.loads(Path(path).read_bytes())["regions"]
            if type(regions) is not int or regions < 1:
                raise ValueError
        except OSError as error:
            return replace(item, problem=f"{path} cannot be read ({error.strerror}): check the path")
        except (ValueError, TypeError, KeyError):
            return replace(item, problem=f'{path} is no synthetic input: it must hold {{"regions": 16}}, say')
        return self.shaped(item, (1, 1, regions, 1), "uint8")

    def shaped(self, item: Item, shape: Sequence[int], dtype: str) -> Item:
        """Complete an item: its rows are regions."""
        full = (1, *shape) if len(shape) == 3 else tuple(shape)
        each = max(1, self.work.passes * BLOCKS[self.work.task])
        return replace(
            item, shape=full, dtype=dtype, edge=1, regions=(full[2],), nbytes=full[2] * each, nbytes_out=64
        )

    def fingerprint(self) -> Mapping[str, Any]:
        """What is done."""
        return {"pipeline": self.name, "options": self.work.model_dump()}

    def warm(self) -> None:
        """There is nothing to compile."""


class SyntheticStage:
    """The one stage; a :class:`~fmbdask.survey.pipelines.protocol.Stage`."""

    name = "synthetic"
    resources: Mapping[str, float] = {}

    def __init__(self, work: Work) -> None:
        self.work = work

    def memory(self, item: Item) -> Memory:
        """Two arrays at most, and what a pass reads back."""
        return Memory(BASE, BASE + 2 * BLOCKS[self.work.task], BASE)

    def prepare(self, item: Item, context: Context) -> None:
        """Nothing is shared."""

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> int:
        """Do the work of a region; returns its number."""
        do(self.work, context)
        return region

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Write down which regions were done."""
        with context.writing():
            (target / "regions.json").write_text(json.dumps({"regions": list(results)}))

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """List the inputs with their regions."""
        columns = {"input": [i.name for i, _ in products], "regions": [i.regions[0] for i, _ in products]}
        schema = pa.schema({"input": pa.string(), "regions": pa.int64()})
        pq.write_table(pa.table(columns, schema), target / "inputs.parquet")
