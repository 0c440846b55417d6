"""Blocks streamed through a card, here one made of this processor: results, lanes, and after errors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from fmbdask_kernels import rate_tables
from fmbdask_kernels import rates as cpu_rates
from fmbdask_kernels.cupy.streaming import Block, Lanes
from fmbdask_kernels.temporal import temporal_features
from numpy.typing import NDArray

from ..test_temporal import NOISE, make_block
from .compare import assert_same, told
from .host import HostCard, StreamingHost


def make(seed: int, ny: int, nx: int, masked: bool = False, dtype: Any = np.uint16) -> Block:
    """A block with what the lanes are told about it."""
    block = make_block(seed, 24, ny, nx, noise=10.0)
    data, used, tables, prior, offsets = told(block)
    rates = rate_tables.make_rates(block.pattern, tables, 0.0)
    usable = np.random.default_rng(seed).random(data.shape) > 0.003 if masked else None
    level = np.full((ny, nx), 65535, np.float32)
    return Block(
        data.astype(dtype), used, block.pattern, tables, prior, offsets, rates,
        np.broadcast_to(level[:1], (ny, nx)), usable,
    )  # fmt: skip


def check(block: Block, planes: NDArray[np.float32], best: NDArray[np.float32]) -> None:
    b = block
    want = temporal_features(
        b.data,
        b.used,
        b.tables,
        b.prior,
        b.offsets,
        pattern=b.pattern,
        usable=b.usable,
        saturation=b.saturation,
    )
    assert_same(planes, want, NOISE.poisson, NOISE.rho_variance, b.tables)
    rate, _ = cpu_rates.rates(b.data, b.used, want, b.prior, b.tables, b.offsets, b.rates)
    whole = (want[-1] == b.used.size) & (want[-2] == planes[-2])
    np.testing.assert_allclose(best[0][whole], rate[whole], rtol=1e-4, atol=1e-4)


def test_blocks_of_many_threads_equal_the_kernels(host_card: HostCard) -> None:
    lanes = Lanes(StreamingHost(host_card))
    blocks = [make(2 * k, 1 + k % 3, 20 + k, masked=k % 2 == 1) for k in range(6)]
    blocks.append(make(1, 2, 5, dtype=np.float32))
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lanes.run, blocks))
    for block, (planes, best) in zip(blocks, found, strict=True):
        check(block, planes, best)
    card = lanes.card
    assert isinstance(card, StreamingHost)
    assert len(card.streams) == 2
    assert sum(stream.waits for stream in card.streams) == len(blocks)
    assert card.sent > sum(block.data.nbytes for block in blocks if block.used.size == 24)


def test_results_outlive_the_buffers(host_card: HostCard) -> None:
    lanes = Lanes(StreamingHost(host_card), lanes=1)
    first = make(4, 2, 30)
    planes, best = lanes.run(first)
    kept = planes.copy(), best.copy()
    lanes.run(make(6, 2, 30))
    np.testing.assert_array_equal(planes, kept[0])
    np.testing.assert_array_equal(best, kept[1])


def test_a_lane_survives_an_error(host_card: HostCard, monkeypatch: pytest.MonkeyPatch) -> None:
    card = StreamingHost(host_card)
    lanes = Lanes(card, lanes=1)

    def fails(*arguments: Any) -> None:
        raise MemoryError("none left")

    with monkeypatch.context() as patch:
        patch.setattr(card, "send", fails)
        with pytest.raises(MemoryError, match="none left"):
            lanes.run(make(2, 2, 10))
    block = make(2, 2, 10)
    check(block, *lanes.run(block))
