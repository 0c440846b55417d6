"""Ensembles of a search: which families vote on which modalities, and what the list of them says."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...anomaly.detector import ANOMALOUS, Detector
from ...anomaly.ensemble import WEIGHTS, Ensemble
from ...anomaly.kinds import KINDS
from ...errors import InputError
from .lists import Listing, write_in_order
from .making import detector_of
from .settings import DetectConfig
from .stores import Kept
from .taking import OF_SEQUENCES, named

Int = NDArray[np.int64]
KIND = "ensemble"
#: Families that can be members: those that take one modality.
VOTING = tuple(kind for kind in KINDS if kind not in (KIND, "alignment", "cosine"))


def ensemble_of(settings: DetectConfig, kept: Mapping[str, Kept], where: str) -> Ensemble:
    """An ensemble for a store, not fitted, that knows its modalities.

    Members are those that the settings name, or weigh, else those that suit what the store holds.

    Raises
    ------
    InputError
        If a member is not known, weights are not those of members, or the store does not hold what they take.
    """
    own = named(kept, settings.modality, where)
    vectors, sequences = ([m for m, k in own.items() if k.sequences is wanted] for wanted in (False, True))
    for names, what in ((vectors, "vectors"), (sequences, "sequences")):
        if len(names) > 1:
            raise InputError(
                f"{where} holds {what} of several modalities ({', '.join(names)}), an ensemble takes one: "
                f"name it, --modality {names[0]} say"
            )
    kinds = settings.ensemble or _usual(own)
    for kind in kinds:
        if kind not in VOTING:
            raise InputError(f"{kind} cannot be a member of an ensemble: known are {', '.join(VOTING)}")
    for kind in settings.weights or {}:
        if kind not in kinds:
            raise InputError(f"{kind} has a weight and is no member: the members are {', '.join(kinds)}")
    if set(kinds) & set(OF_SEQUENCES) and not sequences:
        raise InputError(
            f"{where} holds no sequences ({', '.join(own)}), which lstm takes: leave it out, or give windows "
            "of series (`fmbdask embeddings import SERIES --window LENGTH`)"
        )
    members = {kind: detector_of(kind, settings) for kind in kinds}
    made = Ensemble(
        members, settings.weights, None if settings.levels is None else settings.levels.made(),
        folds=settings.folds, seed=settings.seed,
    )  # fmt: skip
    of_sequences = bool(set(kinds) & set(OF_SEQUENCES)) or not vectors
    of_vectors = bool(set(kinds) - set(OF_SEQUENCES))
    made.modalities = (*(vectors if of_vectors else ()), *(sequences if of_sequences else ()))
    return made


def _usual(kept: Mapping[str, Kept]) -> tuple[str, ...]:
    """The members of an ensemble of whose members nothing is said."""
    usual = Ensemble()
    usual.begin({m: k.width for m, k in kept.items()}, {m: k.provenance for m, k in kept.items()}, None)
    return tuple(usual.members)


def adjusted(settings: DetectConfig, detector: Detector) -> Detector:
    """A trained ensemble with the weights and levels of a search; other detectors as they are.

    Members that are trained and not asked for count nothing.
    """
    if not isinstance(detector, Ensemble):
        return detector
    found = copy(detector)  # others in this process use it too
    if settings.levels is not None:
        found.alert_levels = settings.levels.made()
    if settings.ensemble is not None:
        absent = [name for name in settings.ensemble if name not in found.members]
        if absent:
            raise InputError(
                f"the trained ensemble has no member {absent[0]}: it has {', '.join(found.members)}; leave "
                "that out, or train another"
            )
        names = settings.ensemble
        usual = WEIGHTS if set(WEIGHTS) == set(names) else dict.fromkeys(names, 1.0 / len(names))
        own = {name: usual[name] for name in names} | (settings.weights or {})
        found.set_weights(**(dict.fromkeys(found.members, 0.0) | own))
    return found


def with_members(detectors: Mapping[str, Detector]) -> dict[str, Detector]:
    """Detectors, and the members of those that are ensembles, as ``<ensemble>.<member>``."""
    found: dict[str, Detector] = {}
    for name, detector in detectors.items():
        found[name] = detector
        if isinstance(detector, Ensemble):
            voting = {n: m for n, m in detector.members.items() if detector.weights[n] > 0}
            found |= {f"{name}.{member}": own for member, own in voting.items()}
    return found


def write_ensembles(listing: Listing) -> list[Path]:
    """``ensemble_scores_<model>.csv``: every object, the most anomalous first, those without score last."""
    paths = []
    for model in listing.models():
        for name in listing.of_kind(model, KIND):
            with listing.writer(f"ensemble_scores_{model}.csv") as writer:
                columns = _Columns(listing, name)
                write_in_order(writer, listing.order(name), columns.ranked)
                scores = listing.scored.columns[name]
                for begin in range(0, len(scores), ROWS):
                    places = begin + np.flatnonzero(np.isnan(scores[begin : begin + ROWS]))
                    if len(places):
                        writer.write(columns.of(places, np.zeros(len(places), np.int64)))
            paths.append(writer.path)
    return paths


#: Objects that are looked at together for those without a score.
ROWS = 2**20


class _Columns:
    """Columns of some objects in the list of an ensemble."""

    def __init__(self, listing: Listing, name: str) -> None:
        found = listing.detectors[name]
        assert isinstance(found, Ensemble)
        self.listing, self.name, self.ensemble = listing, name, found

    def ranked(self, places: Int, first: int) -> dict[str, Any]:
        """Those of objects that follow one another in the ranks."""
        return self.of(places, np.arange(first, first + len(places)))

    def of(self, places: Int, ranks: Int) -> dict[str, Any]:
        """Those of objects whose ranks are known; 0 where there is none."""
        listing, limit = self.listing, self.ensemble.label_threshold
        scores = listing.scored.columns[self.name][places]
        p = listing.scored.p(self.name)[places]
        none = np.isnan(scores)
        levels = self.ensemble.alert_levels.score(p)
        alerts = self.ensemble.alert_levels.names(self.ensemble.alert_levels.codes(levels))
        found = {
            **listing.objects(places),
            "ensemble_score": scores,
            "level": levels,
            "alert": pa.array(alerts.astype(object), pa.string(), mask=none),
            "label": np.where(none, -1, p < ANOMALOUS if limit is None else scores > limit),
            "p_value": p,
            "rank": np.ma.masked_equal(ranks, 0),
        }
        for member in (n for n in listing.detectors if n.startswith(f"{self.name}.")):
            short = member.removeprefix(f"{self.name}.")
            found[f"{short}_score"] = listing.scored.columns[member][places]
            found[f"{short}_p_value"] = listing.scored.p(member)[places]
        return found | listing.whence(places)
