"""What scoring and learning need of a detector, whatever its family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration
from .rows import Rows
from .summary import Summary

#: Called with (done, total, text).
Report = Callable[[int, int, str], None]


class Scorer(Protocol):
    """A fitted :class:`~fmbdask.anomaly.detector.Detector`.

    Attributes
    ----------
    kind : str
        Family.
    takes : int
        Modalities that it takes.
    by_fold : bool
        Whether a score depends on the fold of an object, or on its key.
    modalities, widths, provenance
        What it was fitted to.
    group : str, optional
        Column that keeps objects in one fold.
    """

    @property
    def kind(self) -> str: ...
    @property
    def takes(self) -> int: ...
    @property
    def by_fold(self) -> bool: ...
    @property
    def modalities(self) -> tuple[str, ...]: ...
    @property
    def widths(self) -> Mapping[str, int]: ...
    @property
    def provenance(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def group(self) -> str | None: ...

    def calibrated(self) -> Calibration:
        """What its scores of ordinary objects look like."""

    def scores_of(self, rows: Rows) -> NDArray[np.float64]:
        """Score rows in memory; NaN where a modality is missing. (n,)"""


class Learner(Protocol):
    """A :class:`~fmbdask.anomaly.detector.Detector` that knows its modalities and is to be fitted.

    Attributes
    ----------
    modalities : tuple of str
    supervised : bool
        Whether it learns from objects that labels say are anomalous, too.
    """

    @property
    def modalities(self) -> tuple[str, ...]: ...
    @property
    def supervised(self) -> bool: ...

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Fit the models of all folds."""

    def to_calibrate(self, rows: Rows) -> NDArray[np.float64]:
        """What is calibrated, of some rows of the sample. (n, ...)"""

    def calibrate(self, scores: NDArray[np.float64]) -> None:
        """Take what :meth:`to_calibrate` gave of the whole sample for ordinary."""


def scored(scorer: Scorer, rows: Rows) -> NDArray[np.float64]:
    """Scores of rows by a fitted detector, made once for all that want them; (n,)."""
    return rows.made(("scores", scorer), lambda: scorer.scores_of(rows))
