"""What a GPU could do at best: its bandwidth and its rate of instructions against what the kernel needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fmbdask_kernels.cupy.temporal import WIDTH
from fmbdask_kernels.planes import COUNT
from numpy.typing import NDArray

#: Instructions per pixel and frame, counted in the machine code of the loops over the frames (sm_90, NVRTC
#: 13.5; benchmarks/gpu_instructions.py prints them): the passes of every pixel, and one look of each search.
PASSES = {"first": 20.4, "forward": 15.4, "backward": 20.8}
LOOKS = {"median": 6.25, "deviation": 7.25}
#: Instructions that a multiprocessor issues in a clock, counted in threads: four warps.
ISSUED = 128
#: Bytes of a read.
READ = 2
#: Pixels of an exposure.
EXPOSURE = 2048 * 2048


@dataclass(frozen=True)
class Limits:
    """What a card can do.

    Attributes
    ----------
    name : str
    processors : int
        Multiprocessors.
    clock : float
        Highest clock [Hz].
    bandwidth : float
        Of its memory [byte/s].
    """

    name: str
    processors: int
    clock: float
    bandwidth: float

    @property
    def issued(self) -> float:
        """Instructions of threads in a second."""
        return self.processors * ISSUED * self.clock


@dataclass(frozen=True)
class Roofline:
    """Shortest times of the fused pass per pixel and frame [s], by memory and by instructions."""

    memory: float
    instructions: float

    @property
    def best(self) -> float:
        """The longer of the two: what takes longest cannot be passed."""
        return max(self.memory, self.instructions)

    @property
    def limit(self) -> str:
        """Name of what limits."""
        return "memory" if self.memory >= self.instructions else "instructions"


def looks_of_warps(seen: NDArray[np.int32]) -> tuple[float, float]:
    """Looks that a warp makes for median and deviation, on average: those of its slowest pixel.

    Parameters
    ----------
    seen : (ny, nx) int32 array
        From :func:`fmbdask_kernels.cupy.temporal.features`.
    """
    ny, nx = seen.shape
    whole = np.zeros((ny, -(-nx // WIDTH) * WIDTH), np.int32)
    whole[:, :nx] = seen
    warps = whole.reshape(-1, WIDTH)
    return float((warps & 255).max(axis=1).mean()), float((warps >> 8).max(axis=1).mean())


def instructions_per_value(looks: tuple[float, float]) -> float:
    """Instructions per pixel and frame with so many looks."""
    return sum(PASSES.values()) + looks[0] * LOOKS["median"] + looks[1] * LOOKS["deviation"]


def bytes_per_value(frames: int) -> float:
    """Bytes that must go through the card's memory per pixel and frame: the counts, and the planes."""
    return READ + 4 * COUNT / frames


def roofline(card: Limits, frames: int, looks: tuple[float, float]) -> Roofline:
    """Shortest times on a card.

    Parameters
    ----------
    card : Limits
    frames : int
    looks : (float, float)
        From :func:`looks_of_warps`.
    """
    return Roofline(bytes_per_value(frames) / card.bandwidth, instructions_per_value(looks) / card.issued)


def exposures_per_second(seconds_per_value: float, frames: int) -> float:
    """Exposures of ``frames`` x 2048 x 2048 in a second."""
    return 1 / (seconds_per_value * frames * EXPOSURE)
