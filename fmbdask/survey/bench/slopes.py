"""Rates and their errors against the rates that were simulated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from fmbdask_kernels import covariance
from numpy.typing import NDArray
from scipy import ndimage

from fmbdask.ramps.detect import Detection
from fmbdask.ramps.simulation import Exposure, SimulationConfig, Truth, plan_exposure

Float = NDArray[np.float64]

#: Normal-equivalent width of the median absolute value.
MAD_SIGMA = 1.4826
#: Knots of the table of ideal errors, in the ratio of Poisson to read variance.
RHO = np.geomspace(1e-6, 1e3, 120)
#: Pulls beyond this are counted as outliers.
OUTLIER = 5.0
#: A pixel belongs to an event from this amplitude on [sigma]; with less it is left out.
HIT_SIGMA = 4.0
#: Groups of pixels: without events, those of events, and those that saturate.
GROUPS = ("clean", "cosmic_ray", "snowball", "telegraph_noise", "saturated")


def ideal_error(rate: Float, sigma: Float, frames: int) -> Float:
    """Smallest error of a rate that any unbiased estimate can have.

    Parameters
    ----------
    rate : array
        True rate [electron / frame].
    sigma : array
        Noise of one read [electron].
    frames : int
        Reads of the ramp, evenly spaced.

    Returns
    -------
    array
        Error of generalised least squares with known covariance and free pedestal [electron / frame].
    """
    pattern = covariance.read_pattern(np.arange(frames))
    m = frames - 1
    model = np.zeros((5, m))
    covariance.timing(pattern, np.arange(frames), model)
    weight, link, unit, scale = np.zeros((4, m))
    information = [covariance.factor(model, m, rho, weight, link, unit, scale) for rho in RHO]
    rho = np.clip(rate / sigma**2, RHO[0], RHO[-1])
    result: Float = sigma / np.sqrt(np.exp(np.interp(np.log(rho), np.log(RHO), np.log(information))))
    return result


def judge_slopes(found: Detection, truth: Truth, config: SimulationConfig, seed: int) -> pd.DataFrame:
    """Compare the rates of one exposure with the true ones.

    Parameters
    ----------
    found : Detection
    truth : Truth
    config, seed
        What the exposure was simulated from.

    Returns
    -------
    DataFrame
        One row a group of pixels, ``pixels_of`` one of :data:`GROUPS`: ``pixels``, their number; ``scatter``
        (robust, in units of the ideal error of a ramp without events; not for saturated ones), ``bias``
        (median error in units of the ideal one), ``pull`` (robust width of errors over stated errors) and
        ``outliers`` (share of pulls beyond 5).
    """
    plan = plan_exposure(config, Exposure(seed, 0, 0, False, 0), "slopes")
    maps = plan.maps(0, config.image_shape[0])
    rate = maps.rate.astype(np.float64)
    ipc = config.effects.ipc
    if ipc:
        n, c = ipc.neighbour, ipc.corner
        rate = ndimage.convolve(
            rate, np.array([[c, n, c], [n, 1 - 4 * n - 4 * c, n], [c, n, c]]), mode="constant"
        )
    rounding = plan.gain / np.sqrt(12) if config.effects.quantisation else 0.0
    ideal = ideal_error(rate, np.hypot(maps.noise.astype(np.float64), rounding), config.num_frames)
    error = found.maps["rate"].values[0] * config.frame_time - rate
    stated = found.maps["rate_error"].values[0] * config.frame_time
    full = found.maps["reads"].values[0] == found.maps["reads"].values[0].max()
    kind = np.full(rate.shape, "clean", object)
    pixels = truth.pixels
    strong = pixels["amplitude"] >= HIT_SIGMA * pixels["sigma"]
    kind[_place(pixels[~strong])] = "touched"
    for name in GROUPS[1:-1]:
        kind[_place(pixels[strong & (pixels["type"] == name)])] = name
    kind[~full] = "saturated"
    kind[~maps.gathers] = "dead"
    rows: list[dict[str, Any]] = []
    for name in GROUPS:
        here = (kind == name) & np.isfinite(error) & (stated > 0)
        if not here.any():
            continue
        e, i, s = error[here], ideal[here], stated[here]
        rows.append(
            {
                "pixels_of": name,
                "pixels": int(here.sum()),
                "scatter": spread(e / i) if name != "saturated" else np.nan,
                "bias": float(np.median(e / i)),
                "pull": spread(e / s),
                "outliers": float((np.abs(e / s) > OUTLIER).mean()),
            }
        )
    return pd.DataFrame(rows)


def spread(values: Float) -> float:
    """Robust standard deviation."""
    return float(MAD_SIGMA * np.median(np.abs(values - np.median(values))))


def _place(pixels: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return pixels["y"].to_numpy(np.int64), pixels["x"].to_numpy(np.int64)
