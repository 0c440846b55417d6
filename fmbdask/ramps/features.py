"""Temporal features of every pixel of a ramp, lazily."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from fmbdask_kernels.temporal import PLANES

from .blocks import feature_planes
from .config import DetectionConfig
from .detect import configure
from .detector import as_ramp, describe
from .linearity import linearise
from .prepare import prepare


def features(ramp: xr.DataArray, config: DetectionConfig | None = None, **options: Any) -> xr.Dataset:
    """Temporal features of every pixel: slope, noise, largest difference, strongest step, appearance, ...

    Parameters
    ----------
    ramp : DataArray
        As :func:`fmbdask.open_ramp` gives it.
    config : DetectionConfig, optional
    **options
        Fields of the configuration.

    Returns
    -------
    Dataset
        Lazy, dimensions (integration, y, x), one variable per feature with its unit; what the regions share
        (offsets, noise) is measured at once.

    Examples
    --------
    >>> import fmbdask as fm
    >>> ramp, truth = fm.ramps.simulate(shape=(30, 64, 64), seed=1)
    >>> fm.ramps.features(ramp).max_intensity.attrs["units"]
    'DN'
    """
    settings = configure(config, {**options, "telegraph": False})
    ramp = as_ramp(ramp)
    detector = describe(ramp)
    ramp = linearise(ramp, detector)
    prepared = [prepare(ramp, detector, settings, i) for i in range(detector.shape[0])]
    lazy = feature_planes(ramp, prepared)
    interval = np.array([detector.interval(p.used) for p in prepared], np.float32)[:, None, None]
    variables = {}
    for i, (name, unit) in enumerate(PLANES.items()):
        plane = lazy[:, i]
        if unit.endswith("interval"):
            plane, unit = plane / interval, unit.replace("interval", detector.time_unit)
        variables[name] = (("integration", "y", "x"), plane, {"units": unit})
    return xr.Dataset(variables, attrs={"exposure": detector.exposure, "source": detector.source})
