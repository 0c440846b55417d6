"""Persistence is no hit, and a hit among the first reads is one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from fmbdask.ramps import detect
from fmbdask.ramps.events import STEP
from fmbdask.ramps.fading import FRAMES, advantage

from .made_up import SIGMA, counts, labelled

SIZE, APART, LENGTH = 80, 8, 100
CENTRES = [(y, x) for y in range(6, SIZE - 4, APART) for x in range(6, SIZE - 4, APART)]


def found_near(rise: NDArray[np.float64], seed: int) -> int:
    """How many of the places where 2 x 2 pixels rise so are called a cosmic ray."""
    data = counts(LENGTH, SIZE, SIZE, seed=seed, dtype=np.float64)
    for y, x in CENTRES:
        data[:, y : y + 2, x : x + 2] += rise[:, None, None]
    ramp = labelled(np.rint(data).astype(np.uint16))
    events = detect(ramp).events
    hits = events[events["type"] == "cosmic_ray"]
    return len(
        {(round((y - 6) / APART), round((x - 6) / APART)) for y, x in zip(hits["y"], hits["x"], strict=True)}
    )


@pytest.mark.parametrize("lasting", [4.0, 9.0])
def test_spots_that_fade_are_no_hits(lasting: float) -> None:
    fading = 4.5 * SIGMA * (1 - np.exp(-np.arange(LENGTH) / lasting))
    assert found_near(fading, 5) <= 0.16 * len(CENTRES)


@pytest.mark.parametrize("frame", [2, 4, 9])
def test_hits_among_the_first_reads_stay(frame: int) -> None:
    step = 4.5 * SIGMA * (np.arange(LENGTH) >= frame)
    assert found_near(step.astype(float), 6) >= 0.96 * len(CENTRES)


def test_touching_pixels_share_a_frame_or_a_decay() -> None:
    steps = np.zeros(6, STEP)
    steps["y"], steps["x"] = [4, 5, 9, 10, 20, 20], [4, 5, 4, 4, 4, 4]
    steps["integration"][5] = 1
    gains = steps["gains"]
    gains[0, 3], gains[1, 5] = 30, 30  # steps, but not in one frame
    gains[:2, FRAMES + 2] = 25
    gains[2, 3], gains[3, 3] = 30, 30
    gains[2:4, FRAMES + 1] = 20, 10
    gains[5, 2] = 7
    wanted = [30 - 50, 30 - 50, 60 - 30, 60 - 30, np.inf, 7]
    np.testing.assert_allclose(advantage(steps), wanted)
