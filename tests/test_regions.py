"""Geometry of regions: every pixel once, and no region that shares a chunk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbdask.errors import ConfigError
from fmbdask.regions import CHUNK_LIMIT, check_alignment, edge_for, tile_regions

SIZES = st.integers(1, 70)


@given(st.integers(1, 3), SIZES, SIZES, st.integers(1, 80))
def test_regions_cover_every_pixel_once(integrations: int, rows: int, columns: int, edge: int) -> None:
    count = np.zeros((integrations, rows, columns), int)
    regions = tile_regions((integrations, 5, rows, columns), edge)
    for region in regions:
        count[region.integration, region.y, region.x] += 1
        assert 1 <= min(region.shape) <= max(region.shape) <= edge
    assert (count == 1).all()
    assert regions == sorted(regions)


@given(st.integers(1, 5000), st.sampled_from([1, 2, 4, 8]))
def test_edge_is_the_largest_power_of_two_within_the_limit(frames: int, itemsize: int) -> None:
    edge = edge_for(frames, itemsize)
    assert edge in (16, 32, 64, 128, 256, 512)
    assert edge == 16 or frames * edge**2 * itemsize <= CHUNK_LIMIT
    assert edge == 512 or frames * (2 * edge) ** 2 * itemsize > CHUNK_LIMIT


def test_edge_at_450_frames() -> None:
    assert edge_for(450, 2) == 128


def test_a_region_needs_a_pixel() -> None:
    with pytest.raises(ConfigError, match="at least one pixel"):
        tile_regions((1, 5, 10, 10), 0)


def test_aligned_chunks_and_shards_pass() -> None:
    check_alignment(128, (1, 450, 64, 128), (1, 450, 128, 128))


@pytest.mark.parametrize(
    ("chunks", "shards", "what"),
    [((1, 9, 128, 100), None, "chunks of 100"), ((1, 9, 64, 64), (1, 9, 256, 128), "shards of 256")],
)
def test_a_region_that_cuts_a_chunk_or_a_shard_is_refused(
    chunks: tuple[int, ...], shards: tuple[int, ...] | None, what: str
) -> None:
    with pytest.raises(ConfigError, match=f"{what} pixels of mask along .* choose an edge"):
        check_alignment(128, chunks, shards, name="mask")
