"""What a detector history is worth: a series of exposures of one detector, searched with and without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from fmbdask.ramps.detect import Detection, detect
from fmbdask.ramps.detector import describe
from fmbdask.ramps.history import History, Observation, fingerprint, merge, record
from fmbdask.ramps.prior import expect
from fmbdask.ramps.simulation import Truth, make_exposure
from fmbdask.ramps.simulation.streams import log_uniform

from ..settings import FIRST_SEED, FRAME_TIME, SETTINGS

Report = Callable[[int, int, str], None]

#: Telegraph pixels per pixel, their amplitudes [sigma of one read] and mean dwell times [frames].
DENSITY, AMPLITUDES, DWELLS = 2e-3, (1.5, 6.0), (8.0, 80.0)
#: Edges of the bins of amplitude [sigma].
BINS = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
#: Frames by which the frame of a hit may be off.
NEAR = 2


@dataclass(frozen=True)
class Flickering:
    """Telegraph pixels of a detector, the same in all its exposures: places, heights [DN], dwells."""

    y: NDArray[np.int64]
    x: NDArray[np.int64]
    amplitude: NDArray[np.float64]
    sigma: NDArray[np.float64]
    dwell: NDArray[np.float64]

    def states(self, frames: int, seed: int) -> NDArray[np.bool_]:
        """Levels in one exposure, (frames, K)."""
        rng = np.random.default_rng(seed)
        leave = rng.random((frames, self.y.size)) < 1 - np.exp(-1 / self.dwell)
        start = rng.random(self.y.size) < 0.5
        return np.asarray(start ^ (np.cumsum(leave, axis=0) % 2 > 0))


def flickering(size: int, sigma: float, seed: int) -> Flickering:
    """Draw the telegraph pixels of a detector; ``sigma`` is the noise of one read [DN]."""
    rng = np.random.default_rng([seed, 99])
    count = round(DENSITY * size * size)
    place = rng.choice((size - 8) ** 2, count, replace=False)
    y, x = np.divmod(place, size - 8)
    height = rng.uniform(*AMPLITUDES, count)
    dwell = log_uniform(rng, DWELLS, count)
    return Flickering(y + 4, x + 4, height * sigma, height, dwell)


def series(
    frames: int, size: int, count: int, *, seed: int = FIRST_SEED, setting: str = "dark"
) -> list[tuple[xr.DataArray, Truth, NDArray[np.bool_], Flickering]]:
    """Exposures of one detector: equal bad and telegraph pixels, their own hits and flips."""
    config = SETTINGS[setting].sized(frames, size, size).model_copy(update={"rtn_per_exp_range": (0, 0)})
    out = []
    pixels: Flickering | None = None
    for k in range(count):
        ramp, truth = make_exposure(config, k, seed=seed)
        if pixels is None:
            pixels = flickering(size, float(ramp.attrs["read_noise"]) / float(ramp.attrs["gain"]), seed)
        states = pixels.states(frames, seed + 1000 * (k + 1))
        lifted = ramp.values[0, :, pixels.y, pixels.x].T + np.rint(states * pixels.amplitude)
        ramp.values[0, :, pixels.y, pixels.x] = np.minimum(lifted, 65535).astype(np.uint16).T
        ramp.attrs["exposure"] = f"series_{k:02d}"
        out.append((ramp, truth, states, pixels))
    return out


def observe(ramp: xr.DataArray, found: Detection, name: str, started: str = "") -> Observation:
    """What a history needs to know of an exposure in memory."""
    detector = describe(ramp)
    used = found.prepared[0].used
    return Observation(
        fingerprint(ramp, detector), name, str(ramp.attrs.get("instrument", "")), started,
        (detector.shape[2], detector.shape[3]), detector.border, detector.shape[0], used.size,
        detector.interval(used) * (used.size - 1), detector.time_unit, detector.gain, detector.saturation,
    )  # fmt: skip


def history_of(exposures: list[tuple[xr.DataArray, Detection]]) -> History:
    """History of exposures in memory."""
    return merge([record_of(ramp, found, f"{k:03d}") for k, (ramp, found) in enumerate(exposures)])


def record_of(ramp: xr.DataArray, found: Detection, name: str) -> History:
    """Summary of one exposure in memory."""
    maps = {n: found.maps[n].values for n in ("rate", "rate_error", "reads", "noise")}
    return record(observe(ramp, found, name), found.events, found.steps, maps)


def remembered(
    frames: int, size: int, learn: int, judge: int, *, seed: int = FIRST_SEED, setting: str = "dark"
) -> pd.DataFrame:
    """Search the last exposures of a series with and without the history of the first.

    Returns
    -------
    DataFrame
        One row with and one without history: ``telegraph`` pixels that flip at least thrice, their
        completeness in bins of amplitude [sigma], ``telegraph_purity``; ``hits`` of at least 6 sigma, their
        ``completeness``; ``purity`` of hits, and of those with a confidence of at least one half.
    """
    exposures = series(frames, size, learn + judge, seed=seed, setting=setting)
    known = history_of([(ramp, detect(ramp)) for ramp, _, _, _ in exposures[:learn]])
    rows = []
    for with_history in (False, True):
        scores: list[dict[str, Any]] = []
        for ramp, truth, states, pixels in exposures[learn:]:
            prior = None
            if with_history:
                prior = expect(known, (size, size), seconds=FRAME_TIME * frames)
            scores.append(_score(detect(ramp, prior=prior), truth, states, pixels))
        total = {name: np.sum([s[name] for s in scores], axis=0) for name in scores[0]}
        row: dict[str, Any] = {"frames": frames, "history": learn if with_history else 0}
        row["telegraph"] = int(total["flip"].sum())
        for low, high, n, k in zip(BINS[:-1], BINS[1:], total["flip"], total["seen"], strict=True):
            row[f"{low:g}-{high:g}"] = k / max(n, 1)
        row["telegraph_purity"] = total["real_flips"] / max(total["flips"], 1)
        row["hits"] = int(total["hits"])
        row["completeness"] = total["found"] / max(total["hits"], 1)
        row["purity"] = total["real"] / max(total["called"], 1)
        row["purity_confident"] = total["real_confident"] / max(total["confident"], 1)
        rows.append(row)
    return pd.DataFrame(rows)


def _score(found: Detection, truth: Truth, states: NDArray[np.bool_], pixels: Flickering) -> dict[str, Any]:
    """Count what was found of one exposure."""
    flips = (np.diff(states, axis=0)).sum(axis=0) >= 3
    events = found.events
    called = events[events["type"] == "telegraph_noise"]
    places = set(zip(called["peak_y"].astype(int), called["peak_x"].astype(int), strict=True))
    real = set(zip(pixels.y.tolist(), pixels.x.tolist(), strict=True))
    seen = np.array([p in places for p in zip(pixels.y.tolist(), pixels.x.tolist(), strict=True)])
    edges = [(pixels.sigma >= a) & (pixels.sigma < b) for a, b in pairwise(BINS)]
    rays = events[events["type"] == "cosmic_ray"]
    true = truth.pixels[truth.pixels["type"] != "telegraph_noise"]
    at: dict[tuple[int, int], list[int]] = {}
    for y, x, frame in zip(true["y"], true["x"], true["first_frame"], strict=True):
        at.setdefault((int(y), int(x)), []).append(int(frame))
    good = np.array(
        [
            any(abs(f - k) <= NEAR for k in at.get((int(y), int(x)), ()))
            for y, x, f in zip(rays["peak_y"], rays["peak_x"], rays["first_frame"], strict=True)
        ],
        bool,
    )
    confident = (rays["confidence"] >= 0.5).to_numpy()
    strong = truth.events[(truth.events["type"] == "cosmic_ray") & (truth.events["peak_sigma"] >= 6)]
    steps = found.steps
    stepped: dict[tuple[int, int], list[int]] = {}
    for y, x, frame in zip(steps["y"], steps["x"], steps["frame"], strict=True):
        stepped.setdefault((int(y), int(x)), []).append(int(frame))
    brightest = true.sort_values("amplitude").drop_duplicates("event_id", keep="last").set_index("event_id")
    brightest = brightest.loc[strong["event_id"]]
    got = [
        any(abs(f - k) <= NEAR for k in stepped.get((int(y), int(x)), ()))
        for y, x, f in zip(brightest["y"], brightest["x"], brightest["first_frame"], strict=True)
    ]
    return {
        "flip": np.array([(flips & e).sum() for e in edges]),
        "seen": np.array([(flips & seen & e).sum() for e in edges]),
        "flips": len(called),
        "real_flips": len(places & real),
        "hits": len(got),
        "found": sum(got),
        "called": good.size,
        "real": int(good.sum()),
        "confident": int(confident.sum()),
        "real_confident": int((good & confident).sum()),
    }
