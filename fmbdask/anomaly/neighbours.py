"""How far a vector is from its nearest neighbours among a reference sample, never of its own fold."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from .detector import Detector, Report
from .rows import Rows
from .summary import Summary


class Neighbours(Detector):
    """Distance to the k-th nearest neighbour."""

    kind: ClassVar[str] = "neighbours"
    uses_moments: ClassVar[bool] = False

    def __init__(
        self,
        *,
        folds: int = 5,
        seed: int = 0,
        k: int = 5,
        method: Literal["largest", "mean"] = "largest",
        reference: int | None = None,
        approximate: bool = False,
        scale: Literal["standard", "robust", "none"] = "standard",
    ) -> None:
        super().__init__(folds=folds, seed=seed)
        self.k, self.method, self.reference, self.approximate = k, method, reference, approximate
        self.scale = scale

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        raise NotImplementedError

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        raise NotImplementedError

    def state(self) -> Checkpoint:
        raise NotImplementedError

    def restore(self, saved: Checkpoint) -> None:
        raise NotImplementedError
