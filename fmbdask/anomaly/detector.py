"""What all detectors of anomalous objects have in common: fit, score, p_value, predict, save and load.

A family of detectors says how it learns from a summary of a store and how it scores rows in memory; reading,
folds, calibration, laziness and files are here. Nothing it scores depends on other rows.
"""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ..errors import InputError
from .calibration import Calibration
from .objects import OBJECT, Data, Objects, usable
from .rows import Rows
from .summary import Summary, merge_summaries, sample_limit, summarise
from .threads import one_thread

Report = Callable[[int, int, str], None]


class Detector(ABC):
    """A detector of anomalous objects; higher scores are more anomalous.

    Parameters
    ----------
    folds : int
        Models that are fitted, each without the objects of one fold, which it scores; 1 for one model that
        scores what it was fitted to.
    seed : int
        Of what is random in the fit.
    """

    #: What saved models of this family are called.
    kind: ClassVar[str]
    #: Modalities that it takes.
    takes: ClassVar[int] = 1
    #: How often moments are taken again without the objects that turned out anomalous.
    reweights: int = 0

    def __init__(self, *, folds: int = 5, seed: int = 0) -> None:
        if folds < 1:
            raise InputError(f"{folds} folds cannot be: give 1 or more")
        self.folds, self.seed = folds, seed
        self.modalities: tuple[str, ...] = ()
        self.widths: dict[str, int] = {}
        self.provenance: dict[str, dict[str, Any]] = {}
        self.group: str | None = None
        self.calibration: Calibration | None = None

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
        progress: Report | None = None,
    ) -> Self:
        """Learn what is ordinary.

        Parameters
        ----------
        data : Dataset, DataArray or array
            See :meth:`fmbdask.anomaly.objects.Objects.of`.
        modalities : sequence of str, optional
            Which ones of a store, as many as the detector takes.
        group : str, optional
            Column whose equal values keep objects in one fold (duplicates of one source, say).
        progress : callable, optional
            Called with (done, total, text).

        Returns
        -------
        Detector
            Itself.

        Raises
        ------
        InputError
            If there are too few objects, or not the modalities it takes.
        """
        objects = Objects.of(data, modalities, group)
        self.begin(objects.widths, objects.provenance, group)
        summary = self._summary(objects, None, progress)
        for modality, count in summary.unusable.items():
            if count:
                warnings.warn(
                    f"{count} of {len(objects)} objects have no finite vector of {modality}: left out",
                    stacklevel=2,
                )
        self.learn_from(summary, progress)
        for _ in range(self.reweights):
            self.learn_from(self._summary(objects, self.ordinary, progress), progress)
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

    def learn_from(self, summary: Summary, progress: Report | None = None) -> None:
        """Fit to a summary, and calibrate on its sample, whose rows their models never saw."""
        with one_thread():
            self.learn(summary, progress)
            self.calibration = Calibration.fit(self.scores_of(summary.sample))

    def scores_of(self, rows: Rows) -> NDArray[np.float64]:
        """Score rows in memory; NaN where a modality is missing or not finite. (n,)"""
        valid = rows.all_valid(self.modalities)
        scores = np.full(len(rows), np.nan)
        if valid.all() and len(rows):
            scores[:] = self.score_rows(rows)
        elif valid.any():
            scores[valid] = self.score_rows(rows.take(valid))
        return scores

    def ordinary(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows may count in moments: those whose p-value is no surprise among so many."""
        p = self._calibrated().p_value(self.scores_of(rows))
        return ~(p < SURPRISING)

    def score(self, data: Data) -> xr.DataArray:
        """Score objects, lazily; NaN where there is no finite vector.

        Parameters
        ----------
        data : Dataset, DataArray or array
            With the modalities that it was fitted to, of the same model.

        Returns
        -------
        DataArray
            (object,), float64.

        Raises
        ------
        InputError
            If it is not fitted, or vectors are of another width or another model.
        """
        import dask.array as da

        self._calibrated()
        objects = self._checked(data)
        first = next(iter(objects.arrays.values())).chunks[0]
        columns = [a.rechunk((first, -1)) for a in objects.arrays.values()]
        flags = [da.from_array(objects.known[m], chunks=(first,)) for m in objects.modalities]
        hashes = [da.from_array(v, chunks=(first,)) for v in (objects.keys, objects.groups)]
        lazy = da.blockwise(
            _score_chunk, "o", self, None,
            *[x for a, axis in zip(columns, "abcdefg", strict=False) for x in (a, f"o{axis}")],
            *[x for v in (*flags, *hashes) for x in (v, "o")],
            concatenate=True, dtype=np.float64, meta=np.empty(0),
        )  # fmt: skip
        return xr.DataArray(
            lazy, dims=(OBJECT,), coords={"object_id": (OBJECT, objects.ids)}, name=f"{self.kind}_score"
        )

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
        calibration = self._calibrated()
        is_score = isinstance(data, xr.DataArray) and data.dims == (OBJECT,)
        scores = data if is_score else self.score(data)
        assert isinstance(scores, xr.DataArray)
        found = xr.apply_ufunc(calibration.p_value, scores, dask="parallelized", output_dtypes=[np.float64])
        named: xr.DataArray = found.rename("p_value")
        return named

    def predict(self, data: Data, *, p: float = 1e-3) -> tuple[xr.DataArray, xr.DataArray]:
        """Score objects and label those whose p-value is below ``p``.

        Returns
        -------
        scores, labels : DataArray
            (object,), float64 and int8: 1 anomalous, 0 not, -1 no score.
        """
        scores = self.score(data)
        values = self.p_value(scores)
        labels = (values < p).where(values.notnull(), -1).astype(np.int8)
        return scores, labels.rename("label")

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save into a folder of its own: safetensors and JSON, no code.

        Raises
        ------
        InputError
            If it is not fitted.
        OutputExistsError
            If the folder exists and is not to be overwritten.
        """
        own = self.state()
        common = {
            "folds": self.folds, "seed": self.seed, "group": self.group, "widths": self.widths,
            "modalities": list(self.modalities), "provenance": self.provenance, "own": dict(own.meta),
        }  # fmt: skip
        arrays = {**own.arrays, **self._calibrated().arrays()}
        return save_checkpoint(folder, Checkpoint(self.kind, arrays, common), overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what :meth:`save` wrote.

        Raises
        ------
        InputError
            If there is no such model, it is damaged, or of another kind.
        """
        saved = load_checkpoint(folder, cls.kind)
        meta = saved.meta
        made = cls.__new__(cls)
        Detector.__init__(made, folds=meta["folds"], seed=meta["seed"])
        made.modalities, made.widths = tuple(meta["modalities"]), dict(meta["widths"])
        made.provenance, made.group = dict(meta["provenance"]), meta["group"]
        made.restore(Checkpoint(saved.kind, saved.arrays, meta["own"]))
        made.calibration = Calibration.from_arrays(saved.arrays)
        return made

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise InputError(f"the {self.kind} detector is not fitted: call fit, or load a saved one")
        return self.calibration

    def _checked(self, data: Data) -> Objects:
        """Objects of what it was fitted to."""
        if not isinstance(data, xr.Dataset):
            objects = Objects.of(data)
            if self.takes == 1:  # an array has no name of its own
                objects = objects.renamed(self.modalities[0])
        else:
            objects = Objects.of(data, self.modalities, self.group)
        for modality, width in self.widths.items():
            found = objects.widths[modality]
            if found != width:
                raise InputError(
                    f"vectors of {modality} have {found} features, the model was fitted to {width}: "
                    "give the store of the same model"
                )
            own, other = self.provenance.get(modality, {}), objects.provenance.get(modality, {})
            for key in ("model", "weights_sha256"):
                if own.get(key) and other.get(key) and own[key] != other[key]:
                    raise InputError(
                        f"vectors of {modality} have {key} {other[key]}, the model was fitted to {own[key]}: "
                        "fit it to this store"
                    )
        return objects

    def _summary(
        self, objects: Objects, keep: Callable[[Rows], NDArray[np.bool_]] | None, progress: Report | None
    ) -> Summary:
        limit = sample_limit(len(objects), objects.widths)
        share = limit / max(1, len(objects)) * (1.0 if limit == len(objects) else 1.05)

        def spans() -> Any:
            done = 0
            for rows in objects.spans():
                yield summarise(rows, self.folds, share=share, keep=keep)
                done += len(rows)
                if progress is not None:
                    progress(done, len(objects), f"{self.kind}: moments")

        return merge_summaries(spans(), limit)


#: Objects with smaller p-values do not count in reweighted moments.
SURPRISING = 1e-3


def _score_chunk(detector: Detector, *arrays: NDArray[Any]) -> NDArray[np.float64]:
    """Score the objects of one chunk: vectors and flags of each modality, and the two hashes."""
    count = len(detector.modalities)
    vectors = {
        m: np.ascontiguousarray(v, np.float32)
        for m, v in zip(detector.modalities, arrays[:count], strict=True)
    }
    known = dict(zip(detector.modalities, arrays[count : 2 * count], strict=True))
    valid = {m: usable(v, known[m]) for m, v in vectors.items()}
    keys, groups = arrays[2 * count :]
    with one_thread():
        return detector.scores_of(Rows(0, vectors, valid, keys, groups))
