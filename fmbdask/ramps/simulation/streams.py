"""Random numbers: one stream for each effect of each row, so that no cut of the work changes a bit.

What belongs to the detector (bias, hot pixels, noisy pixels) depends on the seed and the detector alone and
is the same in all its exposures; everything else depends on the exposure too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Effect(IntEnum):
    """Number of each effect in the seed of its streams: it decides the random numbers, so it stays."""

    LEVELS = 1
    COSMIC_RAYS = 2
    TELEGRAPH = 3
    SNOWBALLS = 4
    STARS = 5
    PERSISTENCE = 6
    AMPLIFIER_NOISE = 7
    GLITCHES = 8
    AMPLIFIER_BIAS = 20
    BIAS = 21
    DARK = 22
    HOT = 23
    DEAD = 24
    READ_NOISE = 25
    NONLINEARITY = 26
    FULL_WELL = 27
    SETTLING = 28
    RESET = 40
    CHARGE = 41
    RELEASE = 42
    READ = 43
    PINK = 44
    ROW = 45


_EXPOSURE, _DETECTOR = 0, 1


@dataclass(frozen=True)
class Exposure:
    """Which exposure of the survey: all that its random numbers depend on.

    Attributes
    ----------
    seed, index : int
        Of the survey, and of the exposure in it.
    detector : int
        Position of the detector in ``gain_library``.
    baseline : bool
        An exposure without events.
    number : int
        Counts the exposures of equal index, detector and kind.
    """

    seed: int
    index: int
    detector: int = 0
    baseline: bool = False
    number: int = 0

    def stream(self, effect: Effect, row: int = 0) -> np.random.Generator:
        """Random numbers of this exposure for one effect (and row)."""
        key = (_EXPOSURE, self.index, self.detector, int(self.baseline), self.number, int(effect), row)
        return _generator(self.seed, key)

    def detector_stream(self, effect: Effect, row: int = 0) -> np.random.Generator:
        """Random numbers that all exposures of this detector share."""
        return _generator(self.seed, (_DETECTOR, self.detector, int(effect), row))


def log_uniform(rng: np.random.Generator, bounds: tuple[float, float], count: int) -> NDArray[np.float64]:
    """Draw ``count`` numbers whose logarithm is uniform between those of the bounds."""
    return np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), count))


def _generator(seed: int, key: tuple[int, ...]) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))
