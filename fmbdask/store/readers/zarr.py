"""Ramps in Zarr stores (v3 and v2): an array, or a group with an array named ``ramp`` or ``data``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region, edge_for
from .files import DIMS, Stamp, check_unchanged, ramp_shape, stamp_of, working_dtype
from .fits_header import default_exposure
from .maps import FileMap
from .protocol import Exposure, RampSource

#: Times a region's own size that may be decoded for it without a warning.
SLOW = 4
#: Names of the array that is the ramp.
ARRAY_NAMES = ("ramp", "data")
#: Arrays of maps beside the ramp that are understood.
MAP_NAMES = ("bad_pixel", "gain_map", "read_noise_map", "saturation_map", "linearity")
#: Attribute of a group whose every chunk was written, so that a missing one is damage and not a fill value.
COMPLETE = "fmbdask"
#: Metadata files, one of which every store has; its time tells whether a store was replaced.
METADATA = ("zarr.json", ".zgroup", ".zarray")


@dataclass(frozen=True, eq=False, kw_only=True)
class ZarrRamp(Exposure):
    """An array in a Zarr store.

    Attributes
    ----------
    member : str
        Name of the array inside the group; empty if the store is the array.
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
        return np.ascontiguousarray(self._window(self.member, region), self.dtype)

    def read_flags(self, region: Region) -> NDArray[np.uint8]:
        """Read the do-not-use (1) and saturated (2) bits; values that are not finite are do-not-use."""
        flags = super().read_flags(region)
        if self.flags_member:
            flags |= np.asarray(self._window(self.flags_member, region), np.uint8)
        return flags

    def _window(self, member: str, region: Region) -> NDArray[Any]:
        window = (slice(None), region.y, region.x)
        array = _array(self.path, self.stamp, member)
        try:
            return np.asarray(array[window if self.stored_axes == 3 else (region.integration, *window)])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise InputError(
                f"{self.path} cannot be read at rows {region.y0}-{region.y1 - 1}, columns "
                f"{region.x0}-{region.x1 - 1} ({error}): write the store again"
            ) from error


@lru_cache(maxsize=64)
def _array(path: str, stamp: Stamp, member: str) -> Any:
    """Open an array once per process."""
    import zarr

    check_unchanged(metadata_of(path), stamp)
    node: Any = zarr.open(path, mode="r")
    array = node[member] if member else node
    if COMPLETE in node.attrs:
        missing = array.nchunks - array.nchunks_initialized
        if missing:
            raise InputError(
                f"{path}[{member}] lacks {missing} of its {array.nchunks} chunks, which would read as zero: "
                "ingest the exposure again"
            )
    return array


def metadata_of(path: str) -> str:
    """Find the metadata file of a store.

    Raises
    ------
    InputError
        If there is none.
    """
    for name in METADATA:
        candidate = os.path.join(path, name)
        if os.path.exists(candidate):
            return candidate
    raise InputError(f"{path} is a folder without Zarr metadata: give a FITS or .npy file, or a Zarr store")


def open_zarr(path: str) -> ZarrRamp:
    """Open a ramp in a Zarr store, reading metadata and the small arrays of read times only.

    Raises
    ------
    InputError
        If the metadata cannot be read or there is no ramp.
    """
    import zarr

    stamp = stamp_of(metadata_of(path))
    try:
        node = zarr.open(path, mode="r")
    except Exception as error:  # zarr raises whatever its JSON or its codecs raise
        raise InputError(
            f"{path} has Zarr metadata that cannot be read ({error}): write the store again"
        ) from error
    member = ""
    group: Any = {}
    array: Any = node
    if isinstance(node, zarr.Group):
        group = node
        member = next((name for name in ARRAY_NAMES if name in node), "")
        if not member or not isinstance(node[member], zarr.Array):
            raise InputError(f"{path} has no array named ramp or data: name the array of the exposure ramp")
        array = node[member]
    where = f"{path}[{member}]" if member else path
    full = ramp_shape(array.shape, where)
    dtype = working_dtype(array.dtype, where)
    _check_axes(array, where)
    _warn_of_slow_chunks(array.chunks, full, dtype, path)
    stored: Mapping[str, Any] = dict(node.attrs) | dict(array.attrs)
    attrs = {**default_exposure(path), **_attrs(stored)}
    flags_member = "flags" if "flags" in group and member else ""
    if flags_member and tuple(group["flags"].shape) != tuple(array.shape):
        raise InputError(
            f"{path}[flags] has shape {group['flags'].shape} where {member} has {array.shape}: write it in "
            "one shape"
        )
    prepared = group.get("prepared", {})
    return ZarrRamp(
        path=path,
        stamp=stamp,
        shape=full,
        dtype=dtype,
        attrs=attrs,
        read_times=_times(group, "read_times", full[1], path),
        reads_per_frame=_counts(group, full[1], path),
        maps=_maps(path, group, full, member),
        prepared={
            name: FileMap(
                path, tuple(prepared[name].shape), str(prepared[name].dtype), f"prepared/{name}", "zarr"
            )
            for name in prepared
        },
        reference_output=_reference_output(path, stamp, group, attrs),
        edge=_edge(array.chunks, full),
        member=member,
        flags_member=flags_member,
        stored_axes=len(array.shape),
    )


def _edge(chunks: tuple[int, ...], shape: tuple[int, int, int, int]) -> int | None:
    """Edge of chunks that hold all frames of a square of pixels (or of a whole axis), else None."""
    edge = max(chunks[-2:])
    whole = (shape[1], min(edge, shape[2]), min(edge, shape[3]))
    return int(edge) if tuple(chunks[-3:]) == whole else None


def _check_axes(array: Any, where: str) -> None:
    """Refuse an array whose named axes are in another order."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    wanted = DIMS[-len(array.shape) :]
    if names and tuple(names) != wanted and sorted(map(str, names)) == sorted(wanted):
        raise InputError(f"{where} has axes in order {', '.join(names)}: store it as {', '.join(wanted)}")


def _warn_of_slow_chunks(
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


def _attrs(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the attributes a ramp knows; the path is where the store lies now."""
    known = (
        "gain",
        "read_noise",
        "saturation",
        "reference_border",
        "amplifiers",
        "amplifier_layout",
        "instrument",
        "exposure",
    )
    attrs: dict[str, Any] = {"units": str(stored.get("units", "DN"))}
    attrs.update({key: stored[key] for key in known if stored.get(key) is not None})
    return attrs


def _times(group: Any, name: str, frames: int, path: str) -> NDArray[np.float64] | None:
    if name not in group:
        return None
    values = np.asarray(group[name][...], np.float64)
    if values.shape != (frames,) or not np.all(np.diff(values) > 0):
        raise InputError(f"{path}[{name}] must hold {frames} increasing values: write the store again")
    return values


def _counts(group: Any, frames: int, path: str) -> NDArray[np.int64]:
    if "reads_per_frame" not in group:
        return np.ones(frames, np.int64)
    values = np.asarray(group["reads_per_frame"][...], np.int64)
    if values.shape != (frames,) or values.min() < 1:
        raise InputError(
            f"{path}[reads_per_frame] must hold {frames} values of at least 1: write the store again"
        )
    return values


def _maps(path: str, group: Any, shape: tuple[int, int, int, int], member: str) -> dict[str, FileMap]:
    maps = {}
    for name in MAP_NAMES if member else ():
        if name in group:
            array = group[name]
            if tuple(array.shape[-2:]) != shape[2:]:
                raise InputError(
                    f"{path}[{name}] has shape {tuple(array.shape)} where a frame has {shape[2:]}: give it "
                    "that shape"
                )
            maps[name] = FileMap(path, tuple(array.shape), str(array.dtype), name, "zarr")
    return maps


def _reference_output(path: str, stamp: Stamp, group: Any, attrs: Mapping[str, Any]) -> RampSource | None:
    if "refout" not in group:
        return None
    array = group["refout"]
    full = ramp_shape(array.shape, f"{path}[refout]")
    return ZarrRamp(
        path=path,
        stamp=stamp,
        shape=full,
        dtype=working_dtype(array.dtype, f"{path}[refout]"),
        attrs=attrs,
        reads_per_frame=np.ones(full[1], np.int64),
        member="refout",
        stored_axes=len(array.shape),
    )
