"""How arrays lie in the Zarr stores that are written here: chunks, codec, names of axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from ..regions import edge_for
from .readers.files import DIMS


def codec() -> BloscCodec:
    """Compress by blosc lz4 with bit shuffle: reads of noisy integers run at 3 GB/s, a third smaller."""
    return BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")


def ramp_chunks(shape: Sequence[int], itemsize: int) -> tuple[int, int, int, int]:
    """Choose the chunks of a ramp: one integration, all frames, a square of pixels (or the whole frame)."""
    edge = edge_for(shape[1], itemsize)
    return 1, shape[1], min(edge, shape[2]), min(edge, shape[3])


def create_array(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    dtype: Any,
    chunks: Sequence[int],
    dims: Sequence[str],
    attrs: Mapping[str, Any] | None = None,
    *,
    shards: Sequence[int] | None = None,
    fill: float | None = None,
) -> zarr.Array[Any]:
    """Create an array whose every chunk is written, zero or not: a missing one is then an error."""
    return group.create_array(
        name,
        shape=tuple(shape),
        dtype=np.dtype(dtype),
        chunks=tuple(chunks),
        shards=None if shards is None else tuple(shards),
        fill_value=fill,
        compressors=codec(),
        dimension_names=tuple(dims),
        attributes=dict(attrs or {}),
        config={"write_empty_chunks": True},
    )


def put_array(
    group: zarr.Group,
    name: str,
    values: NDArray[Any],
    dims: Sequence[str],
    attrs: Mapping[str, Any] | None = None,
) -> None:
    """Store a small array as one chunk."""
    shape = tuple(max(1, n) for n in values.shape)
    create_array(group, name, values.shape, values.dtype, shape, dims, attrs)[...] = values


def create_ramp(
    path: Path,
    shape: tuple[int, int, int, int],
    dtype: Any,
    attrs: Mapping[str, Any],
    read_times: NDArray[np.float64] | None,
    reads_per_frame: NDArray[np.int64],
) -> zarr.Group:
    """Create a store with an empty array ``ramp`` and the timing of its frames.

    Attributes of the ramp go on the array; what a reader works out by itself (the path) is left out.
    """
    group = zarr.create_group(str(path), zarr_format=3)
    kept = {key: value for key, value in attrs.items() if key != "source"}
    item = np.dtype(dtype)
    create_array(group, "ramp", shape, item, ramp_chunks(shape, item.itemsize), DIMS, kept)
    if read_times is not None:
        put_array(group, "read_times", read_times, ("frame",), {"units": "s"})
    put_array(group, "reads_per_frame", reads_per_frame, ("frame",), {"units": "1"})
    return group
