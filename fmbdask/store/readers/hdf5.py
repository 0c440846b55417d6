"""Ramps in HDF5 files: a dataset named ``ramp`` or ``data``, described like our Zarr stores.

Beside it may be ``read_times`` [s], ``reads_per_frame``, ``flags`` and maps; attributes may stand on the
dataset or the file. A region is read by h5py, which decodes every chunk that the region touches: chunks of
all frames and a square of pixels are fast, chunks of whole frames are told to be slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region
from .containers import opened
from .files import Stamp, check_unchanged, ramp_shape, reason, working_dtype
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Hdf5Ramp(LabelledRamp):
    """A dataset (frame, y, x) or (integration, frame, y, x) in an HDF5 file."""

    def window(self, member: str, region: Region) -> NDArray[Any]:
        """Read a region of a named array, as it is stored."""
        window = (slice(None), region.y, region.x)
        try:
            check_unchanged(self.path, self.stamp)
            array = opened(self.path, self.stamp)[member]
            values = np.asarray(array[window if self.stored_axes == 3 else (region.integration, *window)])
            if member == self.member and array.chunks:
                self._check_fill(array, values, region)
            return values
        except InputError:
            raise
        except Exception as error:  # the library raises whatever its filters raise
            raise InputError(
                f"{self.path}[{member}] cannot be read at rows {region.y0}-{region.y1 - 1}, columns "
                f"{region.x0}-{region.x1 - 1} ({reason(error)}): get a fresh copy of it"
            ) from error

    def _check_fill(self, array: Any, values: NDArray[Any], region: Region) -> None:
        """Refuse a chunk that the damaged index of a file does not find: the library reads it as fill value.

        Only chunks that read as nothing else are looked up, since to look one up is to read it again.
        """
        corner = (region.integration, 0, region.y0, region.x0)
        heights = array.chunks[-3:]
        firsts = [
            range(first // c * c, first + n, c)
            for first, n, c in zip(corner[1:], values.shape, heights, strict=True)
        ]
        for place in product(*firsts):
            part = tuple(
                slice(max(p - first, 0), p - first + c)
                for p, first, c in zip(place, corner[1:], heights, strict=True)
            )
            if np.any(values[part] != array.fillvalue):
                continue
            first = region.integration // array.chunks[0] * array.chunks[0] if self.stored_axes == 4 else 0
            array.id.read_direct_chunk((first, *place) if self.stored_axes == 4 else place)


def open_hdf5(path: str, stamp: Stamp, extension: int | str | None = None) -> Hdf5Ramp:
    """Open a ramp in an HDF5 file, reading metadata and the small arrays of read times only.

    Parameters
    ----------
    path, stamp
        The file.
    extension : str, optional
        Name of the dataset, `ramp` or `data` by default.

    Raises
    ------
    InputError
        If the file cannot be read, or there is no ramp in it, or part of the ramp was never written.
    """
    file = opened(path, stamp)
    try:
        return _open(path, stamp, file, extension)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} cannot be read as HDF5 ({reason(error)}): get a fresh copy of it"
        ) from error


def _open(path: str, stamp: Stamp, file: Any, extension: int | str | None) -> Hdf5Ramp:
    member = find_array(file, extension, path)
    data = file[member]
    where = f"{path}[{member}]"
    full = ramp_shape(data.shape, where)
    dtype = working_dtype(data.dtype, where)
    check_axes([d.label for d in data.dims if d.label], where)
    _check_written(data, where)
    chunks = data.chunks
    if chunks:
        warn_of_slow_chunks(chunks, full, dtype, path)
    return Hdf5Ramp(
        path=path,
        stamp=stamp,
        shape=full,
        dtype=dtype,
        attrs={**default_exposure(path), **known_attrs(dict(file.attrs) | dict(data.attrs))},
        read_times=read_times(file, full[1], path),
        reads_per_frame=read_counts(file, full[1], path),
        maps=find_maps(path, file, full, "hdf5"),
        edge=edge_of_chunks(chunks, full) if chunks else None,
        member=member,
        flags_member=find_flags(path, file, member, data.shape),
        stored_axes=len(data.shape),
    )


def _check_written(data: Any, where: str) -> None:
    """Refuse a dataset of which parts were never written: they would read as zero."""
    if data.is_virtual or data.external:
        raise InputError(f"{where} keeps its values in other files: copy them into one dataset")
    if data.chunks is None:
        missing, total = int(not data.id.get_storage_size()), 1
    else:
        total = int(np.prod([-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True)]))
        missing = total - data.id.get_num_chunks()
    if missing:
        raise InputError(
            f"{where} lacks {missing} of its {total} chunks, which would read as zero: write the file again"
        )
