"""What all detectors of anomalous objects have in common: fit, score, p_value, predict, save and load.

A family of detectors says how it learns from a summary of a store and how it scores rows in memory; reading,
folds, calibration, laziness and files are here. Nothing it scores depends on other rows.
"""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from ..checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ..errors import InputError
from .calibration import TAIL_FROM, Calibration
from .lazy import scores
from .objects import OBJECT, Data, Objects
from .protocol import Report
from .reading import summary_of
from .rows import Rows
from .summary import Summary
from .threads import cores
from .together import learn_together

#: Objects whose p-value is smaller are labelled anomalous, if nothing else is said.
ANOMALOUS = 1e-3
#: Robust deviations above the median of scores beyond which objects do not count in moments taken again.
SURPRISING = 3.5


class Detector(ABC):
    """A detector of anomalous objects; higher scores are more anomalous.

    Parameters
    ----------
    folds : int
        Models that are fitted, each without the objects of one fold, which it scores; 1 for one model that
        scores what it was fitted to.
    seed : int
        Of what is random in the fit.

    Attributes
    ----------
    label_threshold : float or None
        Score above which objects are labelled anomalous, see :meth:`threshold`.
    rounds : int
        How often it has learnt since it began: more than once with reweighting.
    """

    #: What saved models of this family are called.
    kind: ClassVar[str]
    #: Modalities that it takes.
    takes: int = 1
    #: Whether it learns from moments; the sample it always gets.
    uses_moments: ClassVar[bool] = True
    #: Whether a score depends on the fold of an object, or on its key.
    by_fold: ClassVar[bool] = True
    #: Whether it learns from objects that labels say are anomalous, too; others leave them out.
    supervised: bool = False
    #: How often moments are taken again without the objects that turned out anomalous.
    reweights: int = 0
    #: Percentile of ordinary scores above which objects are labelled after a fit, see :meth:`threshold`; none
    #: where p-values decide.
    percentile: float | None = None

    def __init__(self, *, folds: int = 5, seed: int = 0) -> None:
        if folds < 1:
            raise InputError(f"{folds} folds cannot be: give 1 or more")
        self.folds, self.seed = folds, seed
        self.modalities: tuple[str, ...] = ()
        self.widths: dict[str, int] = {}
        self.provenance: dict[str, dict[str, Any]] = {}
        self.group: str | None = None
        self.labels: str | None = None
        self.calibration: Calibration | None = None
        self.label_threshold: float | None = None
        self.rounds = 0

    # What a family writes.

    @abstractmethod
    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Fit the models of all folds; called once more after each reweighting."""

    @abstractmethod
    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Score rows that have all modalities, each by the model of its fold; (n,)."""

    @abstractmethod
    def state(self) -> Checkpoint:
        """What is to be saved of the family: its settings and fitted models."""

    @abstractmethod
    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""

    # What all have.

    def fit(
        self,
        data: Data,
        *,
        modalities: Sequence[str] | None = None,
        group: str | None = None,
        labels: str | ArrayLike | None = None,
        progress: Report | None = None,
        threads: int | None = None,
    ) -> Self:
        """Learn what is ordinary.

        Parameters
        ----------
        data : Dataset, DataArray or array
            See :meth:`fmbdask.anomaly.objects.Objects.of`. It is read once, a few blocks at a time, and once
            more for each reweighting; it may be far larger than memory.
        modalities : sequence of str, optional
            Which ones of a store, as many as the detector takes.
        group : str, optional
            Column whose equal values keep objects in one fold (duplicates of one source, say).
        labels : str or (n,) array, optional
            Column, or values: 0 ordinary, 1 anomalous, others not known. Objects that are labelled anomalous
            are left out, unless the detector learns from labels.
        progress : callable, optional
            Called with (done, total, text).
        threads : int, optional
            To work with; as many as there are cores by default. They change no bit of the result.

        Returns
        -------
        Detector
            Itself.

        Raises
        ------
        InputError
            If there are too few objects, or not the modalities it takes.

        Warns
        -----
        UserWarning
            With the number of vectors that are not finite, which are left out, and where numbers of another
            type became float32.
        """
        objects = Objects.of(data, modalities, group, labels)
        self.begin(objects.widths, objects.provenance, group)
        self.labels = labels if isinstance(labels, str) else None
        for modality, array in objects.arrays.items():
            if array.dtype != np.float32:
                warnings.warn(f"vectors of {modality} are {array.dtype}: taken as float32", stacklevel=2)
        settings: dict[str, Any] = {
            "moments": self.uses_moments, "threads": cores() if threads is None else threads,
            "progress": progress,
        }  # fmt: skip
        summary = summary_of(objects, self.folds, **settings)
        for modality, count in summary.unusable.items():
            missing = int(len(objects) - objects.known[modality].sum())
            if count > missing:
                warnings.warn(
                    f"{count - missing} of {len(objects)} vectors of {modality} are not finite: left out",
                    stacklevel=2,
                )
        self.learn_from(summary, progress)
        for _ in range(self.reweights):
            del summary  # its sample would be held beside the next
            summary = summary_of(objects, self.folds, keep=self.ordinary, **settings)
            self.learn_from(summary, progress)
        return self

    def begin(
        self, widths: Mapping[str, int], provenance: Mapping[str, Mapping[str, Any]], group: str | None
    ) -> None:
        """Note what is learnt from.

        Raises
        ------
        InputError
            If these are not as many modalities as it takes.
        """
        if len(widths) != self.takes:
            names = ", ".join(widths)
            raise InputError(
                f"{self.kind} takes {self.takes} modalit{'y' if self.takes == 1 else 'ies'}, these are "
                f"{len(widths)} ({names}): name what it is to take"
            )
        self.modalities, self.widths, self.group = tuple(widths), dict(widths), group
        self.provenance = {m: dict(p) for m, p in provenance.items()}
        self.calibration, self.label_threshold, self.rounds, self.labels = None, None, 0, None

    def learn_from(self, summary: Summary, progress: Report | None = None) -> None:
        """Fit to a summary, and calibrate on its sample, whose rows their models never saw.

        Objects that labels say are anomalous never count in the calibration.

        Raises
        ------
        InputError
            If there are too few objects with finite vectors.
        """
        learn_together({self.kind: self}, summary, progress)

    def to_calibrate(self, rows: Rows) -> NDArray[np.float64]:
        """What :meth:`calibrate` wants to know of rows of the sample: their scores, (n,)."""
        return self.scores_of(rows)

    def calibrate(self, scores: NDArray[np.float64]) -> None:
        """Say from cross-fitted scores of ordinary objects what is ordinary: the end of every fit."""
        self.calibration = Calibration.fit(scores)
        if self.percentile is not None:
            self.threshold(self.percentile)
        self.rounds += 1

    def scores_of(self, rows: Rows) -> NDArray[np.float64]:
        """Score rows in memory; NaN where a modality is missing or not finite. (n,)"""
        valid = rows.all_valid(self.modalities)
        found = np.full(len(rows), np.nan)
        if valid.any():
            found[valid] = self.score_rows(rows.having(self.modalities))
        return found

    def ordinary(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows count in moments that are taken again: those whose scores are no surprise.

        A score surprises that lies far above the median, measured by the distance of the upper quartile,
        which anomalies hardly move; and never more than one in ten does.
        """
        bulk = self.calibrated().bulk
        middle, upper, highest = np.interp([0.5, 0.75, TAIL_FROM], np.linspace(0, TAIL_FROM, len(bulk)), bulk)
        return ~(self.scores_of(rows) > max(highest, middle + SURPRISING * (upper - middle) / 0.6745))

    def score(self, data: Data) -> xr.DataArray:
        """Score objects, lazily; NaN where there is no finite vector.

        Parameters
        ----------
        data : Dataset, DataArray or array
            With the modalities that it was fitted to, of the same model.

        Returns
        -------
        DataArray
            (object,), float64, with the coordinate ``object_id``. Objects without a vector, or with one
            that is not finite, are NaN: :func:`fmbdask.anomaly.skipped` counts them in computed scores. The
            attribute ``missing`` says how many the store itself has no vector of.

        Raises
        ------
        InputError
            If it is not fitted, or vectors are of another width or another model.

        Warns
        -----
        UserWarning
            While it is computed, if vectors are not finite that the store does not say are missing.
        """
        name = f"{self.kind}_score"
        return scores({name: self}, data)[name]

    def p_value(self, data: Data) -> xr.DataArray:
        """Probability of an ordinary object to have such a score or a higher one, lazily.

        Parameters
        ----------
        data : Dataset, DataArray or array
            Objects as for :meth:`score`, or what that returned.

        Returns
        -------
        DataArray
            (object,), in (0, 1]; NaN where there is no score.
        """
        calibration = self.calibrated()
        is_score = isinstance(data, xr.DataArray) and data.dims == (OBJECT,)
        values = data if is_score else self.score(data)
        found = xr.apply_ufunc(calibration.p_value, values, dask="parallelized", output_dtypes=[np.float64])
        named: xr.DataArray = found.rename("p_value")
        return named

    def threshold(self, percentile: float) -> float:
        """Label from now on what scores higher than a share of ordinary objects.

        Parameters
        ----------
        percentile : float
            Of the scores of the calibration, its fitted tail included; from 0 to below 100.

        Returns
        -------
        float
            The threshold, which is saved with the model.

        Raises
        ------
        InputError
            If it is not fitted, or there is no such percentile.
        """
        if not 0 <= percentile < 100:
            raise InputError(f"there is no percentile {percentile}: give one from 0 to below 100")
        self.label_threshold = self.calibrated().quantile(percentile / 100)
        return self.label_threshold

    def predict(self, data: Data, *, p: float | None = None) -> tuple[xr.DataArray, xr.DataArray]:
        """Score objects and label the anomalous ones.

        Parameters
        ----------
        data : Dataset, DataArray or array
            Objects as for :meth:`score`.
        p : float, optional
            Label those whose p-value is smaller. By default those that score higher than
            :attr:`label_threshold`, or, if no threshold was set, with p-values below :data:`ANOMALOUS`.

        Returns
        -------
        scores, labels : DataArray
            (object,), float64 and int8: 1 anomalous, 0 not, -1 no score.
        """
        values = self.score(data)
        if p is None and self.label_threshold is not None:
            found = values > self.label_threshold
        else:
            found = self.p_value(values) < (ANOMALOUS if p is None else p)
        return values, found.where(values.notnull(), -1).astype(np.int8).rename("label").drop_attrs()

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save into a folder of its own: safetensors and JSON, no code.

        Raises
        ------
        InputError
            If it is not fitted.
        OutputExistsError
            If the folder exists and is not to be overwritten.
        """
        return save_checkpoint(folder, self.checkpoint(), overwrite=overwrite)

    def checkpoint(self) -> Checkpoint:
        """All that is saved; an InputError says if it is not fitted."""
        calibration = self.calibrated()
        own = self.state()
        common = {
            "folds": self.folds, "seed": self.seed, "group": self.group, "labels": self.labels,
            "widths": self.widths, "modalities": list(self.modalities), "provenance": self.provenance,
            "rounds": self.rounds, "label_threshold": self.label_threshold, "own": dict(own.meta),
        }  # fmt: skip
        arrays = {**own.arrays, **calibration.arrays()}
        return Checkpoint(self.kind, arrays, common, own.parts)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what :meth:`save` wrote.

        Raises
        ------
        InputError
            If there is no such model, it is damaged, or of another kind.
        """
        return cls.restored(load_checkpoint(folder, cls.kind), folder)

    @classmethod
    def restored(cls, saved: Checkpoint, source: str | os.PathLike[str]) -> Self:
        """Make a detector of what was saved, from a folder that messages name."""
        made = cls.__new__(cls)
        try:
            meta = saved.meta
            Detector.__init__(made, folds=int(meta["folds"]), seed=int(meta["seed"]))
            made.modalities = tuple(str(m) for m in meta["modalities"])
            made.widths = {str(m): int(width) for m, width in meta["widths"].items()}
            made.provenance, made.group = {m: dict(p) for m, p in meta["provenance"].items()}, meta["group"]
            made.labels, limit = meta.get("labels"), meta["label_threshold"]
            made.label_threshold = None if limit is None else float(limit)
            made.rounds = int(meta["rounds"])
            if set(made.modalities) != set(made.widths) or not made.widths:
                raise ValueError(f"it was fitted to {', '.join(made.widths) or 'nothing'}")
            made.restore(Checkpoint(saved.kind, saved.arrays, meta["own"], saved.parts))
            if len(made.widths) != made.takes:
                raise ValueError(f"it takes {made.takes} modalities, not {', '.join(made.widths)}")
            made.calibration = Calibration.from_arrays(saved.arrays)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise InputError(
                f"{source} holds no {cls.kind} model that can be used ({error}): train it again"
            ) from error
        return made

    def calibrated(self) -> Calibration:
        """What its scores of ordinary objects look like; an InputError says if it is not fitted."""
        if self.calibration is None:
            raise InputError(f"the {self.kind} detector is not fitted: call fit, or load a saved one")
        return self.calibration
