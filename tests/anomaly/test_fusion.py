"""Fusions of scores by hand, and what combined p-values promise; families of a list."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fmbdask.anomaly.families import families, sizes
from fmbdask.anomaly.fusion import combine, fuse, reason, share_of_rank, uplift
from fmbdask.errors import InputError

P = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 8)), elements=st.floats(1e-300, 1.0))


def test_shares_of_ranks_by_hand() -> None:
    scores = np.array([0.3, np.nan, 5.0, 0.3, -1.0])
    np.testing.assert_allclose(share_of_rank(scores), [2.5 / 4, np.nan, 1.0, 2.5 / 4, 0.25])
    assert len(share_of_rank(np.array([]))) == 0


def test_fusions_by_hand() -> None:
    mismatch, first, second = np.array([0.5, 1.0]), np.array([0.25, 1.0]), np.array([1.0, np.nan])
    np.testing.assert_allclose(fuse(mismatch, first, second, "geo"), [0.25, np.nan])
    np.testing.assert_allclose(fuse(mismatch, first, second, "min"), [0.125, np.nan])
    np.testing.assert_allclose(fuse(mismatch, first, second, "average"), [0.3125, np.nan])
    np.testing.assert_allclose(uplift(mismatch, first, second), [0.25 - 1.0, np.nan])
    with pytest.raises(InputError, match="no fusion best"):
        fuse(mismatch, first, second, "best")  # type: ignore[arg-type]


@settings(max_examples=80, deadline=None)
@given(
    arrays(np.float64, (3, 5), elements=st.floats(1e-3, 1.0)),
    st.integers(0, 4),
    st.sampled_from(["geo", "min", "average"]),
)
def test_fusions_are_monotone(shares: NDArray[np.float64], place: int, fusion: str) -> None:
    more = shares.copy()
    more[:, place] = np.minimum(1.0, more[:, place] * 1.1)
    before, after = (fuse(*s, fusion) for s in (shares, more))  # type: ignore[arg-type]
    assert (after >= before).all()
    assert ((after > 0) & (after <= 1)).all()


@settings(max_examples=150, deadline=None)
@given(P, st.floats(0.01, 1.0))
def test_combined_p_values(p: NDArray[np.float64], factor: float) -> None:
    found = combine(p)
    assert ((found > 0) & (found <= 1)).all()
    assert (found >= np.minimum(p.min(axis=0), 0.99) * 0.999).all()
    small = p.min(axis=0) < 1e-4  # these decide, whatever the others are
    assert (found[small] <= 1.05 * len(p) * p.min(axis=0)[small]).all()
    order = np.random.default_rng(0).permutation(len(p))
    np.testing.assert_array_equal(combine(p[order]), found)
    columns = np.random.default_rng(1).permutation(p.shape[1])
    np.testing.assert_array_equal(combine(p[:, columns]), found[columns])
    less = p.copy()
    less[0] = np.maximum(less[0] * factor, 1e-300)
    assert (combine(less) <= found * (1 + 1e-12)).all()
    missing = np.concatenate([p, np.full((1, p.shape[1]), np.nan)])
    np.testing.assert_array_equal(combine(missing), found)


def test_objects_without_scores_have_no_combined_one() -> None:
    p = np.array([[np.nan, 0.2], [np.nan, np.nan]])
    np.testing.assert_allclose(combine(p), [np.nan, 0.2])
    assert reason({"a": p[0], "b": p[1]}).tolist() == [-1, 0]


def test_combined_p_values_of_dependent_scores_hold_in_the_tail() -> None:
    random = np.random.default_rng(0)
    shared = random.normal(size=400_000)
    from scipy.stats import norm

    p = np.array([norm.sf(0.8 * shared + 0.6 * random.normal(size=len(shared))) for _ in range(6)])
    for level in (1e-2, 1e-3):
        assert (combine(p) <= level).mean() <= 1.25 * level


def test_reasons_by_hand() -> None:
    p = {"span": np.array([0.1, 0.5, np.nan]), "match": np.array([0.2, 0.5, 0.3])}
    assert reason(p).tolist() == [0, 0, 1]


def test_families_of_one_artefact() -> None:
    random = np.random.default_rng(0)
    artefacts = random.normal(size=(2, 64)) * 10
    deviations = random.normal(size=(60, 64))
    deviations[::3] += artefacts[0]
    deviations[1::3] += artefacts[1]
    found = families(deviations.astype(np.float32), ["image"] * 60)
    assert (found[::3] == 0).all()
    assert (found[1::3] == 1).all()
    assert (found[2::3] == np.arange(2, 60, 3)).all()
    assert sizes(found)[:3].tolist() == [20, 20, 1]
    other = families(deviations.astype(np.float32), ["image"] * 30 + ["spectrum"] * 30)
    assert (other[30::3] == 30).all()


def test_families_of_nothing() -> None:
    assert len(families(np.zeros((0, 4), np.float32), [])) == 0
    assert families(np.zeros((3, 4), np.float32), ["a"] * 3).tolist() == [0, 1, 2]
