"""What a pipeline is: stages of prepare(item) -> map(region) -> reduce(item) -> reduce(run).

Plan, run and journal know nothing else of it. A stage's methods are pure: the same item gives the same bits
on any worker, in any order. What is kept between them is pickled (see :mod:`fmbdask.store.run.parts`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from ...store.run.folder import RunFolder
from ...store.run.items import Item


@dataclass(frozen=True)
class Memory:
    """Largest anonymous memory of each kind of unit in one thread, above that of the imports [byte]."""

    prepare: int
    region: int
    reduce: int

    @property
    def largest(self) -> int:
        """Of the three."""
        return max(self.prepare, self.region, self.reduce)


@dataclass
class Context:
    """What a unit gets from the process that does it, and tells it.

    Attributes
    ----------
    folder : RunFolder
    products : mapping
        Checked folders of the products that earlier stages made: name of the stage -> folder of the item, and
        ``<stage>.run`` -> that of the reduction of the run where there was one.
    seconds : dict
        Wall time spent under :meth:`reading` and :meth:`writing` [s].
    nbytes : int
        Bytes of input that were :meth:`saw`.
    extra : dict
        Numbers that the unit wants in its record: events found, say.
    """

    folder: RunFolder
    products: Mapping[str, Path] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "write": 0.0})
    nbytes: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    _inputs: Any = field(default_factory=xxhash.xxh3_128, repr=False)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Count the time inside as reading."""
        yield from self._timed("read")

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Count the time inside as writing."""
        yield from self._timed("write")

    def _timed(self, kind: str) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[kind] += time.perf_counter() - begin

    def saw(self, data: NDArray[Any]) -> None:
        """Add an array that was read to the checksum of the inputs, which is kept with the record."""
        self._inputs.update(np.ascontiguousarray(data).view(np.uint8).data)
        self.nbytes += data.nbytes

    @property
    def inputs(self) -> str:
        """Checksum of everything that was :meth:`saw`."""
        digest: str = self._inputs.hexdigest() if self.nbytes else ""
        return digest


class Stage(Protocol):
    """One map over the regions of every item, and what comes before and after it.

    Attributes
    ----------
    name : str
    resources : mapping
        What a worker must offer, ``{"GPU": 1}``.

    Notes
    -----
    A stage may have more methods. ``seconds_of_run(items)`` says what :meth:`reduce_run` takes [s], where
    it is long. ``rehearse(products, target, context)`` is called instead of it when a plan measures a few
    regions, with what these gave: it makes, quickly, what the next stage needs of it.
    ``light`` is the same stage without what takes :meth:`reduce` long for every region, or None; both have
    ``finish_region(item, prepared, result)`` then, so that a plan measures what a region adds: it returns the
    part of its time that is for one region alone [s].
    """

    @property
    def name(self) -> str: ...
    @property
    def resources(self) -> Mapping[str, float]: ...

    def memory(self, item: Item) -> Memory:
        """Bound the memory of its units."""

    def prepare(self, item: Item, context: Context) -> Any:
        """Measure what the regions of an item share; it is pickled and given to them. None is nothing."""

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> Any:
        """Work on one region; what it returns is pickled and given to :meth:`reduce`."""

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Make the product of an item from its regions' results, which come in the order of the regions.

        ``target`` is a folder that exists, empty; it appears under its own name when this returns, whole.
        """

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """Make the tables of the run from the products of all items that were reduced, in their order.

        ``target`` is a folder that exists, empty, as in :meth:`reduce`; it becomes ``catalog/``, or
        ``products/<stage>.run`` for all stages but the last.
        """


class Pipeline(Protocol):
    """Stages, and how an input becomes an item of a run.

    Attributes
    ----------
    name : str
    stages : sequence of Stage
    """

    @property
    def name(self) -> str: ...
    @property
    def stages(self) -> Sequence[Stage]: ...

    def items(self, paths: Sequence[str], first: int) -> list[Item]:
        """Describe inputs from their headers, numbered from ``first``.

        An input that cannot be opened becomes an item with a ``problem``: one bad file stops no survey.
        Names, sizes and times are filled in by the caller.
        """

    def shaped(self, item: Item, shape: Sequence[int], dtype: str) -> Item:
        """Complete an item whose shape a manifest gives, without opening its input."""

    def fingerprint(self) -> Mapping[str, Any]:
        """Everything beside the inputs that the results depend on; compared when a run is resumed."""

    def warm(self) -> None:
        """Make a new process ready: compile or load what the first region would wait for."""
