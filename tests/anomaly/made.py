"""Vectors to test detectors with: made from seeds, in the ways that users may hand them over."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from fmbdask.anomaly.detector import Detector


def vectors(count: int, width: int, seed: int = 0, fall: float = 1e-2) -> NDArray[np.float32]:
    """Normal vectors (count, width) about a mean, with deviations that fall from 1 to ``fall``, turned."""
    random = np.random.default_rng(seed)
    turned = np.linalg.qr(random.normal(size=(width, width)))[0]
    values = random.normal(size=(count, width)) * np.geomspace(1.0, fall, width)
    return (values @ turned + random.normal(size=width)).astype(np.float32)


def store(count: int, seed: int = 0, *, first_id: int = 1000, **widths: int) -> xr.Dataset:
    """A store with ids and modalities of these widths, in memory."""
    modalities = {
        m: (("object", f"{m}_feature"), vectors(count, d, seed + k), {"model": "made", "weights_sha256": m})
        for k, (m, d) in enumerate(widths.items())
    }
    return xr.Dataset(modalities, coords={"object_id": ("object", np.arange(count) + first_id)})


def chunked(data: xr.Dataset, cuts: list[int], features: int = -1) -> xr.Dataset:
    """The same store in Dask chunks that end at these rows."""
    edges = sorted({0, *cuts, data.sizes["object"]})
    sizes: dict[Any, Any] = {"object": tuple(int(n) for n in np.diff(edges))}
    return data.chunk(sizes | {d: features for d in data.dims if d != "object"})


def same_bits(one: Detector, other: Detector) -> bool:
    """Whether two fitted detectors are alike to the last bit."""
    assert one.calibration is not None
    assert other.calibration is not None
    arrays = [{**d.state().arrays, **d.calibration.arrays()} for d in (one, other) if d.calibration]
    return arrays[0].keys() == arrays[1].keys() and all(
        np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0]
    )
