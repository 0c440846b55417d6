"""Isolation forests: the scores of scikit-learn, of no tree that saw the row; what is gross stands out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fmbdask.anomaly import IsolationForest, isolation_forest
from fmbdask.anomaly.isolation_forest import expected_length
from fmbdask.errors import ConfigError, InputError

from .made import chunked, same_bits, store, vectors

sklearn = pytest.importorskip("sklearn")
COUNT, WIDTH = 700, 8


@pytest.fixture(scope="module")
def fitted() -> IsolationForest:
    return IsolationForest(folds=3, trees=25).fit(vectors(COUNT, WIDTH))


@pytest.mark.parametrize(("count", "samples"), [(700, 256), (300, 300), (140, 5)])
def test_scores_are_those_of_scikit_learn(count: int, samples: int) -> None:
    from sklearn.ensemble import IsolationForest as Forest

    values = vectors(count, WIDTH)
    values[:40] = values[40]  # leaves that hold several objects
    values[:, 3] = np.round(values[:, 3], 1)  # values that are equal to thresholds
    random = int(np.random.SeedSequence([7, 0]).generate_state(1)[0])
    theirs = Forest(n_estimators=30, max_samples=samples, random_state=random).fit(values)
    ours = IsolationForest(folds=1, seed=7, trees=30, samples=samples).fit(values)
    other = np.random.default_rng(3).permuted(values, axis=0)  # within the ranges that the forest saw
    for some in (values, other):
        np.testing.assert_allclose(ours.score(some), -theirs.score_samples(some), rtol=0, atol=1e-12)


def test_no_tree_saw_the_objects_of_its_fold() -> None:
    values = vectors(COUNT, WIDTH)
    fitted = IsolationForest(folds=3, trees=10).fit(values)
    fold = fold_of(COUNT) == 1
    other = values.copy()
    other[fold] += 100.0
    again = IsolationForest(folds=3, trees=10).fit(other)
    np.testing.assert_array_equal(fitted.score(values)[fold], again.score(values)[fold])
    assert (fitted.score(values)[~fold] != again.score(values)[~fold]).any()


def fold_of(count: int) -> NDArray[np.int64]:
    from fmbdask.anomaly.objects import Objects

    return Objects.of(np.zeros((count, 1), np.float32)).rows(0, count).folds(3)


def test_chunks_and_batches_change_no_bit(fitted: IsolationForest) -> None:
    data = store(COUNT, feature=WIDTH, first_id=0)
    one = IsolationForest(folds=3, trees=25).fit(data)
    assert same_bits(one, IsolationForest(folds=3, trees=25).fit(chunked(data, [100, 350], 3)))
    whole = one.score(data)
    assert (one.score(chunked(data, [1, 99, 500])).values == whole.values).all()
    some = data.isel(object=[5, 600, 44])
    assert (one.score(some).values == whole.values[[5, 600, 44]]).all()


@pytest.mark.parametrize("width", [1, 6, 60])
def test_one_gross_feature_is_found(width: int) -> None:
    random = np.random.default_rng(2)
    values = random.normal(size=(3000, width)).astype(np.float32)
    gross = random.normal(size=(4, width)).astype(np.float32)
    gross[[0, 1], [0, -1]] = 50.0, -50.0
    detector = IsolationForest().fit(values)
    p = detector.p_value(detector.score(gross)).values
    assert (p[:2] < 1e-3).all()
    assert (p[2:] > 1e-3).all()
    assert (detector.score(values) <= 1.0).all()
    huge = np.where(np.arange(width) == 0, np.float32(3e38), gross[2:3])
    assert np.isfinite(detector.score(huge)).all()


def test_contamination_is_the_share_that_is_labelled() -> None:
    values = vectors(4000, WIDTH)
    _, labels = IsolationForest(trees=25, contamination=0.2).fit(values).predict(vectors(4000, WIDTH))
    assert float(labels.mean()) == pytest.approx(0.2, abs=0.03)
    for share in (0.0, 0.6):
        with pytest.raises(ConfigError, match=f"contamination is {share}"):
            IsolationForest(contamination=share)
    with pytest.raises(ConfigError, match="0 trees of 256 objects"):
        IsolationForest(trees=0)


def test_scoring_needs_no_scikit_learn(
    fitted: IsolationForest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = vectors(COUNT, WIDTH)
    want = fitted.score(values)
    fitted.save(tmp_path / "model")

    def absent(what: str, *packages: str) -> None:
        raise InputError(f"{what} need {packages[0]}")

    monkeypatch.setattr(isolation_forest, "need", absent)
    loaded = IsolationForest.load(tmp_path / "model")
    assert (loaded.score(values).values == want.values).all()
    assert loaded.label_threshold == fitted.label_threshold
    assert same_bits(loaded, fitted)
    with pytest.raises(InputError, match="isolation forests need sklearn"):
        IsolationForest().fit(values)


@pytest.mark.parametrize(
    "change",
    [
        {"features": np.full((3, 25, 255), WIDTH, np.int32)},
        {"lengths": np.ones((3, 25, 255))},
        {"scales": np.zeros(3)},
        {"low": np.zeros((3, WIDTH + 1), np.float32)},
    ],
)
def test_what_cannot_be_is_refused(fitted: IsolationForest, tmp_path: Path, change: dict[str, Any]) -> None:
    from fmbdask.checkpoints import Checkpoint, save_checkpoint

    saved = fitted.checkpoint()
    save_checkpoint(tmp_path / "model", Checkpoint(saved.kind, {**saved.arrays, **change}, saved.meta))
    with pytest.raises(InputError, match="no isolation_forest model that can be used"):
        IsolationForest.load(tmp_path / "model")


def test_expected_lengths() -> None:
    harmonic = 2.0 * (np.log(255) + np.euler_gamma) - 2.0 * 255 / 256
    np.testing.assert_allclose(expected_length(np.array([0, 1, 2, 256])), [0.0, 0.0, 1.0, harmonic])
