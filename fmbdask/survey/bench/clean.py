"""False alarms on ramps without events, against the stated rate, and single steps put into such ramps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from fmbdask.ramps.detect import Detection, detect
from fmbdask.ramps.simulation import Exposure, make_exposure, plan_exposure

from .settings import FIRST_SEED, Noise

#: False-alarm rates that are stated.
STATED = (1e-3, 1e-4, 1e-5)
#: Steps put into clean ramps [sigma], on every so-manieth pixel along rows and columns.
STEPS, LATTICE = (2.0, 3.0, 4.0, 6.0), 8
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
        low = stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0
        high = stats.chi2.ppf(0.975, 2 * count + 2) / 2
        rows.append(
            {
                "noise": noise.name,
                "frames": frames,
                "stated": alpha,
                "ramps": ramps,
                "expected": expected,
                "found": count,
                "ratio": count / expected,
                "low": float(low) / expected,
                "high": float(high) / expected,
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
        One row a stated rate: ``noise, frames, stated, flagged`` (share of the other ramps with any flag) and
        ``found_2`` and so on: the share found within three frames, by amplitude in sigma.
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
        stepped = data[:, y, x] + (np.arange(frames)[:, None] >= frame) * np.rint(step)
        data[:, y, x] = stepped.astype(data.dtype)
        active = np.zeros((size, size), bool)
        active[border:-border, border:-border] = True
        active[y, x] = False
        for alpha in rates:
            seen = detect(ramp, false_alarm_rate=alpha)
            flagged = (seen.maps["mask"].values[0] > 0)[active].mean()
            hits[alpha].append((flagged, amplitude, _near(seen, y, x, frame)))
    rows = []
    for alpha, parts in hits.items():
        put, got = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        shares = {f"found_{a:g}": float(got[put == a].mean()) for a in STEPS}
        flagged = float(np.mean([part[0] for part in parts]))
        rows.append({"noise": noise.name, "frames": frames, "stated": alpha, "flagged": flagged} | shares)
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
