"""Items of a run from the headers of exposures: nothing but headers is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from ...errors import FmbdaskError, InputError
from ...ramps.detector import describe
from ...regions import Region, edge_for
from ...store.overrides import open_described
from ...store.ramps import chunk_edge, label
from ...store.run.items import Item


def described_item(path: str, index: int, overrides: Mapping[str, Any], edge: int | None) -> Item:
    """Describe an exposure; one that cannot be used becomes an item with a ``problem``."""
    empty = Item(index, "", path)
    try:
        described = open_described(path, **overrides)
        if "gain_map" not in described.maps:  # which would be read
            describe(label(described))
        if described.attrs.get("accumulating") is False:
            raise InputError(
                f"{path} holds fluxes that do not accumulate, which are no ramp: say accumulate: true under "
                "exposure to integrate them over time"
            )
    except (FmbdaskError, OSError) as error:
        return replace(empty, problem=" ".join(str(error).split()))
    except Exception as error:  # a library that trips over a damaged header stops no survey
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return replace(empty, problem=f"{path} cannot be read ({words}): get a fresh copy of it")
    source = described.source
    return shaped_item(empty, source.shape, str(source.dtype), edge or chunk_edge(source))


def shaped_item(item: Item, shape: Sequence[int], dtype: str, edge: int | None = None) -> Item:
    """Complete an item of one stage whose shape is known: its regions, and the bytes that are read."""
    full = (1, *shape) if len(shape) == 3 else tuple(shape)
    itemsize = np.dtype(dtype).itemsize
    edge = edge or edge_for(full[1], itemsize)
    return replace(
        item,
        shape=full,
        dtype=dtype,
        edge=edge,
        regions=(full[0] * -(-full[2] // edge) * -(-full[3] // edge),),
        nbytes=int(np.prod(full)) * itemsize,
    )


def region_of(shape: Sequence[int], edge: int, index: int) -> Region:
    """One of :func:`fmbdask.regions.tile_regions`, without the others.

    Examples
    --------
    >>> region_of((2, 10, 100, 200), 128, 3)
    Region(integration=1, y0=0, y1=100, x0=128, x1=200)
    """
    rows, columns = shape[-2:]
    wide, high = -(-columns // edge), -(-rows // edge)
    integration, place = divmod(index, wide * high)
    y, x = (n * edge for n in divmod(place, wide))
    return Region(integration, y, min(y + edge, rows), x, min(x + edge, columns))


def contents(paths: Sequence[str]) -> dict[str, str]:
    """Checksums of the files that results depend on beside the inputs: maps, and folders of them."""
    found = {}
    for path in map(Path, paths):
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        state = xxhash.xxh3_128()
        for file in files:
            if file.is_file():
                state.update(file.name.encode() + b"\0")
                state.update(file.read_bytes())
        found[str(path)] = state.hexdigest() if files and files[0].is_file() else ""
    return found
