"""Which planted faults detectors find among sequences: LSTM networks against components of windows.

    python benchmarks/sequences.py [--seeds 100 101 102] [--objects 3000] [--steps 100] [--complete]
                                   [--detector NAME ...] [--set NAME=VALUE ...]

Light curves are made from a seed: two harmonics of a period, an amplitude and a phase of each object's own,
correlated noise, and steps that are not valid, scattered and in gaps (``--complete``: none). All detectors
are fitted without labels to a set of which one in a hundred has a fault (the supervised one with labels, to a
set of which one in ten has), and score another set, half of it ordinary, with equal numbers of each fault.
Printed are areas under the ROC curve of each fault against ordinary sequences, as means over the seeds.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from functools import partial
from typing import Any

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fmbdask.anomaly import Detector, Lstm, Residual
from fmbdask.anomaly.threads import cores

Values = NDArray[np.float64]
#: Share of the steps that are not valid one by one, and of the sequences that have a gap.
SCATTERED, WITH_GAP = 0.1, 0.3
#: Correlation of the noise from one step to the next, and its deviation; the amplitude is about 1.
CORRELATION, NOISE = 0.6, 0.15
FAULTS = ("level shift", "spike burst", "frequency change", "flat line", "noise increase", "drift")


def made(
    count: int, steps: int, random: np.random.Generator, fault: str | None = None, complete: bool = False
) -> tuple[Values, NDArray[np.bool_]]:
    """Sequences (count, steps) with a fault in a part of each, if any, and their valid steps."""
    time = np.arange(steps)
    rate = 2 * np.pi * random.uniform(3, 8, (count, 1)) / 100
    phase = random.uniform(0, 2 * np.pi, (count, 1))
    first = random.integers(steps // 5, 3 * steps // 5, (count, 1))
    last = first + random.integers(steps // 5, 2 * steps // 5, (count, 1))
    inside = (time >= first) & (time < last)
    turn = phase + rate * time
    if fault == "frequency change":
        factor = np.where(random.random((count, 1)) < 0.5, 0.6, 1.5)
        turn = phase + np.cumsum(np.where(inside, rate * factor, rate), axis=1)
    amplitude = np.exp(random.normal(0, 0.2, (count, 1)))
    shape = random.normal(0, 0.3, (count, 1))
    signal = amplitude * (np.sin(turn) + shape * np.sin(2 * turn + random.uniform(0, 2 * np.pi, (count, 1))))
    drawn = random.normal(size=(count, steps)) * NOISE * (1 - CORRELATION**2) ** 0.5
    if fault == "noise increase":
        drawn *= np.where(inside, 1.8, 1.0)
    noise = np.empty_like(drawn)
    noise[:, 0] = random.normal(0, NOISE, count)
    for step in range(1, steps):
        noise[:, step] = CORRELATION * noise[:, step - 1] + drawn[:, step]
    values = signal + noise
    sign = np.where(random.random((count, 1)) < 0.5, -1.0, 1.0)
    if fault == "level shift":
        values = values + np.where(time >= first, 0.5, 0.0) * sign
    elif fault == "spike burst":
        hit = inside & (time < first + 5) & (random.random((count, steps)) < 0.7)
        values = values + np.where(hit, 0.5, 0.0) * np.where(random.random((count, steps)) < 0.5, -1.0, 1.0)
    elif fault == "flat line":
        held = np.take_along_axis(values, first, axis=1)
        values = np.where(inside & (time < first + 12), held, values)
    elif fault == "drift":
        values = values + np.clip((time - first) / (last - first), 0, 1) * 0.8 * sign
    if complete:
        return values, np.ones((count, steps), bool)
    valid = random.random((count, steps)) >= SCATTERED
    gap = random.integers(0, steps, (count, 1))
    length = random.integers(steps // 20, steps // 6, (count, 1))
    valid &= ~((random.random((count, 1)) < WITH_GAP) & (time >= gap) & (time < gap + length))
    return values, valid


def as_data(values: Values, valid: NDArray[np.bool_], first_id: int) -> xr.DataArray:
    """Sequences as detectors take them."""
    return xr.DataArray(
        values[..., None].astype(np.float32),
        dims=("object", "time", "feature"),
        name="flux",
        coords={
            "valid_time": (("object", "time"), valid),
            "object_id": ("object", np.arange(len(values)) + first_id),
        },
    )


def training(
    count: int, steps: int, seed: int, share: float, complete: bool = False
) -> tuple[xr.DataArray, NDArray[np.int8]]:
    """Sequences to learn from, a share of them with faults, and which these are."""
    random = np.random.default_rng([seed, 0])
    each = max(1, round(share * count / len(FAULTS)))
    parts = [made(count - each * len(FAULTS), steps, random, None, complete)]
    parts += [made(each, steps, random, fault, complete) for fault in FAULTS]
    values, valid = (np.concatenate(both) for both in zip(*parts, strict=True))
    labels = np.repeat(np.array([0, 1], np.int8), [len(values) - each * len(FAULTS), each * len(FAULTS)])
    return as_data(values, valid, 0), labels


def judged(count: int, steps: int, seed: int, complete: bool) -> tuple[xr.DataArray, NDArray[np.int64]]:
    """Sequences to score, and which fault each has: 0 for none, k for the k-th."""
    random = np.random.default_rng([seed, 1])
    each = count // (2 * len(FAULTS))
    parts = [made(count // 2, steps, random, None, complete)]
    parts += [made(each, steps, random, fault, complete) for fault in FAULTS]
    values, valid = (np.concatenate(both) for both in zip(*parts, strict=True))
    return as_data(values, valid, 10**6), np.repeat(np.arange(1 + len(FAULTS)), [len(p[0]) for p in parts])


def area(ordinary: Values, anomalous: Values) -> float:
    """Area under the ROC curve."""
    from scipy.stats import rankdata

    ranks = rankdata(np.concatenate([ordinary, anomalous]))[len(ordinary) :]
    n = len(anomalous)
    return float((ranks.sum() - n * (n + 1) / 2) / (n * len(ordinary)))


DETECTORS: dict[str, Callable[..., Detector]] = {
    "forecast": Lstm,
    "reconstruction": partial(Lstm, model="reconstruction"),
    "supervised": partial(Lstm, model="supervised"),
    "components": lambda **_: Residual(span=20, whiten=False),
    "components, whitened": lambda **_: Residual(span=20, whiten=True),
}


def areas(
    name: str, objects: int, steps: int, seed: int, complete: bool, settings: dict[str, Any]
) -> list[float]:
    """Fit one detector, and its area for each fault."""
    supervised = name == "supervised"
    data, labels = training(objects, steps, seed, 0.1 if supervised else 0.01, complete)
    other, faults = judged(objects, steps, seed, complete)
    detector = DETECTORS[name](**settings)
    detector.fit(data, labels=labels if supervised else None, progress=lambda *_: None)
    scores = detector.score(other).compute().values
    return [area(scores[faults == 0], scores[faults == k + 1]) for k in range(len(FAULTS))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--objects", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--detector", nargs="+", default=list(DETECTORS), choices=list(DETECTORS))
    parser.add_argument("--complete", action="store_true", help="all steps are valid")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the networks")
    arguments = parser.parse_args()
    settings = {name: ast.literal_eval(value) for name, _, value in (t.partition("=") for t in arguments.set)}
    print(f"{'':<22}" + "".join(f"{fault:>18}" for fault in (*FAULTS, "mean")))
    with dask.config.set(scheduler="threads", num_workers=cores()):
        for name in arguments.detector:
            each = [
                areas(name, arguments.objects, arguments.steps, seed, arguments.complete, settings)
                for seed in arguments.seeds
            ]
            found = np.mean(each, axis=0)
            print(f"{name:<22}" + "".join(f"{value:>18.3f}" for value in (*found, found.mean())), flush=True)


if __name__ == "__main__":
    main()
