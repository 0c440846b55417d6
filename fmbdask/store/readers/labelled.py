"""What Zarr groups and HDF5 files have in common: a named array, and the arrays and attributes beside it."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region, edge_for
from .files import DIMS
from .maps import FileMap
from .protocol import Exposure

#: Times a region's own size that may be decoded for it without a warning.
SLOW = 4
#: Names of the array that is the ramp.
ARRAY_NAMES = ("ramp", "data")
#: Arrays of maps beside the ramp that are understood.
MAP_NAMES = ("bad_pixel", "gain_map", "read_noise_map", "saturation_map", "linearity")
#: Attributes of a ramp that are understood; its path is where the file lies now.
ATTRIBUTES = (
    "gain",
    "read_noise",
    "saturation",
    "reference_border",
    "amplifiers",
    "amplifier_layout",
    "read_interval",
    "instrument",
    "exposure",
    "accumulating",
    "notes",
)


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledRamp(Exposure):
    """A named array (frame, y, x) or (integration, frame, y, x), with or without flags beside it.

    Attributes
    ----------
    member : str
        Name of the array; empty if the store is the array.
    flags_member : str
        Name of the array of flags; empty if there is none.
    stored_axes : int
        3 if the stored array has no integration axis, else 4.
    """

    member: str = ""
    flags_member: str = ""
    stored_axes: int = 4

    @property
    def stores_flags(self) -> bool:
        """Whether flags are stored."""
        return bool(self.flags_member)

    def read(self, region: Region) -> NDArray[Any]:
        """Read one region: (T, ny, nx), C-contiguous."""
        return np.ascontiguousarray(self.window(self.member, region), self.dtype)

    def read_flags(self, region: Region) -> NDArray[np.uint8]:
        """Read the do-not-use (1) and saturated (2) bits; values that are not finite are do-not-use."""
        flags = super().read_flags(region)
        if self.flags_member:
            flags |= np.asarray(self.window(self.flags_member, region), np.uint8)
        return flags

    @abstractmethod
    def window(self, member: str, region: Region) -> NDArray[Any]:
        """Read a region of a named array, as it is stored."""


def known_attrs(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the attributes a ramp knows, as plain Python values."""
    attrs: dict[str, Any] = {"units": str(_plain(stored.get("units", "DN")))}
    attrs.update({key: _plain(stored[key]) for key in ATTRIBUTES if stored.get(key) is not None})
    return attrs


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def check_axes(names: Any, where: str) -> None:
    """Refuse an array whose named axes are in another order."""
    wanted = DIMS[-len(names) :] if names else ()
    if names and tuple(names) != wanted and sorted(map(str, names)) == sorted(wanted):
        raise InputError(f"{where} has axes in order {', '.join(names)}: store it as {', '.join(wanted)}")


def read_times(group: Any, frames: int, path: str) -> NDArray[np.float64] | None:
    """Read the array of times beside a ramp [s]; None if there is none."""
    if "read_times" not in group:
        return None
    values = np.asarray(group["read_times"][...], np.float64)
    if values.shape != (frames,) or not np.all(np.isfinite(values)) or not np.all(np.diff(values) > 0):
        raise InputError(f"{path}[read_times] must hold {frames} increasing values: write the file again")
    return values


def read_counts(group: Any, frames: int, path: str) -> NDArray[np.int64]:
    """Read the number of reads averaged into each frame; 1 where it is not told."""
    if "reads_per_frame" not in group:
        return np.ones(frames, np.int64)
    values = np.asarray(group["reads_per_frame"][...], np.int64)
    if values.shape != (frames,) or values.min() < 1:
        raise InputError(
            f"{path}[reads_per_frame] must hold {frames} values of at least 1: write the file again"
        )
    return values


def find_maps(path: str, group: Any, shape: tuple[int, int, int, int], kind: str) -> dict[str, FileMap]:
    """List the maps beside a ramp, without reading them."""
    maps = {}
    for name in MAP_NAMES:
        if name in group:
            array = group[name]
            if tuple(array.shape[-2:]) != shape[2:] or len(array.shape) != (3 if name == "linearity" else 2):
                raise InputError(
                    f"{path}[{name}] has shape {tuple(array.shape)} where a frame has {shape[2:]}: give it "
                    "that shape"
                )
            maps[name] = FileMap(path, tuple(array.shape), str(array.dtype), name, kind)
    return maps


def find_flags(path: str, group: Any, member: str, shape: tuple[int, ...]) -> str:
    """Name the array of flags beside a ramp; empty if there is none."""
    if "flags" not in group or not member:
        return ""
    flags = group["flags"]
    if tuple(flags.shape) != tuple(shape) or np.dtype(flags.dtype).kind not in "biu":
        raise InputError(
            f"{path}[flags] has shape {tuple(flags.shape)} and type {flags.dtype} where {member} has shape "
            f"{tuple(shape)}: write integers in that shape"
        )
    return "flags"


def find_array(group: Any, extension: int | str | None, path: str) -> str:
    """Name the array that is the ramp: the one asked for, else `ramp` or `data`.

    Raises
    ------
    InputError
        If there is no such array.
    """
    if extension is not None:
        if isinstance(extension, str) and extension in group and hasattr(group[extension], "shape"):
            return extension
        raise InputError(f"{path} has no array named {extension}: give the name of one that is there")
    for name in ARRAY_NAMES:
        if name in group and hasattr(group[name], "shape"):
            return name
    raise InputError(
        f"{path} has no array named ramp or data: name the array of the exposure ramp, or give its name as "
        "extension"
    )


def edge_of_chunks(chunks: tuple[int, ...], shape: tuple[int, int, int, int]) -> int | None:
    """Edge of chunks that hold all frames of a square of pixels (or of a whole axis), else None."""
    edge = max(chunks[-2:])
    whole = (shape[1], min(edge, shape[2]), min(edge, shape[3]))
    return int(edge) if tuple(chunks[-3:]) == whole else None


def warn_of_slow_chunks(
    chunks: tuple[int, ...], shape: tuple[int, int, int, int], dtype: np.dtype[Any], path: str
) -> None:
    """Say so when a region of all frames would decode far more than itself."""
    edge = edge_for(shape[1], dtype.itemsize)
    height, width = (min(edge, n) for n in shape[2:])
    times = max(chunks[-2] / height, 1) * max(chunks[-1] / width, 1)
    if times > SLOW:
        warnings.warn(
            f"{path} has chunks of {chunks}, of which every region of {height} x {width} pixels decodes "
            f"{times:.0f} times what it needs: ingest the exposure first",
            stacklevel=2,
        )
