"""One search with several detectors: what is unusual in a modality, beyond its span, or in how two of them
match.

All learn from one summary and look at the same rows, so that what they have in common is made once. Their
p-values are combined; the smallest says which of them put an object into a list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..atomic import atomic
from ..checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from ..errors import InputError
from .alignment import Alignment
from .basis import SPAN
from .calibration import Calibration, Drift
from .contrast import Contrast
from .cosine import Cosine
from .detector import Detector
from .fusion import combine, reason
from .lazy import scores
from .mahalanobis import Mahalanobis
from .objects import OBJECT, Data, Objects
from .protocol import Report
from .reading import summary_of
from .residual import Residual
from .rows import Rows
from .summary import Summary
from .threads import cores
from .together import learn_together

#: How names of detectors begin whose p-values are combined. Distances in the span and over all components,
#: and raw cosines, are there to be looked at: what they find, these find with fewer ordinary objects before
#: it.
DECIDING = ("residual", "contrast", "flow", "alignment")
#: Ways of matching modalities.
ALIGNMENTS = ("auto", "mlp", "ridge", "none")


def default_detectors(
    widths: Mapping[str, int],
    *,
    alignment: str = "auto",
    cosine: bool | None = None,
    flow: bool = False,
    folds: int = 5,
    seed: int = 0,
) -> dict[str, tuple[Detector, tuple[str, ...]]]:
    """The detectors of a search, unfitted.

    Parameters
    ----------
    widths : mapping
        Modality -> features of its vectors; of more than two modalities, the first two are matched.
    alignment : {"auto", "mlp", "ridge", "none"}
        How the match is learnt; ``auto`` is ``mlp`` where torch is installed, else ``ridge``.
    cosine : bool, optional
        Whether vectors are compared as they are; by default where both modalities have as many features.
    flow : bool
        Whether a normalizing flow scores each modality as well.
    folds, seed : int

    Returns
    -------
    dict
        Name -> detector, modalities: ``span_image``, ``full_image``, ``residual_image``, ``contrast_image``,
        ``flow_image`` and those of the other modalities; ``alignment``, ``cosine``.

    Raises
    ------
    InputError
        If there is no such alignment.
    """
    if alignment not in ALIGNMENTS:
        raise InputError(f"there is no alignment by {alignment}: give one of {', '.join(ALIGNMENTS)}")
    common: dict[str, Any] = {"folds": folds, "seed": seed}
    found: dict[str, tuple[Detector, tuple[str, ...]]] = {}
    for modality, width in widths.items():
        own = (modality,)
        if width > SPAN:
            found[f"span_{modality}"] = Mahalanobis(span=SPAN, **common), own
        found[f"full_{modality}"] = Mahalanobis(span=None, **common), own
        if width > 1:
            found[f"residual_{modality}"] = Residual(span=min(SPAN, width // 2), **common), own
            found[f"contrast_{modality}"] = Contrast(**common), own
        if flow:
            from .flow import Flow

            found[f"flow_{modality}"] = Flow(**common), own
    pair = tuple(widths)[:2]
    if len(pair) == 2:
        if alignment == "auto":
            from importlib.util import find_spec

            alignment = "ridge" if find_spec("torch") is None else "mlp"
        if alignment != "none":
            found["alignment"] = Alignment(model="mlp" if alignment == "mlp" else "ridge", **common), pair
        if widths[pair[0]] == widths[pair[1]] if cosine is None else cosine:
            found["cosine"] = Cosine(**common), pair
    return found


class CrossModalSearch:
    """Detectors that search together.

    Parameters
    ----------
    alignment, cosine, flow, folds, seed
        See :func:`default_detectors`.

    Attributes
    ----------
    detectors : dict
        Name -> detector.
    """

    def __init__(
        self,
        *,
        alignment: str = "auto",
        cosine: bool | None = None,
        flow: bool = False,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        self.settings: dict[str, Any] = {
            "alignment": alignment, "cosine": cosine, "flow": flow, "folds": folds, "seed": seed,
        }  # fmt: skip
        self.detectors: dict[str, Detector] = {}

    def fit(
        self,
        data: Data,
        *,
        modalities: Sequence[str] | None = None,
        group: str | None = None,
        progress: Report | None = None,
        threads: int | None = None,
    ) -> Self:
        """Learn what is ordinary, in one pass over a store.

        Parameters
        ----------
        data : Dataset, DataArray or array
            See :meth:`fmbdask.anomaly.objects.Objects.of`.
        modalities : sequence of str, optional
            The first two are matched; all by default.
        group, progress, threads
            See :meth:`fmbdask.anomaly.Detector.fit`.
        """
        objects = Objects.of(data, modalities, group)
        self.begin(objects.widths, objects.provenance, group)
        summary = summary_of(
            objects,
            int(self.settings["folds"]),
            threads=cores() if threads is None else threads,
            progress=progress,
        )
        self.learn_from(summary, progress)
        return self

    def begin(
        self, widths: Mapping[str, int], provenance: Mapping[str, Mapping[str, Any]], group: str | None = None
    ) -> None:
        """Choose detectors for a store, and note what they will learn from."""
        self.detectors = {}
        for name, (detector, own) in default_detectors(widths, **self.settings).items():
            detector.begin({m: widths[m] for m in own}, {m: provenance.get(m, {}) for m in own}, group)
            self.detectors[name] = detector

    def learn_from(self, summary: Summary, progress: Report | None = None) -> None:
        """Fit and calibrate all detectors."""
        learn_together(self.detectors, summary, progress)

    @property
    def deciding(self) -> list[str]:
        """Detectors whose p-values are combined, see :data:`DECIDING`."""
        return [n for n in self.detectors if n.startswith(DECIDING)] or list(self.detectors)

    def scores_of(self, rows: Rows) -> dict[str, NDArray[np.float64]]:
        """Scores of rows by each detector, NaN where there is none; each (n,)."""
        return {name: detector.scores_of(rows) for name, detector in self.detectors.items()}

    def p_values(self, scores: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """Calibrated p-values of scores."""
        return {name: self._calibration(name).p_value(own) for name, own in scores.items()}

    def table_of(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """Score rows in memory, see :meth:`columns`."""
        return self.columns(self.scores_of(rows))

    def columns(self, scores: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[Any]]:
        """What scores mean.

        Returns
        -------
        dict
            For each detector ``score_<name>`` and ``p_<name>``; the combined ``p_value``; ``reason``, the
            place of the detector with the smallest p-value in :attr:`detectors`, -1 where there is no
            score.
        """
        p = self.p_values(scores)
        found: dict[str, NDArray[Any]] = {f"score_{name}": own for name, own in scores.items()}
        found |= {f"p_{name}": own for name, own in p.items()}
        deciding = self.deciding
        smallest = reason({name: p[name] for name in deciding})
        places = np.array([*(list(p).index(name) for name in deciding), -1])
        views: dict[tuple[str, ...], list[NDArray[np.float64]]] = {}
        for name in deciding:
            views.setdefault(self.detectors[name].modalities, []).append(p[name])
        combined = combine([combine(own) for own in views.values()])
        return {**found, "p_value": combined, "reason": places[smallest]}

    def score(self, data: Data) -> xr.Dataset:
        """Score all objects of a store, a few blocks in memory at a time.

        Returns
        -------
        Dataset
            Those of :meth:`columns` along ``object``, with names for reasons ("" where there is none).

        Raises
        ------
        InputError
            If it is not fitted, or to something else.
        """
        if not self.detectors:
            raise InputError("the search is not fitted: call fit, or load a saved one")
        found = scores(self.detectors, data).compute()
        columns = self.columns({name: found[name].values for name in self.detectors})
        columns["reason"] = np.array([*self.detectors, ""])[columns["reason"]]
        return xr.Dataset({n: (OBJECT, v) for n, v in columns.items()}, coords=found.coords)

    def drift(self, table: xr.Dataset) -> dict[str, Drift]:
        """How far the scores of other objects are from the calibration of each detector."""
        return {n: self._calibration(n).drift(table[f"score_{n}"].values) for n in self.detectors}

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Save all detectors, each in a folder of its own.

        Raises
        ------
        InputError
            If it is not fitted.
        OutputExistsError
            If the folder exists and is not to be overwritten.
        """
        if not self.detectors:
            raise InputError("the search is not fitted: call fit, or load a saved one")
        meta = {"settings": self.settings, "detectors": list(self.detectors)}
        with atomic(Path(folder), overwrite=overwrite) as temporary:
            save_checkpoint(temporary, Checkpoint("search", {}, meta))
            for name, detector in self.detectors.items():
                detector.save(temporary / name)
        return Path(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Load what :meth:`save` wrote.

        Raises
        ------
        InputError
            If there is no such search, or one of its models is damaged.
        """
        from . import load

        saved = load_checkpoint(folder, "search")
        made = cls(**saved.meta["settings"])
        made.detectors = {name: load(Path(folder) / name) for name in saved.meta["detectors"]}
        return made

    def _calibration(self, name: str) -> Calibration:
        found = self.detectors[name].calibration
        if found is None:
            raise InputError("the search is not fitted: call fit, or load a saved one")
        return found
