"""Exposures copied into Zarr stores that are chunked for detection, with checksums, and verified."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from ..atomic import atomic
from ..errors import InputError
from ..regions import Region
from .layout import create_array, create_ramp, put_array, ramp_chunks
from .overrides import open_described
from .readers import RampSource
from .readers.files import DIMS
from .readers.zarr import COMPLETE

#: ``progress(done, total, nbytes)``: strips of rows written and verified, of how many, and bytes so far.
Progress = Callable[[int, int, int], None]

#: Each thread holds about three chunks.
MOST_THREADS = 8
DIGEST_BYTES = hashlib.sha256().digest_size
MAP_DIMS = {2: ("y", "x"), 3: ("coefficient", "y", "x")}


def ingest(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    prepared: Mapping[str, NDArray[Any]] | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> Path:
    """Copy an exposure into a Zarr store whose chunks hold all frames of a square of pixels.

    The store has the array ``ramp`` (integration, frame, y, x) with the attributes of the exposure, its
    timing, maps, flags and reference output where there are such, ``checksums`` (sha256 of the values of
    each chunk of the ramp), and the sha256 of the source's bytes among its attributes. Every chunk is read
    back and compared; the store gets its name only then. Memory stays within two strips of chunks.

    Parameters
    ----------
    path : path
        An exposure of any format that can be read.
    out : path
        The store to write.
    overwrite : bool
        Whether a store that is there is replaced.
    prepared : mapping of arrays, optional
        Arrays to keep beside the ramp, in the group ``prepared``.
    progress : callable, optional
        Called as ``progress(done, total, nbytes)`` after each strip.
    **overrides
        What :func:`fmbdask.open_ramp` takes; kept in the store.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    InputError
        If the exposure cannot be read, or what was written does not read back as it was.
    OutputExistsError
        If the store exists and is not to be overwritten.
    """
    described = open_described(path, **overrides)
    source = described.source
    with atomic(Path(out), overwrite=overwrite) as temporary:
        group = create_ramp(
            temporary,
            source.shape,
            source.dtype,
            described.attrs,
            described.read_times,
            source.reads_per_frame,
        )
        _copy(source, group, "ramp", Path(out), progress)
        if source.stores_flags:
            _copy_flags(source, group)
        if source.reference_output is not None:
            _copy_reference_output(source.reference_output, group, Path(out))
        for name, file_map in described.maps.items():
            values = np.asarray(file_map)
            put_array(group, name, values, MAP_DIMS[values.ndim])
        for name, values in (prepared or {}).items():
            put_array(group, f"prepared/{name}", values, [f"{name}_{axis}" for axis in range(values.ndim)])
        group.attrs[COMPLETE] = {
            "version": version("fmbdask"),
            "source": source.path,
            "source_bytes": source.stamp.size,
            "source_sha256": sha256_of(Path(source.path)),
        }
    return Path(out)


def _copy(source: RampSource, group: zarr.Group, name: str, out: Path, progress: Progress | None) -> None:
    """Copy chunk by chunk, a strip of rows at a time, and keep the checksums beside the array."""
    stored: Any = group[name]
    array = stored.with_config({"write_empty_chunks": True})
    regions = _chunk_regions(array)
    digests = np.empty((*regions.shape, DIGEST_BYTES), np.uint8)

    def copy(region: Region) -> NDArray[np.uint8]:
        values = source.read(region)
        array[region.integration, :, region.y, region.x] = values
        digest = _digest(values)
        del values
        _verify(array, region, digest, out)
        return digest

    nbytes = done = 0
    strips = list(np.ndindex(regions.shape[:2]))
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        for strip in strips:
            for column, digest in enumerate(pool.map(copy, regions[strip])):
                digests[(*strip, column)] = digest
                height, width = regions[(*strip, column)].shape
                nbytes += source.shape[1] * height * width * source.dtype.itemsize
            done += 1
            if progress is not None:
                progress(done, len(strips), nbytes)
    sums = f"{name}_checksums" if name != "ramp" else "checksums"
    put_array(group, sums, digests, ("integration", "chunk_y", "chunk_x", "byte"), {"algorithm": "sha256"})


def _chunk_regions(array: Any) -> NDArray[Any]:
    """Regions of the chunks of an array (integration, frame, y, x), as a grid of objects."""
    _, _, height, width = array.chunks
    integrations, _, rows, columns = array.shape
    grid = np.empty((integrations, -(-rows // height), -(-columns // width)), object)
    for i, row, column in np.ndindex(grid.shape):
        y, x = row * height, column * width
        grid[i, row, column] = Region(i, y, min(y + height, rows), x, min(x + width, columns))
    return grid


def _verify(array: Any, region: Region, expected: NDArray[np.uint8], out: Path) -> None:
    """Read one chunk back and compare it with its checksum."""
    try:
        same = np.array_equal(_digest(array[region.integration, :, region.y, region.x]), expected)
        how = "differs from its checksum"
    except (OSError, RuntimeError, ValueError) as error:
        same, how = False, f"cannot be decoded ({error})"
    if not same:
        raise InputError(
            f"{out}: the chunk of integration {region.integration}, rows {region.y0}-{region.y1 - 1}, "
            f"columns {region.x0}-{region.x1 - 1} {how}: ingest the exposure again"
        )


def _digest(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Checksum of the values in C order, whatever the layout in memory."""
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(values).data).digest(), np.uint8)


def _copy_flags(source: RampSource, group: zarr.Group) -> None:
    """Copy the flags in the chunks of the ramp."""
    ramp: Any = group["ramp"]
    chunks = ramp.chunks
    array = create_array(group, "flags", source.shape, np.uint8, chunks, DIMS)
    for i, y0 in product(range(source.shape[0]), range(0, source.shape[2], chunks[2])):
        y1 = min(y0 + chunks[2], source.shape[2])
        array[i, :, y0:y1, :] = source.read_flags(Region(i, y0, y1, 0, source.shape[3]))


def _copy_reference_output(output: RampSource, group: zarr.Group, out: Path) -> None:
    """Copy the reference output, with checksums of its own."""
    chunks = ramp_chunks(output.shape, output.dtype.itemsize)
    create_array(group, "refout", output.shape, output.dtype, chunks, (*DIMS[:2], "y_refout", "x_refout"))
    _copy(output, group, "refout", out, None)


def verify(path: str | os.PathLike[str]) -> int:
    """Compare every chunk of an ingested ramp with its checksum.

    Returns
    -------
    int
        Number of chunks, all of them sound.

    Raises
    ------
    InputError
        If the store has no checksums, or a chunk is missing or damaged.
    """
    out = Path(path)
    group: Any = zarr.open_group(str(path), mode="r")
    if "checksums" not in group:
        raise InputError(f"{path} has no checksums: only stores written by ingest can be verified")
    digests = np.asarray(group["checksums"][...])
    regions = _chunk_regions(group["ramp"])
    for index in np.ndindex(regions.shape):
        region: Any = regions[index]
        _verify(group["ramp"], region, digests[index], out)
    return regions.size


def sha256_of(path: Path) -> str:
    """Checksum of a file's bytes; of a folder's files, in the order of their names, with the names."""
    total = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            total.update(file.relative_to(path).as_posix().encode())
        with open(file, "rb") as content:
            while block := content.read(2**22):
                total.update(block)
    return total.hexdigest()
