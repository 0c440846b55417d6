"""One layout on a file system: written, read with empty and with full caches, and looked into."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from fmbdask.cluster.local import cores
from fmbdask.errors import InputError

from .cases import CODECS, WINDOW, Layout

Slices = tuple[slice, ...]


def measure(layout: Layout, values: NDArray[Any], folder: Path, repeats: int = 3) -> dict[str, Any]:
    """Write and read an array in one layout.

    Parameters
    ----------
    layout : Layout
    values : ndarray
    folder : Path
        On the file system that is measured; what is written there is removed.
    repeats : int
        Of each reading; medians are kept.

    Returns
    -------
    dict
        GB/s of the array's bytes (not of the compressed ones): ``write`` (one thread, until all is on the
        disk), ``read_cold`` (the system was asked to forget the files before), ``read`` and
        ``read_threads`` (one thread, and one a core); ``cpu_read`` CPU seconds a GB; ``window_ms`` of a
        window that lies across chunks; ``ratio`` of the bytes before and after compression; ``files``.

    Raises
    ------
    InputError
        If what is read is not what was written.
    """
    path = folder / "array.zarr"
    shutil.rmtree(path, ignore_errors=True)
    try:
        return _measured(layout, values, path, repeats)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _measured(layout: Layout, values: NDArray[Any], path: Path, repeats: int) -> dict[str, Any]:
    size = values.nbytes / 1e9
    array = zarr.create_array(
        str(path),
        shape=values.shape,
        dtype=values.dtype,
        chunks=layout.chunks,
        shards=layout.shards,
        compressors=CODECS[layout.codec](),
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    regions = list(tiles(values.shape, layout.shards or layout.chunks))
    begin = time.perf_counter()
    for region in regions:
        array[region] = values[region]
    sync(path)
    write = time.perf_counter() - begin
    files = [p for p in path.rglob("*") if p.is_file()]
    stored = sum(p.stat().st_size for p in files)
    blocks = list(tiles(values.shape, layout.chunks))
    for block in blocks:
        if not np.array_equal(np.asarray(array[block]), values[block]):
            raise InputError(f"{path} gave other values than were written: do not trust this file system")

    def whole() -> None:
        for block in blocks:
            array[block]

    def threads() -> None:
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(lambda block: array[block], blocks))

    cold = [_cold(path, whole) for _ in range(repeats)]
    warm = [_timed(whole) for _ in range(repeats)]
    together = [_timed(threads) for _ in range(repeats)]
    window = across(values.shape)
    looks = [_timed(lambda: array[window]) for _ in range(max(3, 3 * repeats))]
    return {
        "data": layout.data,
        "chunks": "x".join(map(str, layout.chunks)),
        "codec": layout.codec,
        "shards": "" if layout.shards is None else "x".join(map(str, layout.shards)),
        "usual": layout.usual,
        "write": size / write,
        "read_cold": size / float(np.median([wall for wall, _ in cold])),
        "read": size / float(np.median([wall for wall, _ in warm])),
        "read_threads": size / float(np.median([wall for wall, _ in together])),
        "cpu_read": float(np.median([cpu for _, cpu in warm])) / size,
        "window_ms": 1e3 * float(np.median([wall for wall, _ in looks])),
        "ratio": values.nbytes / stored,
        "files": len(files),
    }


def tiles(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[Slices]:
    """Cut an array along its chunks."""
    axes = [range(0, n, c) for n, c in zip(shape, chunks, strict=True)]
    for corner in product(*axes):
        yield tuple(slice(b, min(b + c, n)) for b, c, n in zip(corner, chunks, shape, strict=True))


def across(shape: tuple[int, ...]) -> Slices:
    """A window that lies across chunks: all frames of a square of pixels, or a thousand objects."""
    if len(shape) == 2:
        return slice(shape[0] // 3, min(shape[0], shape[0] // 3 + 1000)), slice(None)
    return slice(None), *(slice(n // 3, min(n, n // 3 + WINDOW)) for n in shape[1:])


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU time of this process [s]."""
    begin, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin, time.process_time() - cpu


def _cold(path: Path, work: Callable[[], object]) -> tuple[float, float]:
    """Time of work on files that the system was asked to forget; where it cannot be asked, it remembers."""
    forget(path)
    return _timed(work)


def sync(path: Path) -> None:
    """Wait until the files below a folder are on the disk."""
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())


def forget(path: Path) -> bool:
    """Ask the system to drop the files below a folder from its cache; whether it can be asked at all."""
    advise = getattr(os, "posix_fadvise", None)
    if advise is None:
        return False
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                advise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
