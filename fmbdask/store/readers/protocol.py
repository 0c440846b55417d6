"""What every reader gives: one protocol, and the description of an exposure that all of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...regions import Region
from .files import Stamp
from .maps import FileMap


class RampSource(Protocol):
    """An exposure whose numbers are read region by region.

    A source is small and pickles: a worker that receives one opens the file anew, by its path.

    Attributes
    ----------
    path : str
        The file or store.
    shape : tuple of int
        (integration, frame, y, x).
    dtype : numpy dtype
        uint16, float32 or float64, native byte order.
    attrs : mapping
        What the file says about itself: see :func:`fmbdask.open_ramp`.
    read_times : (T,) float64 array or None
        Mean time of the reads of each frame since the reset [s]; None if the file does not tell.
    reads_per_frame : (T,) int64 array
        Reads averaged into each frame.
    maps : mapping of FileMap
        Two-dimensional maps (``bad_pixel``, ``gain_map``, ...), not yet read.
    stores_flags, has_flags : bool
        Whether the file holds flags; whether ``read_flags`` can find anything.
    reference_output : RampSource or None
        The output that reads no pixels, where the detector has one (JWST MIRI's REFOUT).
    prepared : mapping of FileMap
        Arrays that :func:`fmbdask.store.ramps.ingest` stored beside the ramp.
    """

    @property
    def path(self) -> str: ...
    @property
    def stamp(self) -> Stamp: ...
    @property
    def shape(self) -> tuple[int, int, int, int]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def attrs(self) -> Mapping[str, Any]: ...
    @property
    def read_times(self) -> NDArray[np.float64] | None: ...
    @property
    def reads_per_frame(self) -> NDArray[np.int64]: ...
    @property
    def maps(self) -> Mapping[str, FileMap]: ...
    @property
    def stores_flags(self) -> bool: ...
    @property
    def has_flags(self) -> bool: ...
    @property
    def reference_output(self) -> RampSource | None: ...
    @property
    def prepared(self) -> Mapping[str, FileMap]: ...
    @property
    def edge(self) -> int | None:
        """Edge of the file's own chunks where all frames of a square lie together, else None."""

    def read(self, region: Region) -> NDArray[Any]:
        """Read one region: (T, ny, nx), C-contiguous."""

    def read_frames(self, region: Region, frames: Sequence[int]) -> NDArray[Any]:
        """Read some frames of one region: (frames, ny, nx), C-contiguous."""

    def read_flags(self, region: Region) -> NDArray[np.uint8]:
        """Read the flags of one region: bit 1 do not use, bit 2 saturated."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Exposure(ABC):
    """The part of a source that is the same for every format."""

    path: str
    stamp: Stamp
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    read_times: NDArray[np.float64] | None = None
    reads_per_frame: NDArray[np.int64]
    maps: Mapping[str, FileMap] = field(default_factory=dict)
    prepared: Mapping[str, FileMap] = field(default_factory=dict)
    reference_output: RampSource | None = None
    edge: int | None = None

    @property
    def stores_flags(self) -> bool:
        """Whether the file holds flags."""
        return False

    @property
    def has_flags(self) -> bool:
        """Whether the file holds flags, or its values may be NaN or infinite."""
        return self.stores_flags or self.dtype.kind == "f"

    @abstractmethod
    def read(self, region: Region) -> NDArray[Any]:
        """Read one region: (T, ny, nx), C-contiguous."""

    def read_frames(self, region: Region, frames: Sequence[int]) -> NDArray[Any]:
        """Read some frames of one region: (frames, ny, nx), C-contiguous."""
        return np.ascontiguousarray(self.read(region)[list(frames)])

    def read_flags(self, region: Region) -> NDArray[np.uint8]:
        """Flag the values that are not finite as do-not-use (bit 1)."""
        if self.dtype.kind != "f":
            return np.zeros((self.shape[1], *region.shape), np.uint8)
        return np.asarray(~np.isfinite(self.read(region)), np.uint8)
