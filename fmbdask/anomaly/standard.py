"""Features brought to one scale, by numbers that a few gross values do not move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

#: Ways to scale.
SCALES = ("standard", "robust", "none")
#: Networks see features clipped at so many scales.
CLIP = 10.0
#: Share of the values of a feature, at either end, that count no more than the next one inwards.
GROSS = 0.002
#: Width of the columns that are sorted at a time.
COLUMNS = 64


@dataclass(frozen=True)
class Standard:
    """Centre and scale of each feature.

    Attributes
    ----------
    centre, scale : (width,) float64
    """

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    @staticmethod
    def of(vectors: NDArray[np.float32], how: str) -> Standard:
        """Learn from vectors.

        Parameters
        ----------
        vectors : (n, width) float32
            Finite; at least one.
        how : {"standard", "robust", "none"}
            ``standard``: mean and deviation, with the outermost values of each feature (:data:`GROSS`, at
            least one on either side) drawn in to the next; ``robust``: median and quartiles; ``none``: as it
            is. Where a scale is 0 the next coarser one counts, and 1 for a feature that is constant.
        """
        count, width = vectors.shape
        centre, scale = np.zeros(width), np.ones(width)
        for begin in range(0, width if how != "none" else 0, COLUMNS):
            own = slice(begin, begin + COLUMNS)
            values = np.sort(vectors[:, own].astype(np.float64), axis=0)
            cut = min(max(1, round(GROSS * count)), (count - 1) // 2)
            drawn = values.copy()
            drawn[:cut], drawn[count - cut :] = values[cut], values[count - 1 - cut]
            scales = [drawn.std(axis=0), values.std(axis=0), np.ones(values.shape[1])]
            if how == "robust":
                low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
                centre[own] = middle
                scales.insert(0, (high - low) / 1.349)
            else:
                centre[own] = drawn.mean(axis=0)
            size = np.maximum(np.abs(values).max(axis=0), 1e-30)
            found = np.zeros(values.shape[1])
            for one in reversed(scales):
                found = np.where(one > 1e-7 * size, one, found)  # the rest is rounding
            scale[own] = np.where(found > 0, found, 1.0)
        return Standard(centre, scale)

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors (n, width) in scales from the centre: float32, subtracted in float64."""
        found: NDArray[np.float32] = ((vectors - self.centre) / self.scale).astype(np.float32)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is saved."""
        return {"centre": self.centre, "scale": self.scale}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]], width: int) -> Standard:
        """Inverse of :meth:`arrays`.

        Raises
        ------
        ValueError
            If they are not of so many features.
        """
        centre, scale = arrays["centre"], arrays["scale"]
        if centre.shape != (width,) or scale.shape != (width,) or not (scale > 0).all():
            raise ValueError(f"centre and scale of {width} features have the shape {centre.shape}")
        return Standard(centre, scale)


def check_scale(how: str) -> None:
    """Refuse a scale that there is not.

    Raises
    ------
    ConfigError
    """
    if how not in SCALES:
        raise ConfigError(f"there is no scale {how}: give {', '.join(SCALES)}")
