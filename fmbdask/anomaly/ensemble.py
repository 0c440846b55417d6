"""Several detectors as one: their calibrated p-values combined, calibrated again, and what level that is.

Nothing is scaled by the objects that are being scored. Each member says how improbable its score is for an
ordinary object, by a calibration on objects that its models never saw, and so does the ensemble: one object
alone has the level that it has among a million.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..errors import InputError
from .calibration import Calibration
from .detector import Detector
from .kinds import class_of
from .lazy import scores
from .levels import NAMES, UNKNOWN, Levels
from .objects import SEQUENCE, Data
from .protocol import Report, scored
from .rows import Rows
from .summary import Summary

#: Members if none are given: of vectors, and of sequences beside or instead of them.
TABLE = ("autoencoder", "isolation_forest", "neighbours", "mahalanobis")
SEQUENCES = ("autoencoder", "isolation_forest", "lstm")
#: Weights where exactly these are the members; others count alike.
WEIGHTS = {"autoencoder": 0.4, "isolation_forest": 0.3, "lstm": 0.3}
#: Kinds that want sequences, and kinds that are networks.
OF_SEQUENCES = ("lstm",)
NETWORKS = {"autoencoder", "lstm", "flow"}
#: Root of the mean square of an ordinary object's -log10 p.
USUAL = math.sqrt(2.0) * math.log10(math.e)


class Ensemble(Detector):
    """Detectors that are combined by the probabilities of their scores.

    The score is the root of the weighted mean square of the members' -log10 p, less what it usually is: what
    one member alone finds far out is found, and there is no highest score. It is calibrated on objects of the
    sample that the members' models never saw, whatever the members have to do with each other. An object that
    lacks a modality of any member, or has one that is not finite, has no score.

    Parameters
    ----------
    members : mapping, optional
        Name -> detector; names can be written as Python names. By default an autoencoder, an isolation
        forest, nearest neighbours and Mahalanobis distances for vectors, an LSTM network besides where there
        are sequences, and for sequences alone the network, an autoencoder and an isolation forest. Networks
        are left out with a warning where torch is not installed.
    weights : mapping, optional
        See :meth:`set_weights`. By default all count alike; .4, .3 and .3 where the members are autoencoder,
        isolation_forest and lstm.
    levels : Levels, optional
        How p-values become levels and alerts.
    folds, seed : int
        See :class:`~fmbdask.anomaly.detector.Detector`; members have the same folds.

    Attributes
    ----------
    members : mapping
        Name -> detector, fitted with the ensemble; they may be used by themselves. Without any given, known
        once it is fitted.
    weights : mapping
        Name -> weight; they add up to 1.

    Notes
    -----
    Sources: Aggarwal & Sathe 2017, Outlier Ensembles (Springer), on combining detectors; Kriegel et al. 2011,
    Interpreting and Unifying Outlier Scores (SIAM Data Mining, 13), on making scores comparable; Fisher 1932,
    Statistical Methods for Research Workers, section 21.1, on means of logarithms of p-values. Squares lie
    between those means and the smallest p-value: on tables of ADBench, with seeds that no result is stated
    of, their mean AUROC was .830, that of plain means .827, of the smallest p-value .830, of Cauchy
    combinations and of means of normal quantiles .820; their mean average precision .549, .537, .544, .544
    and .518.
    """

    kind: ClassVar[str] = "ensemble"

    def __init__(
        self,
        members: Mapping[str, Detector] | None = None,
        weights: Mapping[str, float] | None = None,
        levels: Levels | None = None,
        *,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__(folds=folds, seed=seed)
        self.alert_levels = Levels() if levels is None else levels
        self.default = members is None
        self.asked: dict[str, float] = {}
        self.members: dict[str, Detector] = {}
        self.weights: dict[str, float] = {}
        self.terms: NDArray[np.float32] | None = None
        if members is not None:
            self._take(members)
        self.set_weights(**(weights or {}))

    # What operators ask for.

    def set_weights(self, **weights: float) -> Ensemble:
        """Let members count more or less; after a fit, the calibration follows at once.

        Parameters
        ----------
        **weights : float
            Of members by their names, 0 or more; those that are not named keep what they were given, or 1
            over the number of members. All are scaled to add up to 1. A member of weight 0 is not computed.
            A threshold that was set keeps the share of ordinary objects beyond it.

        Returns
        -------
        Ensemble
            Itself.

        Raises
        ------
        InputError
            If there is no such member, or a weight is negative, not finite, or none is above 0.
        """
        asked = {**self.asked, **weights}
        found = self._weighed(asked)
        self.asked, self.weights = asked, found
        if self.terms is not None:
            before, self.calibration = self.calibrated(), Calibration.fit(self._together(self.terms))
            if self.label_threshold is not None:
                share = 1.0 - float(before.p_value(np.array(self.label_threshold)))
                self.label_threshold = self.calibration.quantile(min(share, 1.0 - 1e-15))
        return self

    def levels(self, data: Data) -> xr.DataArray:
        """Level of each object, lazily.

        Parameters
        ----------
        data : Dataset, DataArray or array
            Objects as for :meth:`score`, or what that returned.

        Returns
        -------
        DataArray
            (object,), in [0, 1]; NaN where there is no score.
        """
        found = xr.apply_ufunc(
            self.alert_levels.score, self.p_value(data), dask="parallelized", output_dtypes=[np.float64]
        )
        named: xr.DataArray = found.rename("level")
        return named

    def alerts(self, data: Data) -> xr.DataArray:
        """Alert of each object, lazily.

        Parameters
        ----------
        data : Dataset, DataArray or array
            Objects as for :meth:`score`, or what that returned.

        Returns
        -------
        DataArray
            (object,), int8: 0 normal, 1 warning, 2 critical, -1 no score. The attributes ``flag_values`` and
            ``flag_meanings`` say so, and ``Levels.names`` makes names of them.
        """
        found = xr.apply_ufunc(
            self.alert_levels.codes, self.levels(data), dask="parallelized", output_dtypes=[np.int8]
        )
        attrs = {"flag_values": [UNKNOWN, *range(len(NAMES))], "flag_meanings": " ".join(["unknown", *NAMES])}
        named: xr.DataArray = found.rename("alert").assign_attrs(attrs)
        return named

    def member_scores(self, data: Data) -> xr.Dataset:
        """What each member says, lazily.

        Parameters
        ----------
        data : Dataset, DataArray or array
            Objects as for :meth:`score`.

        Returns
        -------
        Dataset
            (object,): ``<name>_score`` and ``<name>_p_value`` of each member.
        """
        self.calibrated()
        found = scores(self.members, data)
        parts = {}
        for name, member in self.members.items():
            parts[f"{name}_score"] = found[name]
            parts[f"{name}_p_value"] = member.p_value(found[name]).drop_attrs()
        return xr.Dataset(parts, coords=found.coords)

    # What a family writes.

    def begin(
        self, widths: Mapping[str, int], provenance: Mapping[str, Mapping[str, Any]], group: str | None
    ) -> None:
        """Note what is learnt from, and which member takes what.

        Raises
        ------
        InputError
            If there is more than one modality of vectors, or of sequences, or none that a member takes.
        """
        sequences = [m for m in widths if provenance.get(m, {}).get(SEQUENCE)]
        vectors = [m for m in widths if m not in sequences]
        if max(len(sequences), len(vectors)) > 1:
            raise InputError(
                f"an ensemble takes one modality of vectors and one of sequences, these are "
                f"{', '.join(widths)}: name what it is to take"
            )
        if self.default:
            self._take(self._defaults(bool(vectors), bool(sequences)))
        self.takes = len(widths)
        super().begin(widths, provenance, group)
        self.supervised = any(member.supervised for member in self.members.values())
        self.reweights = max(member.reweights for member in self.members.values())
        for name, member in self.members.items():
            own = list(widths)
            if member.kind in OF_SEQUENCES:
                own = sequences
            elif member.takes == 1:
                own = vectors or sequences
            if not own:
                raise InputError(
                    f"{name} takes sequences, these are vectors: give sequences, or leave it out"
                )
            member.begin({m: widths[m] for m in own}, {m: provenance.get(m, {}) for m in own}, group)

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Fit all members to the same summary."""
        for member in self.members.values():
            member.learn(summary if member.supervised else summary.ordinary(), progress)

    def to_calibrate(self, rows: Rows) -> NDArray[np.float64]:
        """Scores by each member, (n, members): none of them is calibrated yet."""
        return np.stack([scored(member, rows) for member in self.members.values()], axis=1)

    def calibrate(self, scores: NDArray[np.float64]) -> None:
        """Calibrate the members, and what they say together."""
        terms = np.empty(scores.shape, np.float32)
        for place, (name, member) in enumerate(self.members.items()):
            member.calibrate(scores[:, place])
            terms[:, place] = self._term(name, scores[:, place])
        self.terms = terms
        super().calibrate(self._together(terms))

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Scores; (n,)."""
        terms = np.zeros((len(rows), len(self.members)))
        for place, (name, member) in enumerate(self.members.items()):
            if self.weights[name] > 0:
                terms[:, place] = self._term(name, scored(member, rows))
        return self._together(terms)

    def scores_of(self, rows: Rows) -> NDArray[np.float64]:
        """Score rows in memory; members see all of them, so that what they found is shared. (n,)"""
        found = self.score_rows(rows)
        found[~rows.all_valid(self.modalities)] = np.nan
        return found

    def state(self) -> Checkpoint:
        """Weights, levels, what members said of the sample; the members are parts."""
        assert self.terms is not None
        meta = {"weights": self.asked, "levels": self.alert_levels.meta(), "default": self.default}
        parts = {name: member.checkpoint() for name, member in self.members.items()}
        return Checkpoint(self.kind, {"terms": self.terms}, meta, parts)

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        self.default = bool(saved.meta["default"])
        self.asked = {str(n): float(w) for n, w in saved.meta["weights"].items()}
        self.alert_levels = Levels.of(saved.meta["levels"])
        self.members, self.weights, self.terms = {}, {}, None
        self.takes = len(self.modalities)
        self._take({n: class_of(p.kind).restored(p, f"part {n}") for n, p in saved.parts.items()})
        for name, member in self.members.items():
            if any(self.widths.get(m) != width for m, width in member.widths.items()):
                raise ValueError(f"{name} was fitted to {', '.join(member.widths)}")
        self.supervised = any(member.supervised for member in self.members.values())
        self.reweights = max(member.reweights for member in self.members.values())
        self.terms = saved.arrays["terms"]
        if self.terms.ndim != 2 or self.terms.shape[1] != len(self.members):
            raise ValueError(f"what members said of the sample has the shape {self.terms.shape}")

    def _take(self, members: Mapping[str, Detector]) -> None:
        """Check members, and weigh them."""
        if not members:
            raise InputError("an ensemble has no members: give at least one detector")
        for name, member in members.items():
            if not str(name).isidentifier():
                raise InputError(f"{name!r} cannot be the name of a member: give letters and digits only")
            if isinstance(member, Ensemble):
                raise InputError(f"{name} is an ensemble itself: give its members")
            if member.folds != self.folds:
                raise InputError(
                    f"{name} has {member.folds} folds and the ensemble {self.folds}: give both the same"
                )
        self.members = dict(members)
        self.weights = self._weighed(self.asked)

    def _weighed(self, asked: Mapping[str, float]) -> dict[str, float]:
        """Weights of all members, where some are asked for."""
        known = list(self.members) or list(asked)  # default members are not known before a fit
        for name, value in asked.items():
            if name not in known:
                raise InputError(f"there is no member {name}: known are {', '.join(known)}")
            if not (isinstance(value, Real) and np.isfinite(value) and value >= 0):
                raise InputError(f"the weight of {name} is {value}: give 0 or more")
        usual = WEIGHTS if set(WEIGHTS) == set(known) else dict.fromkeys(known, 1.0 / max(1, len(known)))
        found = {name: float(asked.get(name, usual[name])) for name in self.members}
        total = sum(found.values())
        if found and not total > 0:
            raise InputError("all weights are 0: give at least one member more")
        return {name: value / total for name, value in found.items()}

    def _defaults(self, vectors: bool, sequences: bool) -> dict[str, Detector]:
        from importlib.util import find_spec

        kinds = (*TABLE, *(("lstm",) if sequences else ())) if vectors else SEQUENCES
        if find_spec("torch") is None and set(kinds) & NETWORKS:
            absent = [k for k in kinds if k in NETWORKS]
            warnings.warn(
                f"torch is not installed: the ensemble has no {' and no '.join(absent)} (pip install "
                "'fmbdask[models]')",
                stacklevel=4,
            )
            kinds = tuple(k for k in kinds if k not in NETWORKS)
        return {kind: class_of(kind)(folds=self.folds, seed=self.seed) for kind in kinds}

    def _term(self, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a member's scores add; (n,)."""
        found: NDArray[np.float64] = -np.log10(self.members[name].calibrated().p_value(values))
        return found

    def _together(self, terms: NDArray[Any]) -> NDArray[np.float64]:
        """Root of the weighted mean square over the members, less the usual; (n,).

        Members are added in their order, so that a row has the same bits in any company.
        """
        total = np.zeros(len(terms))
        for place, name in enumerate(self.members):
            if self.weights[name] > 0:
                total += self.weights[name] * np.square(terms[:, place], dtype=np.float64)
        return np.sqrt(total) - USUAL
