"""Components, distances and residuals: against plain NumPy, fold by fold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbdask.anomaly import Mahalanobis, Residual
from fmbdask.anomaly.basis import Basis
from fmbdask.anomaly.folds import FOLD_SEED, keys_of
from fmbdask.anomaly.objects import Objects
from fmbdask.anomaly.reading import summary_of
from fmbdask.anomaly.shrinkage import shrink

from .made import vectors

COUNT, WIDTH, FOLDS = 1500, 40, 4
Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def values() -> NDArray[np.float32]:
    return vectors(COUNT, WIDTH)


def by_fold(values: NDArray[np.float32]) -> list[tuple[NDArray[np.bool_], Array, Array, Array]]:
    """For each fold: its rows, and mean, eigenvalues and eigenvectors of the others, descending."""
    found = []
    fold = keys_of(np.arange(len(values)), FOLD_SEED) % np.uint64(FOLDS)
    for k in range(FOLDS):
        others = values[fold != k].astype(np.float64)
        own, columns = np.linalg.eigh(np.cov(others.T))
        found.append((fold == k, others.mean(axis=0), own[::-1], columns[:, ::-1]))
    return found


@pytest.mark.parametrize("span", [7, None])
@pytest.mark.parametrize("shrinkage", [True, False])
def test_distances_equal_plain_numpy(values: NDArray[np.float32], span: int | None, shrinkage: bool) -> None:
    want = np.empty(COUNT)
    for rows, mean, own, columns in by_fold(values):
        variances = shrink(own, COUNT - int(rows.sum())) if shrinkage else own
        found = (values[rows] - mean) @ columns
        want[rows] = np.sqrt((found**2 / variances)[:, :span].sum(axis=1))
    detector = Mahalanobis(span=span, shrinkage=shrinkage, folds=FOLDS).fit(values)
    np.testing.assert_allclose(detector.score(values), want, rtol=2e-5)


@pytest.mark.parametrize("whiten", [True, False])
def test_residuals_equal_plain_numpy(values: NDArray[np.float32], whiten: bool) -> None:
    want = np.empty(COUNT)
    for rows, mean, own, columns in by_fold(values):
        left = ((values[rows] - mean) @ columns)[:, 7:]
        variances = shrink(own, COUNT - int(rows.sum()))[7:] if whiten else np.ones(WIDTH - 7)
        want[rows] = np.sqrt((left**2 / variances).sum(axis=1))
    detector = Residual(span=7, whiten=whiten, folds=FOLDS).fit(values)
    np.testing.assert_allclose(detector.score(values), want, rtol=2e-5)


@pytest.mark.parametrize("span", [120, None])
def test_more_components_than_the_usual_span(span: int | None) -> None:
    wide = vectors(800, 130)
    detector = Mahalanobis(span=span, folds=FOLDS).fit(wide)
    want = np.empty(800)
    for rows, mean, own, columns in by_fold(wide):
        found = (wide[rows] - mean) @ columns
        want[rows] = np.sqrt((found**2 / shrink(own, 800 - int(rows.sum())))[:, :span].sum(axis=1))
    np.testing.assert_allclose(detector.score(wide), want, rtol=2e-5)
    # what lies beyond 20 components, across the usual span, and its error
    left = Residual(span=20, folds=FOLDS).fit(wide).score(wide)
    inside = Mahalanobis(span=20, folds=FOLDS).fit(wide).score(wide)
    whole = Mahalanobis(span=None, folds=FOLDS).fit(wide).score(wide)
    np.testing.assert_allclose(left**2 + inside**2, whole**2, rtol=1e-4)
    assert Residual(span=110, whiten=False).fit(wide).score(wide).notnull().all()


def test_components_are_shared_and_keep_their_bits(values: NDArray[np.float32]) -> None:
    objects = Objects.of(values)
    summary = summary_of(objects, FOLDS)
    basis = Basis.learn(summary, "feature")
    assert Basis.learn(summary, "feature") is basis
    largest = np.take_along_axis(basis.vectors, np.abs(basis.vectors).argmax(axis=1)[:, None, :], axis=1)
    assert (largest > 0).all()
    rows = objects.rows(0, COUNT)
    found = basis.coordinates(rows, 0, 7)
    part = basis.part(0, 7)
    assert part.coordinates(rows, 0, 7) is found  # the same components: made once
    np.testing.assert_array_equal(part.coordinates(objects.rows(0, COUNT), 0, 7), found)
    again = Basis.from_arrays(part.arrays(), "feature", FOLDS, WIDTH)
    assert again.digest == basis.digest
    np.testing.assert_array_equal(again.coordinates(objects.rows(0, COUNT), 0, 7), found)
    beyond = basis.part(7, WIDTH).coordinates(objects.rows(0, COUNT), 7, WIDTH)
    np.testing.assert_array_equal(beyond, basis.coordinates(rows, 7, WIDTH))


@settings(max_examples=8)
@given(
    count=st.integers(130, 400),
    width=st.integers(2, 300),
    offset=st.sampled_from([0.0, 1e4]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_any_shape_and_scale_gives_finite_scores(count: int, width: int, offset: float, scale: float) -> None:
    made = (vectors(count, width) + np.float32(offset)) * np.float32(scale)
    found = Mahalanobis(span=None).fit(made).score(made).values
    assert np.isfinite(found).all()
    # unseen by their models, ordinary rows are about as far away as there are dimensions
    assert 0.4 < np.median(found**2) / width < 2.5


def test_features_that_never_vary_do_not_disturb() -> None:
    plain = vectors(2000, 10)
    padded = np.concatenate([plain, np.full((2000, 3), 7, np.float32), plain[:, :1]], axis=1)
    ordinary = Mahalanobis(span=None).fit(plain).score(plain)
    found = Mahalanobis(span=None).fit(padded).score(padded)
    assert np.isfinite(found).all()
    assert np.corrcoef(found, ordinary)[0, 1] > 0.98
    assert Mahalanobis(span=5).fit(padded).score(padded).notnull().all()
    other = padded[:1].copy()
    other[0, 11] += 1
    detector = Mahalanobis(span=None).fit(padded)
    assert float(detector.score(other)[0]) > 100 * float(found.max())


@pytest.mark.parametrize("shrinkage", [True, False])
def test_shrinkage_makes_distances_right_where_vectors_are_few(shrinkage: bool) -> None:
    law = vectors(2000, 150, fall=1e-3)
    found = Mahalanobis(span=None, shrinkage=shrinkage, folds=1).fit(law[:160]).score(law[160:]).values
    # new rows are about as far away as there are dimensions, if variances are right
    assert (np.median(found**2) / 150 < 1.5) == shrinkage


def contaminated(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """One in twenty of the vectors lies in a clump of its own."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(6000, 32)).astype(np.float32)
    odd = np.zeros(6000, bool)
    odd[random.permutation(6000)[:300]] = True
    direction = random.normal(size=32)
    clump = 12.0 * direction / np.linalg.norm(direction) + 0.5 * random.normal(size=(300, 32))
    values[odd] = clump
    return values, odd


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("span", [None, 20])
def test_many_alike_do_not_hide_themselves_from_robust_fits(seed: int, span: int | None) -> None:
    values, odd = contaminated(seed)
    recall = {}
    for robust in (False, True):
        scores = Mahalanobis(span=span, robust=robust).fit(values).score(values).values
        recall[robust] = odd[np.argsort(-scores)[:300]].mean()
    assert recall[False] < 0.3
    assert recall[True] > 0.97


def test_robust_fits_agree_with_plain_ones_where_all_is_ordinary() -> None:
    values = vectors(6000, 20)
    plain, robust = (Mahalanobis(robust=r).fit(values).score(values) for r in (False, True))
    assert np.corrcoef(plain, robust)[0, 1] > 0.999


def test_shifts_along_weak_directions_are_found_by_residuals() -> None:
    values = vectors(4000, 60, fall=1e-3)
    columns = np.linalg.eigh(np.cov(values.T))[1]
    shifted = values[:40] + (6e-3 * columns[:, :5].sum(axis=1)).astype(np.float32)
    detectors = {"residual": Residual(span=20), "error": Residual(span=20, whiten=False)}
    found = {}
    for name, detector in detectors.items():
        detector.fit(values)
        limit = detector.threshold(99)
        # the law of the tail is cautious where the tail is as light as here
        assert 0.002 < float((detector.score(values) > limit).mean()) < 0.016
        found[name] = float((detector.predict(shifted)[1] == 1).mean())
    assert found["residual"] > 0.95
    assert found["error"] < 0.5
    outside = values[:40] + np.float32(3.0) * np.random.default_rng(0).normal(size=60).astype(np.float32)
    assert (detectors["error"].predict(outside)[1] == 1).all()


def test_residuals_need_something_beyond_the_span() -> None:
    with pytest.raises(ValueError, match="100 components leave nothing of 64 features: give a smaller span"):
        Residual(span=100).fit(vectors(500, 64))
