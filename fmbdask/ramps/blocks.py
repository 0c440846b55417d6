"""A ramp cut into blocks, and a function of regions mapped over them by dask, one task a block."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from dask.base import is_dask_collection
from dask.callbacks import Callback
from fmbdask_kernels.temporal import PLANES
from numpy.typing import NDArray

from ..regions import Region, edge_for
from .prepare import Prepared
from .region import Limits, RegionResult, region_features, search_region

Report = Callable[[int, int, str], None]


@dataclass(frozen=True, repr=False)
class _Blocks:
    """Calls a function with the data and limits of each block, and with the region it is."""

    function: Callable[[NDArray[Any], Prepared, Region, Limits], NDArray[Any]]
    prepared: list[Prepared]
    edges: list[NDArray[np.int64]]
    maps: Mapping[str, NDArray[Any]]

    @property
    def __name__(self) -> str:
        """What dask calls the tasks: by default it would print all arrays in here."""
        return self.function.__name__

    def __call__(
        self, block: NDArray[Any], flags: NDArray[np.uint8] | None = None, *, block_id: tuple[int, ...]
    ) -> NDArray[Any]:
        i, _, row, column = block_id
        y, x = self.edges
        region = Region(i, int(y[row]), int(y[row + 1]), int(x[column]), int(x[column + 1]))
        limits = limits_of(self.maps, self.prepared[i], region, None if flags is None else flags[0])
        return self.function(np.ascontiguousarray(block[0]), self.prepared[i], region, limits)


def limiting_maps(ramp: xr.DataArray, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
    """Maps of a whole frame that say which reads may be used."""
    maps: dict[str, NDArray[Any]] = {}
    if "bad_pixel" in ramp.coords:
        maps["bad_pixel"] = np.asarray(ramp.coords["bad_pixel"].values)
    if prepared[0].levels is not None:
        maps["saturation_map"] = prepared[0].levels
    return maps


def limits_of(
    maps: Mapping[str, NDArray[Any]],
    prepared: Prepared,
    region: Region,
    flags: NDArray[np.uint8] | None,
) -> Limits:
    """Cut :func:`limiting_maps` to a region, and put its flags (T, ny, nx) to them."""
    cut = {name: m[region.y, region.x] for name, m in maps.items()}
    bad = cut["bad_pixel"].astype(bool) if "bad_pixel" in cut else None
    return Limits.of(prepared, region, flags, bad, cut.get("saturation_map"))


def over_blocks(
    ramp: xr.DataArray,
    function: Callable[..., NDArray[Any]],
    prepared: list[Prepared],
    planes: int,
    dtype: Any,
    whole: bool,
) -> da.Array:
    """Map over the blocks: (1, T, ny, nx) becomes (1, planes, ny, nx), or (1, 1, 1, 1) unless ``whole``."""
    lazy = chunked(ramp)
    maps = limiting_maps(ramp, prepared)
    arrays = [lazy]
    if "flags" in ramp.coords:
        arrays.append(da.asarray(ramp.coords["flags"].data).rechunk(lazy.chunks))
    edges = [np.cumsum((0, *lazy.chunks[axis])) for axis in (2, 3)]
    spatial = lazy.chunks[2:] if whole else tuple((1,) * len(c) for c in lazy.chunks[2:])
    chunks = (lazy.chunks[0], (planes,), *spatial)
    meta = np.empty((0,) * 4, dtype)
    mapped: da.Array = da.map_blocks(
        _Blocks(function, prepared, edges, maps), *arrays, dtype=dtype, chunks=chunks, meta=meta, name=False
    )
    return mapped


@dataclass(frozen=True)
class _Search:
    """Searches a block; its result fills an array of one object."""

    features: bool
    device: str
    __name__ = "search"

    def __call__(
        self, data: NDArray[Any], prepared: Prepared, region: Region, limits: Limits
    ) -> NDArray[Any]:
        out = np.empty((1, 1, 1, 1), object)
        out[0, 0, 0, 0] = search_region(
            data, prepared, region, limits, features=self.features, device=self.device
        )
        return out


def _stacked(data: NDArray[Any], prepared: Prepared, region: Region, limits: Limits) -> NDArray[Any]:
    return region_features(data, prepared, region, limits)[None]


def search(
    ramp: xr.DataArray,
    prepared: list[Prepared],
    *,
    features: bool = False,
    progress: Report | None = None,
    device: str = "cpu",
) -> list[RegionResult]:
    """Search all regions of an exposure on whatever scheduler dask has."""
    grid = over_blocks(ramp, _Search(features, device), prepared, 1, object, whole=False)
    if progress is None:
        return list(grid.compute().ravel())
    with _Reported(progress, grid):
        return list(grid.compute().ravel())


def threads_of_dask() -> int:
    """Threads that dask would use here for arrays: one where it is told to be synchronous."""
    if dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded"):
        return 1
    pool = dask.config.get("pool", None)
    known = getattr(pool, "_max_workers", None) or dask.config.get("num_workers", None)
    return int(known or os.cpu_count() or 1)


def feature_planes(ramp: xr.DataArray, prepared: list[Prepared]) -> da.Array:
    """Lazy temporal features, (integration, planes, y, x)."""
    return over_blocks(ramp, _stacked, prepared, len(PLANES), np.float32, whole=True)


def chunked(ramp: xr.DataArray) -> da.Array:
    """One integration and all frames a chunk; squares of a size that suits the caches."""
    frames = ramp.sizes["frame"]
    edge = edge_for(frames, ramp.dtype.itemsize)
    if not is_dask_collection(ramp.data):
        whole_array: da.Array = da.from_array(ramp.data, chunks=(1, frames, edge, edge), name=False)
        return whole_array
    lazy: da.Array = ramp.data
    whole = len(lazy.chunks[1]) == 1 and all(c == 1 for c in lazy.chunks[0])
    if not whole or max(lazy.chunks[2] + lazy.chunks[3]) > 4 * edge:
        lazy = lazy.rechunk((1, frames, edge, edge))
    return lazy


class _Reported(Callback):
    """Counts finished regions for a progress bar."""

    def __init__(self, report: Report, grid: da.Array) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.report, self.name, self.total, self.done = report, grid.name, grid.size, 0

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        # dask may run further tasks that hand the same results on
        if isinstance(key, tuple) and key[0] == self.name:
            self.done += 1
            self.report(self.done, self.total, "regions")
