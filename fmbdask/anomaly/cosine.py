"""Mismatch of two modalities whose vectors one model puts into one space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import xarray as xr
from fmbdask_kernels.vectors import cosines
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..errors import InputError
from .detector import Detector
from .objects import Data
from .protocol import Report
from .rows import Rows
from .summary import Summary


class Cosine(Detector):
    """Negative cosine similarity of the two vectors of an object, as they are.

    Nothing is learnt but which similarities are ordinary. An object with a vector of zeros has no score.

    Parameters
    ----------
    folds, seed : int
        See :class:`~fmbdask.anomaly.detector.Detector`; they change no score.
    """

    kind: ClassVar[str] = "cosine"
    takes: int = 2
    uses_moments: ClassVar[bool] = False
    by_fold: ClassVar[bool] = False

    def begin(
        self, widths: Mapping[str, int], provenance: Mapping[str, Mapping[str, Any]], group: str | None
    ) -> None:
        """Note what is learnt from.

        Raises
        ------
        InputError
            If these are not two modalities, or they differ in width.
        """
        super().begin(widths, provenance, group)
        (first, one), (second, other) = widths.items()
        if one != other:
            raise InputError(
                f"vectors of {first} have {one} features, those of {second} {other}: they have no cosine, "
                "use alignment, which learns to tell one from the other"
            )

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Nothing to learn."""

    def score_rows(self, rows: Rows) -> NDArray[Any]:
        """Negative similarities; (n,)."""
        first, second = self.modalities
        return -cosines(rows.vectors[first], rows.vectors[second])

    def similarity(self, data: Data) -> xr.DataArray:
        """Cosine similarity of the two vectors of each object, lazily.

        Returns
        -------
        DataArray
            (object,), float64, from -1 to 1; NaN where a vector is missing, not finite or zero.
        """
        scores = self.score(data)
        return (-scores).rename("cosine_similarity").assign_attrs(scores.attrs)

    def state(self) -> Checkpoint:
        """Nothing but the calibration, which all have."""
        return Checkpoint(self.kind)

    def restore(self, saved: Checkpoint) -> None:
        """Nothing to restore."""
