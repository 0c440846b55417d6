"""Small exposures in memory, labelled as ``open_ramp`` labels a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fmbdask.errors import ConfigError

from .config import SimulationConfig
from .exposure import ExposurePlan, Ramp, plan_exposure, simulate_rows
from .response import saturation_level
from .streams import Exposure
from .truth import Truth, make_truth

#: Rows made in one go: few enough to stay small, many enough that the extra row on either side costs little.
_ROWS = 32


def simulate(
    config: SimulationConfig | Mapping[str, Any] | None = None,
    *,
    shape: tuple[int, int, int] | None = None,
    seed: int = 0,
    index: int = 0,
    baseline: bool = False,
) -> tuple[xr.DataArray, Truth]:
    """Simulate one exposure in memory.

    Parameters
    ----------
    config
        The simulation, or the fields that differ from the defaults.
    shape
        Frames, rows, columns instead of the configured size; the frame time stays, and the counts of events
        scale with the number of pixels (:meth:`SimulationConfig.resized`).
    seed, index
        The random numbers: equal values give equal bits, and the same exposure as ``ramps simulate`` writes.
    baseline
        Leave the events out.

    Returns
    -------
    ramp : DataArray
        Counts [DN], dims (integration, frame, y, x), uint16.
    truth : Truth
        Events and pixels.

    Raises
    ------
    ConfigError
        For a field that cannot be used.

    Examples
    --------
    >>> from fmbdask.ramps.simulation import simulate
    >>> ramp, truth = simulate(shape=(20, 32, 48), seed=1)
    >>> ramp.shape, ramp.dtype.name
    ((1, 20, 32, 48), 'uint16')
    """
    if not isinstance(config, SimulationConfig):
        config = SimulationConfig.read(config or {})
    if shape is not None:
        config = config.resized(*shape)
    return make_exposure(config, index, seed=seed, baseline=baseline)


def make_exposure(
    config: SimulationConfig,
    index: int = 0,
    *,
    seed: int = 0,
    detector: str | None = None,
    baseline: bool = False,
    number: int = 0,
) -> tuple[xr.DataArray, Truth]:
    """Simulate one exposure of a survey in memory: the bits that :func:`simulate_survey` writes.

    ``detector`` is a name of the gain library (the first by default); ``number`` counts the exposures of
    equal index, detector and kind.
    """
    names = list(config.gain_library)
    if detector is not None and detector not in names:
        raise ConfigError(f"gain_library: there is no detector {detector}, choose one of {', '.join(names)}.")
    position = names.index(detector) if detector else 0
    exposure = Exposure(seed, index, position, baseline, number)
    plan = plan_exposure(config, exposure, exposure_name(config, exposure))
    return label(plan, _all_rows(plan)), make_truth(plan)


def exposure_name(config: SimulationConfig, exposure: Exposure) -> str:
    """Stem of an exposure's files.

    ``h2rg_<index>``, then ``_<detector>`` when there are several, then ``_<number>`` when there are several
    exposures with events, or ``_baseline_<number>``.
    """
    name = f"h2rg_{exposure.index:04d}"
    if len(config.gain_library) > 1:
        name += f"_{list(config.gain_library)[exposure.detector]}"
    if exposure.baseline:
        return f"{name}_baseline_{exposure.number:02d}"
    return f"{name}_{exposure.number:02d}" if config.num_exposure_events > 1 else name


def attributes(plan: ExposurePlan) -> dict[str, Any]:
    """Attributes of the labelled ramp: what an observer would know of the detector."""
    known: dict[str, Any] = {
        "units": "DN",
        "exposure": plan.name,
        "instrument": plan.detector,
        "gain": plan.gain,
        "saturation": saturation_level(plan.config, plan.gain),
        "reference_border": [plan.config.border] * 4,
        "amplifiers": plan.config.amplifiers,
        "amplifier_layout": "contiguous",
    }
    if plan.levels.white > 0:
        known["read_noise"] = round(plan.levels.white, 3)
    return known


def read_times(config: SimulationConfig) -> NDArray[np.float64]:
    """Time of each read since the reset, (T,) [s]."""
    return config.frame_time * np.arange(1.0, config.num_frames + 1)


def label(plan: ExposurePlan, counts: Ramp) -> xr.DataArray:
    """Label the counts (T, y, x) of an exposure."""
    config = plan.config
    return xr.DataArray(
        counts[None],
        dims=("integration", "frame", "y", "x"),
        coords={
            "read_times": ("frame", read_times(config), {"units": "s"}),
            "reads_per_frame": ("frame", np.ones(config.num_frames, np.int64)),
        },
        attrs=attributes(plan),
        name="ramp",
    )


def _all_rows(plan: ExposurePlan) -> Ramp:
    rows = plan.config.image_shape[0]
    strips = (plan.strip(y0, min(y0 + _ROWS, rows)) for y0 in range(0, rows, _ROWS))
    return np.concatenate([simulate_rows(strip) for strip in strips], axis=1)
