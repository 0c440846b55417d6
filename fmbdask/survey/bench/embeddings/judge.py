"""One search of one planted store: what it finds, what it lists, and how much of that is false."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ....anomaly.discovery import discoveries
from ....anomaly.search import CrossModalSearch
from .harder import JUDGES, TUNING, Family
from .planted import CLASSES, Planted, planted

#: Generators by name.
FAMILIES: dict[str, Family] = {"planted": planted, **JUDGES, **TUNING}
#: False discovery rate of the lists.
RATE = 0.1


@dataclass(frozen=True)
class Judged:
    """What a search made of a planted store.

    Attributes
    ----------
    family, seed, severity, objects, width, alignment
        What was searched, and how the modalities were matched.
    planted : int
        Anomalies in the store.
    recall : dict
        Class -> share of it among the first objects, as many as were planted; by the combined p-value.
    each : dict
        Detector -> the same by its own p-value.
    listed, true : int
        Objects of the list at a false discovery rate of :data:`RATE`, and planted ones among them.
    fit_s, score_s : float
        CPU time.
    """

    family: str
    seed: int
    severity: float
    objects: int
    width: int
    alignment: str
    planted: int
    recall: dict[str, float]
    each: dict[str, dict[str, float]]
    listed: int
    true: int
    fit_s: float
    score_s: float

    @property
    def false(self) -> float:
        """Share of the list that is false; 0 of an empty one."""
        return (self.listed - self.true) / self.listed if self.listed else 0.0

    @property
    def found(self) -> float:
        """Share of the planted ones that the list holds; 0 where none is planted."""
        return self.true / self.planted if self.planted else 0.0


def store_of(made: Planted) -> xr.Dataset:
    """A planted store as detectors take it."""
    return xr.Dataset(
        {
            "image": (("object", "image_feature"), made.image),
            "spectrum": (("object", "spectrum_feature"), made.spectrum),
        },
        coords={"object_id": ("object", np.arange(len(made.truth)))},
    )


def judge(
    family: str,
    seed: int,
    *,
    severity: float = 0.5,
    objects: int = 20_000,
    width: int | None = None,
    alignment: str = "mlp",
) -> Judged:
    """Search one store of a family, with one thread.

    Parameters
    ----------
    family : str
        Of :data:`FAMILIES`.
    seed : int
    severity : float
        0 plants nothing.
    objects : int
    width : int, optional
        That of the family by default.
    alignment : {"mlp", "ridge", "none"}
    """
    sizes: dict[str, Any] = {"objects": objects} | ({} if width is None else {"width": width})
    made = FAMILIES[family](seed, severity=severity, **sizes)
    store, truth = store_of(made), made.truth
    before = time.process_time()
    search = CrossModalSearch(alignment=alignment).fit(store, threads=1)
    fitted = time.process_time()
    table = search.score(store)
    scored = time.process_time()
    p = table["p_value"].values
    listed = discoveries(p, RATE)
    return Judged(
        family=family,
        seed=seed,
        severity=severity,
        objects=objects,
        width=made.image.shape[1],
        alignment=alignment,
        planted=int((truth > 0).sum()),
        recall=recall_of(p, truth),
        each={name: recall_of(table[f"p_{name}"].values, truth) for name in search.detectors},
        listed=int(listed.sum()),
        true=int((truth[listed] > 0).sum()),
        fit_s=fitted - before,
        score_s=scored - fitted,
    )


def recall_of(p_values: NDArray[np.float64], truth: NDArray[np.int8]) -> dict[str, float]:
    """Share of each class among the smallest p-values, as many as were planted."""
    first = truth[np.argsort(p_values, kind="stable")[: int((truth > 0).sum())]]
    return {
        name: float((first == k).sum() / (truth == k).sum())
        for k, name in enumerate(CLASSES, start=1)
        if (truth == k).any()
    }
