"""Blocks through a network: the same bits however they are cut, batched, or spread over threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from fmbdask.errors import ConfigError, InputError  # noqa: E402
from fmbdask.models.batches import Batches  # noqa: E402
from fmbdask.models.handles import OpenNetwork, Saved  # noqa: E402
from fmbdask.models.patches import Box, Grid, classify_patches, segment  # noqa: E402

from .made import network  # noqa: E402

WHOLE = (20, 26, 30)
GRID = Grid(WHOLE, (8, 12, 8), (3, 4, 2))
WIDTHS = (4, 8, 8)


def opened(**options: object) -> OpenNetwork:
    return OpenNetwork(Saved(network(widths=WIDTHS)), device="cpu", **options)  # type: ignore[arg-type]


def exposure(whole: tuple[int, ...] = WHOLE) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(2, *whole)).astype(np.float32)


def part(model: OpenNetwork, voxels: np.ndarray, core: Box, grid: Grid = GRID) -> np.ndarray:
    """A core from no more voxels than its patches need."""
    needed = grid.needed(core)
    block = np.ascontiguousarray(voxels[(slice(None), *needed)])
    origin = (needed[0].start, needed[1].start, needed[2].start)
    return segment(model, block, core=core, origin=origin, grid=grid)


def cores(*cuts: tuple[int, ...]) -> list[Box]:
    spans = ([slice(a, b) for a, b in pairwise((0, *cut, n))] for cut, n in zip(cuts, WHOLE, strict=True))
    return list(product(*spans))  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_bits_however_an_exposure_is_cut_and_batched(precision: str) -> None:
    model = opened(precision=precision)
    whole = segment(model, exposure(), grid=GRID)
    assert whole.shape == (4, *WHOLE)
    np.testing.assert_allclose(whole.sum(axis=0), 1.0, atol=1e-5)
    assert whole.std(axis=(1, 2, 3)).min() > 0.01
    for size, cut in ((2, ((), (13,), (13,))), (8, ((5,), (), (1, 9))), (16, ((), (25,), (8, 16)))):
        model = opened(precision=precision, size=size)
        for core in cores(*cut):
            np.testing.assert_array_equal(part(model, exposure(), core), whole[(slice(None), *core)])


def test_the_same_bits_in_any_thread() -> None:
    model, voxels = opened(), exposure()
    alone = [part(model, voxels, core) for core in cores((), (13,), (15,))]
    with ThreadPoolExecutor(4) as threads:
        beside = list(threads.map(lambda core: part(model, voxels, core), cores((), (13,), (15,))))
    assert all(np.array_equal(a, b) for a, b in zip(alone, beside, strict=True))
    many = segment(model, voxels, grid=GRID, one_thread=False)
    np.testing.assert_array_equal(segment(model, voxels, grid=GRID), many)


def test_bfloat16_is_close_to_float32() -> None:
    exact, fast = (segment(opened(precision=one), exposure(), grid=GRID) for one in ("float32", "bfloat16"))
    assert 0 < np.abs(exact - fast).max() < 0.05


def test_where_memory_ends_the_result_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = segment(opened(), exposure(), grid=GRID)
    model, sizes, through = opened(size=16), list[int](), Batches._through

    def scarce(batches: Batches, batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 4:
            raise torch.OutOfMemoryError
        return through(batches, batch)

    monkeypatch.setattr(Batches, "_through", scarce)
    np.testing.assert_array_equal(segment(model, exposure(), grid=GRID), wanted)
    assert sizes[:4] == [16, 8, 4, 4]
    assert set(sizes[3:]) == {4}


@settings(max_examples=60)
@given(st.data())
def test_weights_of_patches_sum_to_one_and_all_that_is_needed_is_named(data: st.DataObject) -> None:
    whole = data.draw(st.tuples(*[st.integers(1, 40)] * 3))
    patch = data.draw(st.tuples(*[st.integers(1, 16)] * 3))
    overlap = tuple(data.draw(st.integers(0, n - 1)) for n in patch)
    grid = Grid(whole, patch, (overlap[0], overlap[1], overlap[2]))
    for axis in range(3):
        total = np.zeros(max(whole[axis], patch[axis]))
        for start, weight in grid.weights(axis).items():
            assert (weight > 0).all()
            total[start : start + patch[axis]] += weight
        np.testing.assert_allclose(total, 1.0, atol=1e-6)
    first = tuple(data.draw(st.integers(0, n - 1)) for n in whole)
    core = tuple(slice(a, data.draw(st.integers(a + 1, n))) for a, n in zip(first, whole, strict=True))
    needed = grid.needed((core[0], core[1], core[2]))
    for axis in range(3):
        assert needed[axis].start <= core[axis].start < core[axis].stop <= needed[axis].stop <= whole[axis]


def test_exposures_smaller_than_a_patch() -> None:
    grid = Grid((5, 40, 3), (8, 12, 8), (3, 4, 2))
    model, voxels = opened(), exposure((5, 40, 3))
    whole = segment(model, voxels, grid=grid)
    assert whole.shape == (4, 5, 40, 3)
    core = (slice(0, 5), slice(7, 21), slice(1, 2))
    np.testing.assert_array_equal(part(model, voxels, core, grid), whole[(slice(None), *core)])


def test_patches_of_one_size() -> None:
    model = opened(size=4)
    patches = [exposure((6, 7, 5)) * k for k in range(6)]
    found = classify_patches(model, iter(patches))
    with torch.inference_mode():
        wanted = torch.softmax(network(widths=WIDTHS)(torch.from_numpy(np.stack(patches))), 1).numpy()
    np.testing.assert_allclose(np.stack(found), wanted, atol=1e-5)
    assert all(one.base is None for one in found)
    labels = classify_patches(model, patches, reduce=lambda one: one.argmax(axis=0))
    np.testing.assert_array_equal(np.stack(labels), np.stack(found).argmax(axis=1))
    assert classify_patches(model, []) == []


def test_blocks_that_cannot_be_segmented() -> None:
    model, core = opened(), (slice(0, 20), slice(0, 13), slice(0, 13))
    with pytest.raises(
        InputError, match=r"block of voxels 0:20 x 0:13 x 0:13 is too small .* give 0:20 x 0:20 x"
    ):
        segment(model, exposure()[:, :, :13, :13], grid=GRID)
    with pytest.raises(InputError, match="is no box in an exposure"):
        segment(model, exposure(), core=(*core[:2], slice(0, 31)), grid=GRID)
    with pytest.raises(InputError, match="is no box in an exposure"):
        segment(model, exposure(), core=(*core[:2], slice(3, 3)), grid=GRID)
    for wrong in (exposure()[:1], exposure()[0], exposure()[:, :0]):
        with pytest.raises(InputError, match=r"cannot go through a network that takes \(channels 2"):
            segment(model, wrong)
        with pytest.raises(InputError, match="cannot go through a network"):
            classify_patches(model, [wrong])
    for patch, overlap in (((0, 8, 8), (0, 0, 0)), ((8, 8, 8), (8, 0, 0)), ((8, 8, 8), (-1, 0, 0))):
        with pytest.raises(ConfigError, match="patches"):
            Grid(WHOLE, patch, overlap)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize(("precision", "within"), [("float32", 1e-2), ("bfloat16", 0.1), ("float16", 0.02)])
def test_a_gpu_finds_what_a_cpu_finds(precision: str, within: float) -> None:
    wanted = segment(opened(), exposure(), grid=GRID)
    model = OpenNetwork(Saved(network(widths=WIDTHS)), device="cuda", precision=precision)
    found = segment(model, exposure(), grid=GRID)
    np.testing.assert_allclose(found, wanted, atol=within)
    np.testing.assert_array_equal(segment(model, exposure(), grid=GRID), found)
