"""False alarms on ramps without events, against the stated rate, and single steps put into such ramps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from fmbdask.ramps.detect import Detection, detect
from fmbdask.ramps.history import poisson_interval
from fmbdask.ramps.simulation import Exposure, make_exposure, plan_exposure

from ..settings import FIRST_SEED, Noise

#: False-alarm rates that are stated.
STATED = (1e-3, 1e-4, 1e-5)
#: Steps put into clean ramps [sigma], on every so-manieth pixel along rows and columns.
STEPS, LATTICE = (2.0, 3.0, 4.0, 6.0), 12
#: Pixels within which what is flagged may have been grouped with such a step.
BESIDE = 3
#: Frames by which the found frame of such a step may be off.
NEAR = 3


def false_alarms(noise: Noise, frames: int, size: int, exposures: int) -> pd.DataFrame:
    """Count events found where there are none.

    Parameters
    ----------
    noise : Noise
    frames, size : int
        Frames, and pixels along each side of an exposure.
    exposures : int
        So many of them are added up.

    Returns
    -------
    DataFrame
        One row a stated rate: ``noise, frames, stated, ramps, expected, found, ratio`` and its 95 % interval
        ``low, high`` (Garwood 1936).
    """
    config = noise.sized(frames, size, size)
    found, ramps = dict.fromkeys(STATED, 0), 0
    for k in range(exposures):
        ramp, _ = make_exposure(config, seed=FIRST_SEED + k, baseline=True)
        ramps += (size - 2 * config.border) ** 2
        for alpha in STATED:
            found[alpha] += len(detect(ramp, false_alarm_rate=alpha).events)
    rows = []
    for alpha in STATED:
        expected, count = alpha * ramps, found[alpha]
        low, high = poisson_interval(count)
        rows.append(
            {
                "noise": noise.name,
                "frames": frames,
                "stated": alpha,
                "ramps": ramps,
                "expected": expected,
                "found": count,
                "ratio": count / expected,
                "low": low / expected,
                "high": high / expected,
            }
        )
    return pd.DataFrame(rows)


def single_steps(
    noise: Noise, frames: int, size: int, exposures: int, rates: Sequence[float]
) -> pd.DataFrame:
    """Put single steps into clean ramps, at any frame but the first, and see which are found.

    Returns
    -------
    DataFrame
        One row a stated rate: ``noise, frames, stated``; of the other ramps ``beside`` and ``away`` from a
        step (within three pixels of it, or not) the numbers and the shares with any flag, ``flagged_beside``
        and ``flagged_away``: the former join the event of a step, the latter are false alarms, with a 95 %
        interval ``low, high`` (Garwood 1936); ``found_2`` and so on: the share found within three frames, by
        amplitude in sigma.
    """
    config = noise.sized(frames, size, size)
    border = config.border
    lattice = np.arange(border + LATTICE // 2, size - border, LATTICE)
    hits: dict[float, list[Any]] = {alpha: [] for alpha in rates}
    for k in range(exposures):
        seed = FIRST_SEED + k
        ramp, _ = make_exposure(config, seed=seed, baseline=True)
        plan = plan_exposure(config, Exposure(seed, 0, 0, True, 0), "steps")
        rng = np.random.default_rng(seed)
        y, x = (v.ravel() for v in np.meshgrid(lattice, lattice, indexing="ij"))
        amplitude = rng.choice(STEPS, y.size)
        frame = rng.integers(1, frames, y.size)
        step = amplitude * plan.maps(0, size).noise[y, x] / plan.gain
        data = ramp.values[0]
        lifted = data[:, y, x] + (np.arange(frames)[:, None] >= frame) * np.rint(step)
        data[:, y, x] = lifted.astype(data.dtype)
        active = np.zeros((size, size), bool)
        active[border:-border, border:-border] = True
        stepped = np.zeros((size, size), bool)
        stepped[y, x] = True
        beside = ndimage.binary_dilation(stepped, np.ones((2 * BESIDE + 1,) * 2, np.bool_))
        places = active & beside & ~stepped, active & ~beside
        for alpha in rates:
            seen = detect(ramp, false_alarm_rate=alpha)
            flagged = seen.maps["mask"].values[0] > 0
            counted = [(int(flagged[p].sum()), int(p.sum())) for p in places]
            hits[alpha].append((counted, amplitude, _near(seen, y, x, frame)))
    rows = []
    for alpha, parts in hits.items():
        put, got = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        shares = {f"found_{a:g}": float(got[put == a].mean()) for a in STEPS}
        (near, beside), (far, away) = np.sum([part[0] for part in parts], axis=0).tolist()
        low, high = poisson_interval(far)
        flags = {
            "beside": beside,
            "flagged_beside": near / beside,
            "away": away,
            "flagged_away": far / away,
            "low": low / away,
            "high": high / away,
        }
        rows.append({"noise": noise.name, "frames": frames, "stated": alpha} | flags | shares)
    return pd.DataFrame(rows)


def _near(seen: Detection, y: Any, x: Any, frame: Any) -> Any:
    """Which places have a step within a few frames of the one put there."""
    steps = seen.steps
    by_place: dict[tuple[int, int], list[int]] = {}
    for row, column, k in zip(steps["y"], steps["x"], steps["frame"], strict=True):
        by_place.setdefault((row, column), []).append(k)
    return np.array(
        [
            any(abs(k - at) <= NEAR for k in by_place.get((row, column), ()))
            for row, column, at in zip(y.tolist(), x.tolist(), frame.tolist(), strict=True)
        ]
    )
