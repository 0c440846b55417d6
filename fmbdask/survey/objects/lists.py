"""The lists that users read: outliers by density, mismatches, any scores; ranks belong to a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...anomaly.detector import Detector
from .ranking import ordered
from .scored import Scored
from .stores import Kept
from .tables import TableWriter, pieces

Columns = Callable[[str, NDArray[np.int64], int], dict[str, Any]]
#: Kinds of the detectors that have lists of their own.
FLOW, COSINE = "flow", "cosine"
#: p-values below which objects are counted.
LEVELS = (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Listing:
    """What lists are made of, and where they go.

    Attributes
    ----------
    scored : Scored
    detectors : mapping
    kept : mapping
        Modalities of the stores.
    stores : sequence of str
        Names of the stores, in their order; a column says which one where there are several.
    target, scratch : Path
    overwrite : bool
    """

    scored: Scored
    detectors: Mapping[str, Detector]
    kept: Mapping[str, Kept]
    stores: Sequence[str]
    target: Path
    scratch: Path
    overwrite: bool = False

    def models(self) -> dict[str, list[str]]:
        """Models that made the vectors -> detectors of these."""
        found: dict[str, list[str]] = {}
        for name, detector in self.detectors.items():
            found.setdefault(self.kept[detector.modalities[0]].model, []).append(name)
        return found

    def of_kind(self, model: str, kind: str) -> list[str]:
        """Detectors of a kind for one model."""
        return [name for name in self.models().get(model, []) if self.detectors[name].kind == kind]

    def key(self, name: str) -> str:
        """What the vectors of a detector were called."""
        return "+".join(self.kept[m].key for m in self.detectors[name].modalities)

    def sigma(self, name: str, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores of a detector in deviations from the mean of its calibration."""
        calibration = self.detectors[name].calibration
        assert calibration is not None
        return calibration.sigma(scores)

    def objects(self, places: NDArray[np.int64]) -> dict[str, Any]:
        """Ids of some objects."""
        return {"object_id": self.scored.ids[places]}

    def whence(self, places: NDArray[np.int64]) -> dict[str, Any]:
        """The stores of some objects, where there are several."""
        if len(self.stores) < 2:
            return {}
        names = np.array([str(s) for s in self.stores])
        return {"store": names[np.searchsorted(self.scored.begins, places, "right") - 1]}

    def order(self, name: str) -> NDArray[np.int64]:
        """Objects by falling score."""
        return ordered(self.scored.columns[name], self.scratch)

    def writer(self, name: str, *, parquet: bool = True) -> TableWriter:
        """Writer of a list and of its Parquet file."""
        return TableWriter(self.target / name, overwrite=self.overwrite, units=UNITS, parquet=parquet)


#: Units of columns.
UNITS = {"anomaly_sigma": "sigma", "nf_img_sigma": "sigma", "nf_spec_sigma": "sigma"}


def write_outliers(listing: Listing) -> list[Path]:
    """``anomaly_scores_<model>.csv``: each object and key, most anomalous of a key first."""

    def columns(name: str, places: NDArray[np.int64], first: int) -> dict[str, Any]:
        scores = listing.scored.columns[name][places]
        return {
            **listing.objects(places),
            "embedding_key": np.full(len(places), listing.key(name)),
            "log_prob": -scores,
            "neg_log_prob": scores,
            "anomaly_sigma": listing.sigma(name, scores),
            "rank": np.arange(first, first + len(places)),
            "p_value": listing.scored.p(name)[places],
            **listing.whence(places),
        }

    return _write(listing, "anomaly_scores", FLOW, columns)


def write_mismatches(listing: Listing) -> list[Path]:
    """``cosine_scores_<model>.csv``: each object with both vectors, least similar first."""

    def columns(name: str, places: NDArray[np.int64], first: int) -> dict[str, Any]:
        return {
            **listing.objects(places),
            "cosine_similarity": similarity(listing.scored.columns[name][places]),
            "rank": np.arange(first, first + len(places)),
            "p_value": listing.scored.p(name)[places],
            **listing.whence(places),
        }

    return _write(listing, "cosine_scores", COSINE, columns)


def write_all_scores(listing: Listing) -> list[Path]:
    """``scores_<model>.csv``: the scores of all detectors, each in the order of its ranks."""

    def columns(name: str, places: NDArray[np.int64], first: int) -> dict[str, Any]:
        scores = listing.scored.columns[name][places]
        return {
            **listing.objects(places),
            "detector": np.full(len(places), name),
            "embedding_key": np.full(len(places), listing.key(name)),
            "score": scores,
            "anomaly_sigma": listing.sigma(name, scores),
            "rank": np.arange(first, first + len(places)),
            "p_value": listing.scored.p(name)[places],
            **listing.whence(places),
        }

    return _write(listing, "scores", None, columns)


def _write(listing: Listing, what: str, kind: str | None, columns: Columns) -> list[Path]:
    """A list for each model that has detectors of a kind, or of any."""
    paths = []
    for model, names in listing.models().items():
        own = names if kind is None else listing.of_kind(model, kind)
        if own:
            with listing.writer(f"{what}_{model}.csv") as writer:
                for name in own:
                    write_in_order(writer, listing.order(name), partial(columns, name))
            paths.append(writer.path)
    return paths


def write_rates(listing: Listing) -> Path:
    """``rates.csv``: of each detector how many p-values lie below a level, and how many would by chance."""
    with listing.writer("rates.csv", parquet=False) as writer:
        for name in listing.detectors:
            p = listing.scored.p(name)
            counts = np.zeros(len(LEVELS), np.int64)
            known = 0
            for places in pieces(np.arange(len(p))):
                part = p[places]
                counts += (part[:, None] < LEVELS).sum(axis=0)
                known += int((~np.isnan(part)).sum())
            writer.write(
                {
                    "detector": np.full(len(LEVELS), name),
                    "p_value": np.array(LEVELS),
                    "objects": np.full(len(LEVELS), known),
                    "expected": known * np.array(LEVELS),
                    "found": counts,
                }
            )
    return writer.path


def write_in_order(writer: TableWriter, order: NDArray[np.int64], columns: Any) -> None:
    """Write the rows of an order; ``columns(places, first rank)`` makes them, a piece at a time."""
    first = 1
    for places in pieces(order):
        writer.write(columns(places, first))
        first += len(places)
    if not len(order):  # a table without rows has its columns all the same
        writer.write(columns(np.zeros(0, np.int64), 1))


def similarity(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cosine of two vectors from the score of their mismatch."""
    return -scores
