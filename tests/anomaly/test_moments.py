"""Moments and summaries: against plain NumPy, and the same bits in any chunks, on any number of threads."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmbdask.anomaly import summary as summaries
from fmbdask.anomaly.folds import keys_of
from fmbdask.anomaly.moments import Moments, merge
from fmbdask.anomaly.objects import Objects
from fmbdask.anomaly.reading import summary_of
from fmbdask.anomaly.summary import Summary, piece_of, sample_limit, span_of, summarise
from fmbdask.errors import InputError

from .made import vectors

#: More than two spans of the smallest size, and not a whole number of blocks.
MANY = 2 * 65536 + 3 * 4096 + 77


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=6), offset=st.sampled_from([0.0, 1e3]))
def test_moments_merge_to_those_of_all(sizes: list[int], offset: float) -> None:
    parts = [vectors(n, 5, seed) + np.float32(offset) for seed, n in enumerate(sizes)]
    whole = np.concatenate(parts).astype(np.float64)
    found = merge(Moments.of(p) for p in parts)
    assert found.count == len(whole)
    if len(whole):
        np.testing.assert_allclose(found.mean, whole.mean(axis=0), rtol=1e-12)
    if len(whole) > 1:
        np.testing.assert_allclose(found.covariance, np.cov(whole.T), rtol=1e-7, atol=1e-10)
    else:
        with pytest.raises(InputError, match="have no covariance"):
            _ = found.covariance


@pytest.fixture(scope="module")
def many() -> np.ndarray:
    values = vectors(MANY, 4)
    values[[7, 5000, 70_000], [0, 2, 3]] = np.nan, np.inf, -np.inf
    return values


@pytest.fixture(scope="module")
def expected(many: np.ndarray) -> Summary:
    return summary_of(Objects.of(many), 3)


def equal(one: Summary, other: Summary) -> bool:
    moments = [
        np.array_equal(getattr(a, name), getattr(b, name))
        for m in one.moments
        for a, b in zip(one.moments[m], other.moments[m], strict=True)
        for name in ("count", "mean", "scatter")
    ]
    samples = [np.array_equal(one.sample.vectors[m], other.sample.vectors[m]) for m in one.sample.vectors]
    keys = np.array_equal(one.sample.keys, other.sample.keys)
    return all(moments) and all(samples) and keys and one.unusable == other.unusable


def test_summary_equals_plain_numpy(many: np.ndarray, expected: Summary) -> None:
    fold = keys_of(np.arange(MANY), 1) % np.uint64(3)
    finite = np.isfinite(many).all(axis=1)
    assert expected.objects == MANY
    assert expected.unusable == {"feature": 3}
    for k in range(3):
        others = many[finite & (fold != k)].astype(np.float64)
        found = expected.without("feature", k)
        assert found.count == len(others)
        np.testing.assert_allclose(found.mean, others.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(others.T), rtol=1e-9)
    # the sample: the smallest keys of those that are finite
    limit = sample_limit(MANY, {"feature": 4})
    assert len(expected.sample) == limit
    keys = np.sort(keys_of(np.arange(MANY)[finite]))
    np.testing.assert_array_equal(np.sort(expected.sample.keys), keys[:limit])


@settings(max_examples=6)
@given(
    cuts=st.lists(st.integers(1, MANY - 1), max_size=6),
    features=st.sampled_from([1, 3, 4]),
    threads=st.sampled_from([1, 2, 5]),
)
def test_summary_has_the_same_bits_in_any_chunks(
    many: np.ndarray, expected: Summary, cuts: list[int], features: int, threads: int
) -> None:
    edges = np.diff(sorted({0, *cuts, MANY}))
    lazy = da.from_array(many, chunks=(tuple(int(n) for n in edges), features))
    assert equal(summary_of(Objects.of(lazy), 3, threads=threads), expected)


def test_spans_summarised_anywhere_merge_to_the_same_bits(many: np.ndarray, expected: Summary) -> None:
    objects, span = Objects.of(many), span_of(MANY)
    share = summaries.sample_share(MANY, objects.widths)
    starts = list(range(0, MANY, span))
    parts = {s: summarise(objects.rows(s, min(s + span, MANY)), 3, share=share) for s in reversed(starts)}
    merged = summaries.merge_summaries((parts[s] for s in starts), sample_limit(MANY, objects.widths))
    assert equal(merged, expected)


def test_each_chunk_is_computed_once() -> None:
    seen: list[int] = []

    def noted(block: np.ndarray) -> np.ndarray:
        seen.append(len(block))
        return block

    lazy = da.from_array(vectors(40_000, 2), chunks=(9_999, 2)).map_blocks(noted, meta=np.empty((0, 0)))
    summary_of(Objects.of(lazy), 2)
    assert sorted(seen) == [4] + [9_999] * 4


@given(width=st.integers(1, 4096), other=st.integers(0, 4096))
def test_pieces_are_bounded_and_make_up_spans(width: int, other: int) -> None:
    size = piece_of({"one": width, "other": other})
    assert span_of(10) % size == 0
    assert size == 4096 or 4 * size * (width + other) <= summaries.PIECE_BYTES


def test_a_summary_without_moments_is_a_sample() -> None:
    found = summary_of(Objects.of(vectors(5000, 3)), 2, moments=False)
    assert found.moments == {}
    assert len(found.sample) == 5000


def test_no_objects() -> None:
    with pytest.raises(InputError, match="there are no objects"):
        summary_of(Objects.of(np.empty((0, 3), np.float32)), 2)
