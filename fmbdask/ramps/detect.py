"""A labelled ramp in, its events and maps out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from pydantic import ValidationError

from ..errors import ConfigError
from ..regions import Region
from . import reduce
from .blocks import Report, search, threads_of_dask
from .config import DetectionConfig
from .detector import Detector, as_ramp, describe
from .devices import find_device
from .linearity import linearise
from .measured import Measured
from .prepare import Prepared, prepare
from .prior import BITS, Prior
from .region import RegionResult
from .sample import read


@dataclass(frozen=True)
class Detection:
    """What was found in one exposure.

    Attributes
    ----------
    events : DataFrame
        One row per event; :data:`fmbdask.ramps.reduce.COLUMNS`.
    maps : Dataset
        ``mask`` (codes 0 background, 1 cosmic ray, 2 telegraph noise, 3 snowball; where kinds overlap the
        higher code stays), ``rate`` and ``rate_error``, and every feature when asked for.
    info : dict
        Frames used, false alarms expected and seen, thresholds, scales, and notes.
    steps : DataFrame
        One row per pixel of a cosmic ray or snowball and step: ``event_id``, ``integration``, ``y``, ``x``,
        ``frame`` (first of the new level), ``amplitude`` [DN], ``significance``, ``saturating``.
    prepared : tuple of Prepared
        What the regions of each integration share: frames in use, offsets, noise.
    """

    events: pd.DataFrame
    maps: xr.Dataset
    info: dict[str, Any] = field(default_factory=dict)
    steps: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(reduce.STEP_COLUMNS)))
    prepared: tuple[Prepared, ...] = ()

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {kind}" for kind, n in self.events["type"].value_counts().items())
        return f"<Detection: {counts or 'no events'}>"


def detect(
    ramp: xr.DataArray,
    config: DetectionConfig | Mapping[str, Any] | None = None,
    *,
    features: bool = False,
    measured: Sequence[Measured] | None = None,
    prior: Prior | None = None,
    progress: Report | None = None,
    device: str = "cpu",
    **options: Any,
) -> Detection:
    """Find cosmic rays, telegraph pixels and snowballs in a ramp.

    Parameters
    ----------
    ramp : DataArray
        As :func:`fmbdask.open_ramp` gives it, or any array with dimensions (integration,) frame, y, x [DN].
    config : DetectionConfig or mapping, optional
    features : bool
        Whether the maps hold every temporal feature.
    measured : sequence of Measured, optional
        Offsets of each integration that were measured before, see :mod:`fmbdask.ramps.measured`.
    prior : Prior, optional
        What the history of the detector lets one expect, see :func:`fmbdask.ramps.prior.expect`.
    progress : callable, optional
        Called with (regions done, regions, text).
    device : {"cpu", "gpu", "auto"}
        Where the first pass over every pixel runs: ``auto`` takes a GPU where there is one.
    **options
        Fields of :class:`~fmbdask.ramps.config.DetectionConfig`, over those of ``config``.

    Returns
    -------
    Detection
        The same bits for any chunks, number of threads or workers on one kind of device.

    Raises
    ------
    InputError
        If the ramp cannot be used.
    ConfigError
        If an option is unknown or out of range, or there is no such device.

    Examples
    --------
    >>> import fmbdask as fm
    >>> ramp, truth = fm.ramps.simulate(shape=(30, 64, 64), seed=1)
    >>> found = fm.ramps.detect(ramp, false_alarm_rate=1e-5)
    >>> found.maps.rate.dims
    ('integration', 'y', 'x')
    """
    settings, device = configure(config, options), find_device(device)
    ramp = as_ramp(ramp)
    detector = describe(ramp)
    ramp = linearise(ramp, detector)
    prepared = prepare_all(ramp, detector, settings, measured, prior)
    results = search(ramp, prepared, features=features, progress=progress, device=device)
    return finish(
        results, prepared, detector, settings, lambda region: read(ramp, region), progress, threads_of_dask()
    )


def prepare_all(
    ramp: xr.DataArray,
    detector: Detector,
    config: DetectionConfig,
    measured: Sequence[Measured] | None = None,
    prior: Prior | None = None,
) -> list[Prepared]:
    """Measure what the regions of each integration of a linear ramp share, see :func:`.prepare.prepare`."""
    known = measured if measured is not None and config.reference_pixels else [None] * detector.shape[0]
    return [prepare(ramp, detector, config, i, m, prior) for i, m in enumerate(known)]


def finish(
    results: list[RegionResult],
    prepared: list[Prepared],
    detector: Detector,
    config: DetectionConfig,
    read_block: Callable[[Region], NDArray[Any]],
    progress: Report | None = None,
    threads: int = 1,
) -> Detection:
    """Make what was found in an exposure from its regions, see :func:`.reduce.reduce_exposure`."""
    events, maps, steps = reduce.reduce_exposure(
        results, prepared, detector, config, read_block, progress, threads
    )
    prior = prepared[0].prior
    if prior is not None:
        bits = {"flag_masks": list(BITS.values()), "flag_meanings": " ".join(BITS), "units": "1"}
        maps["known"] = (("y", "x"), prior.known, bits)
    maps.attrs = {"exposure": detector.exposure, "source": detector.source}
    return Detection(events, maps, summarise(results, prepared, config), steps, tuple(prepared))


def configure(
    config: DetectionConfig | Mapping[str, Any] | None, options: Mapping[str, Any]
) -> DetectionConfig:
    """Put options over a configuration.

    Raises
    ------
    ConfigError
        If an option is unknown or out of range.
    """
    base = config.model_dump() if isinstance(config, DetectionConfig) else dict(config or {})
    try:
        return DetectionConfig.model_validate(base | dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise ConfigError(f"option {name} of the ramp detector: {first['msg']}") from None


def summarise(
    results: list[RegionResult], prepared: list[Prepared], config: DetectionConfig
) -> dict[str, Any]:
    """What was decided and what to expect, for the reader of a result."""
    first = prepared[0]
    tested = sum(r.tested for r in results)
    notes = [
        f"integration {p.integration}: {n}" if len(prepared) > 1 else n for p in prepared for n in p.notes
    ]
    if first.prior is not None:
        notes += first.prior.notes
    return {
        "frames_used": [int(f) for f in first.used],
        "pixels_tested": tested,
        "false_alarms_expected": config.false_alarm_rate * tested,
        "negative_steps_beyond_threshold": sum(r.beyond for r in results),
        "threshold_sigma": float(first.isolated[0]),
        "scale": [float(s) for s in first.noise.scale[:, 0]],
        "read_noise_dn": [float(s) for s in np.sqrt(first.noise.variance)],
        "notes": notes,
    }
