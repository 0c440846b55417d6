"""Sequences as vectors, and windows of series."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from fmbdask.anomaly.objects import Objects
from fmbdask.errors import InputError
from fmbdask.sequences import Shape, flatten, unflatten, windows


def test_sequences_come_back_from_vectors() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(7, 5, 3)).astype(np.float32)
    valid = random.random((7, 5)) < 0.7
    valid[:, 0] = True
    back, steps = unflatten(flatten(values, valid), Shape(5, 3))
    assert np.array_equal(steps, valid)
    assert np.array_equal(back[valid], values[valid])
    assert not back[~valid].any()


def test_steps_that_are_not_finite() -> None:
    values = np.ones((3, 4, 2))
    values[0, 1, 0] = np.nan
    values[1] = np.inf
    vectors = flatten(values)
    assert unflatten(vectors[:1], Shape(4, 2))[1].tolist() == [[True, False, True, True]]
    assert np.isnan(vectors[1]).all()
    assert np.isnan(flatten(values, np.ones((3, 4), bool))[0]).any()


@given(
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    length=st.integers(1, 12),
    stride=st.integers(1, 15),
    blocks=st.integers(1, 5),
)
def test_windows_of_different_blocks_share_no_step(
    steps: list[int], length: int, stride: int, blocks: int
) -> None:
    try:
        found = windows(steps, length, stride, blocks)
    except InputError:
        assert all((s - blocks + 1) // blocks < length + stride for s in steps)
        return
    assert (found.start + length <= np.array(steps)[found.series]).all()
    owner: dict[tuple[int, int], int] = {}
    for series, start, block in zip(found.series, found.start, found.block, strict=True):
        for step in range(start, start + length):
            assert owner.setdefault((series, step), block) == block
    if blocks == 1:
        assert len(found) == sum(max(0, (s - length) // stride + 1) for s in steps if s >= length)


def test_windows_hold_their_steps() -> None:
    series = np.arange(2 * 10 * 1).reshape(2, 10, 1)
    found = windows([10, 10], 3, 4)
    assert found.take(series)[:, :, 0].tolist() == [[0, 1, 2], [4, 5, 6], [10, 11, 12], [14, 15, 16]]
    with pytest.raises(InputError, match="longest series has 10 steps"):
        windows([10], 11)


@pytest.mark.parametrize("chunks", [(10,), (3, 7), (1, 4, 5)])
def test_labelled_sequences_become_vectors(chunks: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(10, 6, 2)).astype(np.float32)
    valid = random.random((10, 6)) < 0.8
    lazy = da.from_array(values, chunks=(chunks, 3, 1))
    data = xr.Dataset(
        {"flux": (("object", "time", "flux_feature"), lazy)},
        coords={"valid_time": (("object", "time"), valid), "kind": ("object", np.arange(10) % 3)},
    )
    objects = Objects.of(data, labels="kind")
    assert objects.provenance["flux"]["sequence"] == "6x2"
    assert objects.widths == {"flux": 18}
    assert np.array_equal(objects.rows(0, 10).vectors["flux"], flatten(values, valid), equal_nan=True)
    assert objects.labels is not None
    assert objects.labels.tolist() == [0, 1, -1, 0, 1, -1, 0, 1, -1, 0]
    assert objects.rows(2, 5).ordinary().tolist() == [True, True, False]


def test_a_column_of_labels_that_is_not_there() -> None:
    with pytest.raises(InputError, match="no column kind to take labels from"):
        Objects.of(np.zeros((4, 2)), labels="kind")
    with pytest.raises(InputError, match="a number for each of 4 objects"):
        Objects.of(np.zeros((4, 2)), labels=[0, 1])
