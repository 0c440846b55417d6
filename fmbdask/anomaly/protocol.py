"""What scoring needs of a detector, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .calibration import Calibration
from .rows import Rows


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
