"""Exposures as a process keeps them while it works on their regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...errors import InputError
from ...ramps.blocks import limiting_maps
from ...ramps.detector import Detector, describe
from ...ramps.linearity import PREFIX, coefficients_of, linear_block, linearise
from ...ramps.prepare import Prepared
from ...regions import Region
from ...store.overrides import Described, open_described
from ...store.ramps import label
from ...store.run.items import Item
from .inline import inline

#: Exposures that a process keeps open with their maps, and without.
MOST_OPEN, MOST_LIGHT = 8, 4096


@dataclass(frozen=True)
class Opened:
    """An exposure: its lazy labelled array, and its maps in memory once they are asked for."""

    described: Described
    ramp: xr.DataArray

    @cached_property
    def detector(self) -> Detector:
        """What its labels say."""
        with inline():
            return describe(self.ramp)

    @cached_property
    def linear(self) -> xr.DataArray:
        """The ramp with linear counts, for who reads blocks of it lazily."""
        return linearise(self.ramp, self.detector)

    @cached_property
    def coefficients(self) -> NDArray[np.float32] | None:
        """Coefficients that make counts linear."""
        with inline():
            return coefficients_of(self.ramp, self.detector)

    @cached_property
    def frame_maps(self) -> dict[str, NDArray[Any]]:
        """Maps of a frame that the exposure carries, those that make counts linear aside."""
        with inline():
            return {
                str(name): np.asarray(c.values)
                for name, c in self.ramp.coords.items()
                if c.dims == ("y", "x") and not str(name).startswith(PREFIX)
            }

    def limiting(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        """Maps that say which reads may be used."""
        held: dict[str, NDArray[Any]] | None = self.__dict__.get("_limiting")
        if held is None:
            with inline():
                held = self.__dict__["_limiting"] = limiting_maps(self.ramp, prepared)
        return held

    def stored(self, region: Region, frames: Sequence[int] | None = None) -> NDArray[Any]:
        """Frames of a region as the file has them, (T, ny, nx)."""
        source = self.described.source
        return source.read(region) if frames is None else source.read_frames(region, frames)

    def flags(self, region: Region, stored: NDArray[Any]) -> NDArray[np.uint8] | None:
        """Flags of a region; those of values that are not finite need no second reading."""
        source = self.described.source
        if not source.has_flags:
            return None
        return source.read_flags(region) if source.stores_flags else (~np.isfinite(stored)).view(np.uint8)

    def counts(self, stored: NDArray[Any], region: Region) -> NDArray[Any]:
        """Linear counts of a region."""
        if self.coefficients is None:
            return stored
        return linear_block(stored, self.coefficients[:, region.y, region.x])

    def read(self, region: Region) -> NDArray[Any]:
        """Linear counts of any block, (T, ny, nx)."""
        return self.counts(self.stored(region), region)


_opened: dict[tuple[Any, ...], Opened] = {}
_opening = Lock()


def open_path(path: str, overrides: Mapping[str, Any], *, mark: Any = None, most: int = MOST_LIGHT) -> Opened:
    """Open an exposure, or take it as this process has it; ``mark`` changes when the file does."""
    key = path, mark, repr(sorted(overrides.items()))
    with _opening:
        found = _opened.get(key)
    if found is not None:
        return found
    described = open_described(path, **overrides)
    new = Opened(described, label(described))
    with _opening:
        while len(_opened) >= most:
            _opened.pop(next(iter(_opened)))
        return _opened.setdefault(key, new)


def open_item(item: Item, overrides: Mapping[str, Any]) -> Opened:
    """Open the exposure of an item.

    Raises
    ------
    InputError
        If it cannot be opened, or is no longer what it was when the run was planned.
    """
    found = open_path(item.path, overrides, mark=(item.size, item.mtime_ns), most=MOST_OPEN)
    source = found.described.source
    changed = item.header and (source.stamp.size, source.stamp.mtime_ns) != (item.size, item.mtime_ns)
    if changed or source.shape != item.shape or str(source.dtype) != item.dtype:
        raise InputError(
            f"{item.path} is not what it was when the run was planned: resume the run with --accept-changes"
        )
    return found
