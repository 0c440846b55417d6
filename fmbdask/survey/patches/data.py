"""Patches of a training set as a training takes them, and proposals as they are judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...ramps.network.evidence import READS, average_precision, best_f1, evidence, known_odds, odds
from ...ramps.reduce import CODES
from ...store.patches import PatchStore
from .recipes import SPLITS

if TYPE_CHECKING:
    from ...models.handles import OpenNetwork

#: Patches are held in memory up to so many bytes, and read one by one beyond.
HELD = 4 * 2**30
#: Patches that are loaded at once.
STEP = 512


class PatchData:
    """Some patches of a set; a :class:`fmbdask.models.feeding.LabelledPatches`.

    Parameters
    ----------
    store : PatchStore
    rows : (n,) int array
        Which ones.
    share : int
        Processes on this machine that share the memory.
    """

    def __init__(self, store: PatchStore, rows: NDArray[np.int64], share: int = 1) -> None:
        self.store, self.rows = store, rows
        arrays = [store.arrays[name] for name in ("values", "classes")]
        nbytes = sum(len(rows) * int(np.prod(a.shape[1:])) * a.dtype.itemsize for a in arrays)
        self.real = store.column("real", rows)
        self.read = store.column("read", rows).astype(np.int64)
        self.known = known_odds(store.column("score", rows))
        proposes = bool((self.real >= 0).any())
        self.group: NDArray[np.bool_] | None = self._loaded("group") if proposes else None
        self._held: tuple[NDArray[Any], NDArray[Any]] | None = None
        if nbytes <= HELD // share:
            self._held = self._loaded("values"), self._loaded("classes")

    def _loaded(self, name: str) -> NDArray[Any]:
        array = self.store.arrays[name]
        out = np.empty((len(self.rows), *array.shape[1:]), array.dtype)
        # whole spans of the set, as it lies: single rows of shards take ten times as long
        for start in range(0, len(self.store), STEP):
            here = np.flatnonzero((self.rows >= start) & (self.rows < start + STEP))
            if here.size:
                out[here] = self.store.column(name, slice(start, start + STEP))[self.rows[here] - start]
        return out

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int, /) -> tuple[Any, ...]:
        if self._held is not None:
            values, classes = self._held[0][number], self._held[1][number]
        else:
            row = int(self.rows[number])
            values, classes = self.store.row("values", row), self.store.row("classes", row)
        return values.astype(np.float32), classes, None, *self._proposal(number, classes.shape)

    def _proposal(self, number: int, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_] | None, bool, float]:
        """Voxels that :func:`fmbdask.ramps.network.evidence.evidence` looks at, whether it is real, and the
        log-odds of that by its line."""
        if self.group is None or self.real[number] < 0:
            return None, False, 0.0
        region = np.zeros(shape, np.bool_)
        read = int(self.read[number])
        region[read : read + READS] = self.group[number]
        return region, bool(self.real[number]), float(self.known[number])


def rows_of(store: PatchStore, split: str) -> NDArray[np.int64]:
    """Patches of a split of the exposures.

    Raises
    ------
    InputError
        If there are none.
    """
    found = np.flatnonzero(store.column("split") == SPLITS.index(split))
    if not found.size:
        raise InputError(f"{store.path} has no patches of {split} exposures: make it with more exposures")
    return found


@dataclass(frozen=True)
class Judged:
    """Proposals of validation exposures: what a network is asked about, and what is true.

    Attributes
    ----------
    data : PatchData
        Their patches.
    group : (n, y, x) bool array
    read : (n,) int array
    score : (n,) float64 array
    real : (n,) bool array
    """

    data: PatchData
    group: NDArray[np.bool_]
    read: NDArray[np.int64]
    score: NDArray[np.float64]
    real: NDArray[np.bool_]

    @classmethod
    def of(cls, store: PatchStore, share: int = 1) -> Judged:
        """Those of a training set."""
        validation = rows_of(store, "validation")
        real = store.column("real", validation)
        rows = validation[real >= 0]
        return cls(
            PatchData(store, rows, share),
            store.column("group")[rows],
            store.column("read")[rows].astype(np.int64),
            store.column("score")[rows].astype(np.float64),
            real[real >= 0] > 0,
        )

    @property
    def usable(self) -> bool:
        """Whether there are real ones and others."""
        return bool(self.real.any() and not self.real.all())

    def evidence(self, model: OpenNetwork) -> NDArray[np.float64]:
        """What a network says of each of them, see :func:`fmbdask.ramps.network.evidence.evidence`."""
        from ...models.patches import classify_patches

        code = CODES["cosmic_ray"]
        asked = iter(zip(self.group, self.read, strict=True))

        def reduced(probability: NDArray[np.float32]) -> float:
            group, read = next(asked)
            return evidence(probability[code], group, int(read))

        patches = (self.data[number][0] for number in range(len(self.data)))
        return np.array(classify_patches(model, patches, reduce=reduced, one_thread=False), np.float64)

    @property
    def figures(self) -> Callable[[OpenNetwork], dict[str, float]]:
        """The score of a network, F1 of its proposals at the best threshold, and their average precision."""
        return partial(_figures, self)


def _figures(judged: Judged, model: OpenNetwork) -> dict[str, float]:
    found = odds(judged.evidence(model), judged.score)
    return {
        "score": best_f1(found, judged.real)[0],
        "average_precision": average_precision(found, judged.real),
    }
