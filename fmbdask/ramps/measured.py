"""What is measured once on an exposure and can be kept beside it: offsets that its pixels share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from .detector import Detector
from .offsets import Correction, Shared, reference_offsets, shared
from .sample import sample_blocks

GEOMETRY = "geometry"


@dataclass(frozen=True)
class Measured:
    """Offsets of the reference pixels of one integration, and what its active pixels share beyond them."""

    reference: Correction
    shared: Shared


def measure(
    ramp: xr.DataArray, detector: Detector, integration: int, *, reference_pixels: bool = True
) -> Measured:
    """Measure the offsets of one integration on its border and on blocks at fixed places."""
    blocks = sample_blocks(*detector.active, integration)
    reference = reference_offsets(ramp, detector, integration) if reference_pixels else no_offsets(detector)
    return Measured(reference, shared(ramp, detector, reference, blocks))


def no_offsets(detector: Detector) -> Correction:
    """Offsets of an exposure whose reference pixels are left alone."""
    frames, rows, columns = detector.shape[1:]
    zero = np.zeros((frames, columns), np.float32)
    return Correction(zero, zero, np.zeros(rows, np.float32), np.zeros((frames, rows), np.float32))


def to_arrays(measured: Sequence[Measured], detector: Detector) -> dict[str, NDArray[np.generic]]:
    """Arrays, one plane an integration, that :func:`from_arrays` makes the same bits of again."""
    arrays: dict[str, NDArray[np.generic]] = {GEOMETRY: _geometry(detector)}
    for part in ("reference", "shared"):
        values = [getattr(m, part) for m in measured]
        for item in fields(values[0]):
            arrays[f"{part}_{item.name}"] = np.stack([getattr(v, item.name) for v in values])
    return arrays


def from_arrays(arrays: Mapping[str, ArrayLike], detector: Detector) -> list[Measured] | None:
    """What was measured before, or None where there is nothing, or it is of another geometry."""
    names = {
        part: [f.name for f in fields(kind)] for part, kind in (("reference", Correction), ("shared", Shared))
    }
    wanted = [GEOMETRY, *(f"{part}_{n}" for part, all_ in names.items() for n in all_)]
    if any(name not in arrays for name in wanted):
        return None
    if not np.array_equal(np.asarray(arrays[GEOMETRY]), _geometry(detector)):
        return None
    held = {name: np.asarray(arrays[name]) for name in wanted[1:]}
    return [
        Measured(
            Correction(**{n: held[f"reference_{n}"][i] for n in names["reference"]}),
            Shared(**{n: held[f"shared_{n}"][i] for n in names["shared"]}),
        )
        for i in range(detector.shape[0])
    ]


def _geometry(detector: Detector) -> NDArray[np.int64]:
    """Numbers that must agree for offsets to be those of the same detector."""
    level = -1 if np.isinf(detector.saturation) else round(detector.saturation)
    return np.concatenate(
        [np.asarray(v, np.int64) for v in (detector.shape, detector.border, detector.group, [level])]
    )
