"""How sequences (light curves, ramps of pixels, telemetry) lie in vectors, and windows of long series.

A sequence of T steps with F features is kept as T x (F + 1) numbers, step after step, the last number of each
step being 1 where the step is valid and 0 where it is not; there its features are 0. So sequences go wherever
vectors go: through stores, samples, folds and detectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """Steps and features of a sequence.

    Examples
    --------
    >>> Shape(100, 3).width, str(Shape(100, 3)), Shape.parse("100x3") == Shape(100, 3)
    (400, '100x3', True)
    """

    steps: int
    features: int

    @property
    def width(self) -> int:
        """Numbers of a vector that holds such a sequence."""
        return self.steps * (self.features + 1)

    def __str__(self) -> str:
        return f"{self.steps}x{self.features}"

    @staticmethod
    def parse(text: str) -> Shape:
        """Inverse of ``str``.

        Raises
        ------
        InputError
            If it is no shape.
        """
        steps, _, features = text.partition("x")
        if not (steps.isdecimal() and features.isdecimal() and int(steps) and int(features)):
            raise InputError(f"{text!r} is no shape of a sequence: give STEPSxFEATURES, 100x3 say")
        return Shape(int(steps), int(features))


def flatten(values: NDArray[np.floating], valid: NDArray[np.bool_] | None = None) -> Floats:
    """Put sequences into vectors.

    Parameters
    ----------
    values : (n, steps, features)
    valid : (n, steps) bool, optional
        Which steps count. Without it those count whose features are all finite; with it, a valid step that is
        not finite makes the vector not finite.

    Returns
    -------
    (n, steps * (features + 1)) float32
        All NaN where no step is valid: such an object has no vector.
    """
    count, steps, features = values.shape
    out = np.empty((count, steps, features + 1), np.float32)
    use = np.isfinite(values).all(axis=2) if valid is None else np.asarray(valid, bool)
    with np.errstate(over="ignore", invalid="ignore"):
        out[..., :features] = np.where(use[..., None], values, 0)
    out[..., features] = use
    out[~use.any(axis=1)] = np.nan
    return out.reshape(count, steps * (features + 1))


def unflatten(vectors: Floats, shape: Shape) -> tuple[Floats, NDArray[np.bool_]]:
    """Inverse of :func:`flatten`: values (n, steps, features) and valid steps (n, steps)."""
    whole = vectors.reshape(len(vectors), shape.steps, shape.features + 1)
    return whole[..., : shape.features], whole[..., shape.features] > 0.5


@dataclass(frozen=True)
class Windows:
    """Windows of one or more series.

    Attributes
    ----------
    series, start : (n,) int64
        Which series a window is of, and its first step.
    block : (n,) int64
        Windows of different blocks have no step in common: blocks, not windows, are what may be split into
        folds, or into training and test.
    length : int
    """

    series: NDArray[np.int64]
    start: NDArray[np.int64]
    block: NDArray[np.int64]
    length: int

    def __len__(self) -> int:
        return len(self.start)

    def take(
        self, series: NDArray[np.generic], begin: int = 0, end: int | None = None
    ) -> NDArray[np.generic]:
        """Steps of windows ``begin`` to ``end``.

        Parameters
        ----------
        series : (s, steps, ...)

        Returns
        -------
        (windows, length, ...)
        """
        steps = self.start[begin:end, None] + np.arange(self.length)
        found: NDArray[np.generic] = series[self.series[begin:end, None], steps]
        return found


#: Blocks that series are cut into, in all, so that folds made of them are of about the same size.
BLOCKS = 50
#: Lengths of a window that a block has at least: at most a fifth of all windows lie across cuts.
LENGTHS_OF_BLOCK = 5


def default_blocks(lengths: NDArray[np.int64] | list[int], length: int) -> int:
    """Choose the blocks of each series for :func:`windows`: about 50 in all, and none too short.

    Parameters
    ----------
    lengths : (s,) int
        Steps of each series.
    length : int
        Steps of a window.

    Examples
    --------
    >>> default_blocks([100_000], 100), default_blocks([2_000], 100), default_blocks([500] * 80, 100)
    (50, 4, 1)
    """
    steps = np.asarray(lengths, np.int64)
    wanted = -(-BLOCKS // max(len(steps), 1))
    most = int(np.median(steps)) // (LENGTHS_OF_BLOCK * max(length, 1)) if len(steps) else 1
    return max(1, min(wanted, most))


def windows(lengths: NDArray[np.int64] | list[int], length: int, stride: int = 1, blocks: int = 1) -> Windows:
    """Cut series into windows.

    Parameters
    ----------
    lengths : (s,) int
        Steps of each series.
    length, stride : int
        Steps of a window, and from one window to the next.
    blocks : int
        Each series is cut into so many blocks of equal length, and windows that lie across a cut are left
        out, so that neighbouring windows may be in different folds without having steps in common.

    Returns
    -------
    Windows
        In the order of the series and of time.

    Raises
    ------
    InputError
        If no window fits, or a number is below 1.

    Examples
    --------
    >>> windows([10], 4, stride=2).start.tolist()
    [0, 2, 4, 6]
    >>> two = windows([10], 4, stride=1, blocks=2)
    >>> two.start.tolist(), two.block.tolist()
    ([0, 1, 5, 6], [0, 0, 1, 1])
    """
    for name, value in (("length", length), ("stride", stride), ("number of blocks", blocks)):
        if value < 1:
            raise InputError(f"the {name} of windows is {value}: give 1 or more")
    series: list[NDArray[np.int64]] = []
    starts: list[NDArray[np.int64]] = []
    block: list[NDArray[np.int64]] = []
    for number, steps in enumerate(np.asarray(lengths, np.int64).tolist()):
        start = np.arange(0, steps - length + 1, stride, dtype=np.int64)
        first, last = start * blocks // max(steps, 1), (start + length - 1) * blocks // max(steps, 1)
        start, first = start[first == last], first[first == last]
        series.append(np.full(len(start), number, np.int64))
        starts.append(start)
        block.append(number * blocks + first)
    joined = [np.concatenate([*part, np.empty(0, np.int64)]) for part in (series, starts, block)]
    if not len(joined[0]):
        longest = max(map(int, lengths), default=0)
        raise InputError(
            f"no window of {length} steps fits: the longest series has {longest} steps"
            + (f", cut into {blocks} blocks" if blocks > 1 else "")
            + ": give shorter windows"
        )
    return Windows(joined[0], joined[1], joined[2], length)
