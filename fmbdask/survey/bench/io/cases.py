"""What is written and read: arrays as surveys hold them, in several layouts, that of fmbdask among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

from fmbdask.ramps.simulation import make_exposure
from fmbdask.regions import BLOCK, edge_for
from fmbdask.store.layout import codec as usual_codec

from ..settings import SETTINGS

#: Simulated far from the seeds that judge detectors.
SEED = 424242
#: Rows and columns of the window that is read [pixel].
WINDOW = 128


@dataclass(frozen=True)
class Layout:
    """How an array is cut and compressed.

    Attributes
    ----------
    data : str
        ``ramps`` or ``vectors``.
    chunks : tuple of int
    codec : str
    shards : tuple of int, optional
    usual : bool
        Whether fmbdask writes it so.
    """

    data: str
    chunks: tuple[int, ...]
    codec: str
    shards: tuple[int, ...] | None = None
    usual: bool = False


#: Codecs by name; ``auto`` is what zarr-python takes by itself.
CODECS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "lz4 bitshuffle": usual_codec,
    "zstd 1 bitshuffle": lambda: BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),
    "zstd 1": lambda: ZstdCodec(level=1),
    "zarr's own": lambda: "auto",
}


def ramp(frames: int, size: int) -> NDArray[np.uint16]:
    """A dark exposure (frame, y, x) [DN]."""
    made, _ = make_exposure(SETTINGS["dark"].sized(frames, size, size, 1), seed=SEED)
    found: NDArray[np.uint16] = np.ascontiguousarray(made.values[0])
    return found


def vectors(objects: int, width: int = 768) -> NDArray[np.float32]:
    """Embeddings (object, feature): their digits are as good as random."""
    return np.random.default_rng(SEED).standard_normal((objects, width), np.float32)


def layouts(ramp_shape: tuple[int, ...], vector_shape: tuple[int, ...]) -> list[Layout]:
    """Layouts to compare for arrays of these shapes."""
    frames, size, _ = ramp_shape
    edge = min(edge_for(frames, 2), size)
    square = (frames, edge, edge)
    found = [
        Layout("ramps", square, "lz4 bitshuffle", usual=True),
        *(Layout("ramps", square, name) for name in CODECS if name != "lz4 bitshuffle"),
    ]
    for other in (edge // 2, 2 * edge):
        if 16 <= other <= size:
            found.append(Layout("ramps", (frames, other, other), "lz4 bitshuffle"))
    found.append(Layout("ramps", (1, size, size), "lz4 bitshuffle"))
    if size > edge:
        found.append(Layout("ramps", square, "lz4 bitshuffle", (frames, size, size)))
    rows = min(BLOCK, vector_shape[0])
    found += [
        Layout("vectors", (rows, vector_shape[1]), "none", usual=True),
        Layout("vectors", (rows, vector_shape[1]), "lz4 bitshuffle"),
        Layout("vectors", (rows, vector_shape[1]), "zstd 1 bitshuffle"),
    ]
    if vector_shape[0] >= 4 * rows:
        found.append(Layout("vectors", (rows, vector_shape[1]), "none", (4 * rows, vector_shape[1])))
    return found
