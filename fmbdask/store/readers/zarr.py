"""Ramps in Zarr stores (v3 and v2): an array, or a group with an array named ``ramp`` or ``data``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region
from .containers import check_blosc
from .files import Stamp, check_unchanged, ramp_shape, reason, stamp_of, working_dtype
from .fits_header import default_exposure
from .labelled import (
    LabelledRamp,
    check_axes,
    edge_of_chunks,
    find_array,
    find_flags,
    find_maps,
    known_attrs,
    read_counts,
    read_times,
    warn_of_slow_chunks,
)
from .maps import FileMap
from .protocol import RampSource

#: Attribute of a group whose every chunk was written, so that a missing one is damage and not a fill value.
COMPLETE = "fmbdask"
#: Metadata files, one of which every store has; its time tells whether a store was replaced.
METADATA = ("zarr.json", ".zgroup", ".zarray")


@dataclass(frozen=True, eq=False, kw_only=True)
class ZarrRamp(LabelledRamp):
    """An array in a Zarr store."""

    def window(self, member: str, region: Region) -> NDArray[Any]:
        """Read a region of a named array, as it is stored."""
        window = (slice(None), region.y, region.x)
        try:
            array = _array(self.path, self.stamp, member)
            axes = self.stored_axes
            first = (region.integration, 0, region.y0, region.x0)[-axes:]
            check_blosc(self.path, member, array, first, (1, self.shape[1], *region.shape)[-axes:])
            return np.asarray(array[window if self.stored_axes == 3 else (region.integration, *window)])
        except InputError:
            raise
        except Exception as error:  # stores and codecs raise whatever they stumble over
            raise InputError(
                f"{self.path} cannot be read at rows {region.y0}-{region.y1 - 1}, columns "
                f"{region.x0}-{region.x1 - 1} ({reason(error)}): write the store again"
            ) from error


@lru_cache(maxsize=64)
def _array(path: str, stamp: Stamp, member: str) -> Any:
    """Open an array once per process."""
    import zarr

    check_unchanged(metadata_of(path), stamp)
    node: Any = zarr.open(path, mode="r")
    array = node[member] if member else node
    # numbers that fill what was never written would pass for reads; NaN tells, and flags are mostly 0
    if COMPLETE in node.attrs or (not member.endswith("flags") and array.fill_value == array.fill_value):
        missing = array.nchunks - array.nchunks_initialized
        if missing:
            raise InputError(
                f"{path}[{member}] lacks {missing} of its {array.nchunks} chunks, which would read as "
                f"{array.fill_value}: write the store again, empty chunks too"
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
    raise InputError(f"{path} is a folder without Zarr metadata: give a Zarr store or the path of a file")


def open_zarr(path: str, extension: int | str | None = None) -> ZarrRamp:
    """Open a ramp in a Zarr store, reading metadata and the small arrays of read times only.

    Parameters
    ----------
    path : str
        The store.
    extension : str, optional
        Name of the array, `ramp` or `data` by default.

    Raises
    ------
    InputError
        If the metadata cannot be read or there is no ramp.
    """
    try:
        return _open(path, extension)
    except InputError:
        raise
    except Exception as error:  # zarr raises whatever its JSON or its codecs raise
        raise InputError(
            f"{path} has Zarr metadata that cannot be read ({reason(error)}): write the store again"
        ) from error


def _open(path: str, extension: int | str | None) -> ZarrRamp:
    import zarr

    stamp = stamp_of(metadata_of(path))
    node: Any = zarr.open(path, mode="r")
    member = ""
    group: Any = {}
    array: Any = node
    if isinstance(node, zarr.Group):
        group = node
        member = find_array(group, extension, path)
        array = node[member]
    elif extension is not None:
        raise InputError(f"{path} is one array, it has no extension {extension}: leave extension out")
    where = f"{path}[{member}]" if member else path
    full = ramp_shape(array.shape, where)
    dtype = working_dtype(array.dtype, where)
    check_axes(
        getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS"), where
    )
    warn_of_slow_chunks(array.chunks, full, dtype, path)
    stored: Mapping[str, Any] = dict(node.attrs) | dict(array.attrs)
    attrs = {**default_exposure(path), **known_attrs(stored)}
    prepared = group.get("prepared", {})
    return ZarrRamp(
        path=path,
        stamp=stamp,
        shape=full,
        dtype=dtype,
        attrs=attrs,
        read_times=read_times(group, full[1], path),
        reads_per_frame=read_counts(group, full[1], path),
        maps=find_maps(path, group, full, "zarr"),
        prepared={
            name: FileMap(
                path, tuple(prepared[name].shape), str(prepared[name].dtype), f"prepared/{name}", "zarr"
            )
            for name in prepared
        },
        reference_output=_reference_output(path, stamp, group, attrs),
        edge=edge_of_chunks(array.chunks, full),
        member=member,
        flags_member=find_flags(path, group, member, array.shape),
        stored_axes=len(array.shape),
    )


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
