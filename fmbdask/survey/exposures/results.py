"""One exposure opened to be searched, and what was found in it written: the same for one and for many."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from ...ramps.config import DetectionConfig
from ...ramps.detect import Detection
from ...ramps.detector import Detector
from ...ramps.linearity import PREFIX as LINEARITY
from ...ramps.measured import Measured, from_arrays
from ...store.catalog import write_events
from ...store.overrides import Described
from ...store.products import write_products
from .history import KEY as OBSERVATION
from .history import observed

#: Overrides that may be maps which decide what pixels share: offsets kept beside an exposure know none.
MAPS = {"bad_pixels", "saturation"}
#: Maps that are kept of every exposure.
KEPT = ["mask", "rate", "rate_error", "reads", "noise"]
#: Those that only some have.
ADDED = ["known"]


def known_offsets(
    described: Described, ramp: xr.DataArray, detector: Detector, overrides: Mapping[str, Any]
) -> list[Measured] | None:
    """Offsets that were measured when the exposure was ingested, where they hold."""
    changed = MAPS & set(overrides) or any(str(c).startswith(LINEARITY) for c in ramp.coords)
    known = None if changed else described.source.prepared
    return from_arrays(known, detector) if known else None


def write_result(
    folder: Path,
    path: str | os.PathLike[str],
    ramp: xr.DataArray,
    found: Detection,
    settings: DetectionConfig,
    overrides: Mapping[str, Any],
    *,
    features: bool = False,
    name: str | None = None,
) -> None:
    """Write what was found in an exposure into a folder that exists: events, steps and maps.

    ``name`` is that of the detector where the header has none or another.
    """
    configuration = {
        "detection": settings.model_dump(mode="json"),
        "exposure": {k: v for k, v in ramp.attrs.items() if k != "source"},
        "overrides": {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in overrides.items()},
        "found": found.info,
        OBSERVATION: observed(Path(path), ramp, found.prepared[0].detector, found, name),
    }
    write_events(
        folder,
        found.events,
        exposure=str(path),
        configuration=configuration,
        time_unit=str(ramp.coords["read_times"].attrs.get("units", "s")),
        steps=found.steps,
    )
    kept = found.maps if features else found.maps[[*KEPT, *(n for n in ADDED if n in found.maps)]]
    write_products(folder / "products.zarr", kept)
