"""Telegraph noise: pixels whose read-out jumps between two levels at random times."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from .config import SimulationConfig
from .deposits import Float, Int
from .streams import Effect, Exposure


@dataclass(frozen=True)
class TelegraphList:
    """Telegraph pixels of an exposure, sorted by row, each (n,).

    ``amplitude`` of the high level above the low one [electron], ``period`` mean time of one high and one low
    together [frame], ``duty`` share of the time in the high level, ``high`` (n, T) the level of each frame.
    """

    y: Int
    x: Int
    amplitude: Float
    period: Float
    duty: Float
    high: NDArray[np.bool_]

    def rows(self, y0: int, y1: int) -> TelegraphList:
        """Those of rows ``y0`` to ``y1`` (exclusive)."""
        cut = slice(*np.searchsorted(self.y, [y0, y1]))
        return TelegraphList(*(getattr(self, field.name)[cut] for field in fields(self)))


def draw_telegraph(config: SimulationConfig, exposure: Exposure) -> TelegraphList:
    """Draw the telegraph pixels of one exposure: different pixels, none in the border.

    Each is a two-state Markov process in continuous time, seen at the reads: dwell times are exponential with
    means ``period * duty`` (high) and ``period * (1 - duty)`` (low), and the first state is drawn as if the
    process had always run.
    """
    rng = exposure.stream(Effect.TELEGRAPH)
    low, high = config.rtn_per_exp_range
    wanted = config.effects.telegraph and config.injection_type in ("rtn", "all") and not exposure.baseline
    rows, columns = (size - 2 * config.border for size in config.image_shape)
    count = min(int(rng.integers(low, high + 1)), rows * columns) if wanted else 0
    y, x = np.divmod(np.sort(rng.choice(rows * columns, count, replace=False)), columns)
    amplitude = rng.uniform(*config.rtn_offset_range, count)
    period = rng.uniform(*config.rtn_period_range, count)
    duty = rng.uniform(*config.rtn_duty_fraction_range, count)

    frames = config.num_frames
    state = np.empty((frames, count), np.bool_)
    chance = rng.random((frames, count))
    # both rates together, 1 / dwell_high + 1 / dwell_low
    forget = -np.expm1(-1 / (period * duty * (1 - duty)))
    state[0] = chance[0] < duty
    for i in range(1, frames):
        leave = np.where(state[i - 1], 1 - duty, duty) * forget
        state[i] = state[i - 1] ^ (chance[i] < leave)
    border = config.border
    return TelegraphList(y + border, x + border, amplitude, period, duty, np.ascontiguousarray(state.T))
