"""Rates and their errors against the rates that were simulated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from fmbdask.ramps.detect import Detection, detect
from fmbdask.ramps.simulation import Exposure, SimulationConfig, Truth, plan_exposure
from fmbdask.ramps.simulation.exposure import ExposurePlan

from .ideal import Ideal

Float = NDArray[np.float64]

#: Normal-equivalent width of the median absolute value.
MAD_SIGMA = 1.4826
#: Pulls beyond this are counted as outliers.
OUTLIER = 5.0
#: A pixel belongs to an event from this amplitude on [sigma]; with less it is left out.
HIT_SIGMA = 4.0
#: Groups of pixels: without events, those of events, and those that saturate.
GROUPS = ("clean", "cosmic_ray", "snowball", "telegraph_noise", "saturated")
#: Coefficients of the charge in powers of the signal: ``s = q (1 - c q)``, solved for q as a series in c s.
INVERSE = (1.0, 1.0, 2.0, 5.0, 14.0)


def judge_slopes(
    ramp: xr.DataArray, found: Detection, truth: Truth, config: SimulationConfig, seed: int
) -> pd.DataFrame:
    """Compare the rates of one exposure with the true ones.

    Parameters
    ----------
    ramp : DataArray
        The exposure. Where its counts are not linear it is searched once more with the coefficients that a
        laboratory would have measured: without them no rate of a bright pixel can be right.
    found : Detection
    truth : Truth
    config, seed
        What the exposure was simulated from.

    Returns
    -------
    DataFrame
        One row a group of pixels, ``pixels_of`` one of :data:`GROUPS`: ``pixels``, their number; ``scatter``
        (robust, in units of the error of a fit that knows noise, frames of steps, flips and last good read),
        ``bias`` (median error in the same units), ``pull`` (robust width of errors over stated errors) and
        ``outliers`` (share of pulls beyond 5).
    """
    plan = plan_exposure(config, Exposure(seed, 0, 0, False, 0), "slopes")
    if config.effects.nonlinearity:
        found = detect(with_linearity(ramp, plan))
    maps = plan.maps(0, config.image_shape[0])
    rate = _coupled(maps.rate, config, 1)
    reads = found.maps["reads"].values[0].astype(np.int64)
    kind, begins = _kinds(truth, config.num_frames)
    full = reads < reads.max()
    # what a pixel that saturates lends to its neighbours stops with it: they have no one rate
    kind[ndimage.binary_dilation(full, np.ones((3, 3), bool))] = "touched"
    kind[full] = "saturated"
    kind[~maps.gathers] = "dead"
    ideal = _ideal(plan, maps, kind, begins, reads)
    error = found.maps["rate"].values[0] * config.frame_time - rate
    stated = found.maps["rate_error"].values[0] * config.frame_time
    rows: list[dict[str, Any]] = []
    for name in GROUPS:
        here = (kind == name) & np.isfinite(error) & (stated > 0) & np.isfinite(ideal)
        if not here.any():
            continue
        e, i, s = error[here], ideal[here], stated[here]
        rows.append(
            {
                "pixels_of": name,
                "pixels": int(here.sum()),
                "scatter": spread(e / i),
                "bias": float(np.median(e / i)),
                "pull": spread(e / s),
                "outliers": float((np.abs(e / s) > OUTLIER).mean()),
            }
        )
    return pd.DataFrame(rows)


def with_linearity(ramp: xr.DataArray, plan: ExposurePlan) -> xr.DataArray:
    """Add the coefficients that make the counts of a simulated exposure linear."""
    maps = plan.maps(0, plan.config.image_shape[0])
    zero, shortfall = maps.bias.astype(np.float64), maps.curvature.astype(np.float64) * plan.gain
    # powers of counts less zero level, written in powers of counts
    coefficients = np.zeros((len(INVERSE) + 1, *zero.shape))
    coefficients[0] = zero
    power = np.ones((1, *zero.shape))
    for k, factor in enumerate(INVERSE):
        longer = np.zeros((power.shape[0] + 1, *zero.shape))
        longer[1:] = power
        longer[:-1] -= zero * power
        power = longer
        coefficients[: power.shape[0]] += factor * shortfall**k * power
    names = {f"linearity_{k}": (("y", "x"), c) for k, c in enumerate(coefficients.astype(np.float32))}
    return ramp.assign_coords(names)


def _coupled(values: NDArray[Any], config: SimulationConfig, power: int) -> Float:
    """What the read-out sees of a map: neighbours share charge, and its independent variances as squares."""
    ipc = config.effects.ipc
    if not ipc:
        return values.astype(np.float64)
    n, c = ipc.neighbour, ipc.corner
    kernel = np.array([[c, n, c], [n, 1 - 4 * n - 4 * c, n], [c, n, c]])
    coupled: Float = ndimage.convolve(values.astype(np.float64), kernel**power, mode="constant")
    return coupled


def _kinds(truth: Truth, frames: int) -> tuple[NDArray[Any], dict[tuple[int, int], list[int]]]:
    """Kind of each pixel, and the frames of the steps of those that have some that are strong."""
    pixels = truth.pixels
    shape = tuple(truth.meta["configuration"]["image_shape"])
    kind = np.full(shape, "clean", object)
    strong = pixels["amplitude"] >= HIT_SIGMA * pixels["sigma"]
    kind[_place(pixels[~strong])] = "touched"
    for name in GROUPS[1:-1]:
        kind[_place(pixels[strong & (pixels["type"] == name)])] = name
    begins: dict[tuple[int, int], list[int]] = {}
    hits = pixels[strong & (pixels["type"] != "telegraph_noise")]
    for y, x, frame in zip(hits["y"], hits["x"], hits["first_frame"], strict=True):
        begins.setdefault((int(y), int(x)), []).append(min(int(frame), frames - 1))
    return kind, begins


def _ideal(
    plan: ExposurePlan,
    maps: Any,
    kind: NDArray[Any],
    begins: dict[tuple[int, int], list[int]],
    reads: NDArray[np.int64],
) -> Float:
    """Ideal error of each pixel [electron / frame]; NaN where none is asked for."""
    config = plan.config
    frames = config.num_frames
    rounding = plan.gain / np.sqrt(12) if config.effects.quantisation else 0.0
    sigma = np.hypot(maps.noise.astype(np.float64), rounding)
    light = _coupled(maps.rate, config, 2)
    pink = config.effects.pink_noise
    share = float(np.median((maps.pink / sigma)[maps.gathers]) ** 2) if pink else 0.0
    ideal = Ideal(frames, share, pink.slope if pink else 1.0)
    out = np.full(kind.shape, np.nan)
    clean = kind == "clean"
    out[clean] = ideal.errors(light[clean], sigma[clean])
    # pixels with equal steps and reads share a table
    alike: dict[tuple[tuple[int, ...], int], list[tuple[int, int]]] = {}
    for name in ("cosmic_ray", "snowball", "saturated"):
        for y, x in zip(*np.nonzero(kind == name), strict=True):
            key = (
                tuple(sorted(set(begins.get((y, x), [])))),
                int(reads[y, x]) if name == "saturated" else frames,
            )
            alike.setdefault(key, []).append((y, x))
    for (steps, last), places in alike.items():
        new = np.zeros(frames, bool)
        new[list(steps)] = True
        at = tuple(np.array(places).T)
        out[at] = ideal.errors(light[at], sigma[at], new, last)
    for y, x, high in zip(plan.telegraph.y, plan.telegraph.x, plan.telegraph.high, strict=True):
        if kind[y, x] == "telegraph_noise":
            new = np.zeros(frames, bool)
            new[begins.get((int(y), int(x)), [])] = True
            out[y, x] = ideal.with_shape(light[y, x], sigma[y, x], high.astype(np.float64), new, frames)
    return out


def spread(values: Float) -> float:
    """Robust standard deviation."""
    return float(MAD_SIGMA * np.median(np.abs(values - np.median(values))))


def _place(pixels: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return pixels["y"].to_numpy(np.int64), pixels["x"].to_numpy(np.int64)
