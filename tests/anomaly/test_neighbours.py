"""Distances to neighbours: exact ones, those of approximate searches, and what equal objects do to them."""

from __future__ import annotations

import pickle
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from fmbdask.anomaly import Mahalanobis, Neighbours, Residual
from fmbdask.anomaly.objects import Objects
from fmbdask.anomaly.reference import RECALL, Cells, Reference
from fmbdask.errors import ConfigError, InputError

from .made import chunked, same_bits, store, vectors

COUNT, WIDTH = 900, 7


def others(count: int, width: int, seed: int = 9) -> xr.DataArray:
    """Objects that no detector here was fitted to."""
    ids = {"object_id": ("object", np.arange(10**6, 10**6 + count))}
    return xr.DataArray(vectors(count, width, seed), dims=("object", "feature"), coords=ids, name="feature")


def nearest(
    points: NDArray[np.float64], reference: NDArray[np.float64], allowed: NDArray[np.bool_], k: int
) -> NDArray[np.float64]:
    """Distances (n, k) to the nearest allowed ones of a reference."""
    apart = np.sqrt(np.square(points[:, None] - reference[None]).sum(axis=2))
    return np.sort(np.where(allowed, apart, np.inf), axis=1)[:, :k]


@pytest.mark.parametrize("folds", [1, 3])
@pytest.mark.parametrize("method", ["largest", "mean"])
@pytest.mark.parametrize("scale", ["standard", "robust", "none"])
def test_distances(folds: int, method: str, scale: str) -> None:
    values = vectors(300, WIDTH)
    values[:, 2] = 4.0  # one value: no scale
    found = Neighbours(folds=folds, k=4, method=method, scale=scale).fit(values).score(values)
    rows, exact = Objects.of(values).rows(0, 300), values.astype(np.float64)
    own, want = rows.folds(folds), np.empty(300)
    for fold in range(folds):
        allowed = (own != fold) | (folds == 1)
        learnt = exact[allowed]
        spread = np.ones(WIDTH)
        if scale != "none":
            low, high = np.quantile(learnt, [0.25, 0.75], axis=0)
            spread = learnt.std(axis=0) if scale == "standard" else (high - low) / 1.3489795003921634
        spread[2] = 1.0
        mine = np.flatnonzero(own == fold)
        itself = np.arange(300)[None] != mine[:, None]
        apart = nearest(exact[mine] / spread, exact / spread, allowed & itself, 4)
        want[mine] = apart[:, -1] if method == "largest" else apart.mean(axis=1)
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_the_reference_is_a_sample() -> None:
    values = vectors(COUNT, WIDTH)
    detector = Neighbours(folds=1, reference=200, scale="none").fit(values)
    rows = Objects.of(values).rows(0, COUNT)
    chosen = np.argsort(rows.keys)[:200]
    new = others(50, WIDTH)
    exact = values.astype(np.float64)[chosen]
    want = nearest(new.values.astype(np.float64), exact, np.ones((50, 200), bool), 5)
    np.testing.assert_allclose(detector.score(new), want[:, -1], rtol=1e-5)


@pytest.mark.parametrize("approximate", [False, True])
def test_chunks_batches_and_files_change_no_bit(approximate: bool, tmp_path: Path) -> None:
    options = {"folds": 2, "approximate": approximate}
    data = store(COUNT, feature=WIDTH, first_id=0)
    one = Neighbours(**options).fit(data)
    assert same_bits(one, Neighbours(**options).fit(chunked(data, [100, 350], 3)))
    whole = one.score(data)
    assert (one.score(chunked(data, [1, 99, 500])).values == whole.values).all()
    some = data.isel(object=[5, 600, 44])
    assert (one.score(some).values == whole.values[[5, 600, 44]]).all()
    one.save(tmp_path / "model")
    loaded = Neighbours.load(tmp_path / "model")
    assert same_bits(one, loaded)
    assert loaded.recall == one.recall
    assert (loaded.score(data).values == whole.values).all()
    assert (pickle.loads(pickle.dumps(one)).score(data).values == whole.values).all()


def test_approximate_searches_find_what_they_say() -> None:
    random = np.random.default_rng(1)
    hubs = random.normal(size=(40, 12)) * 4
    values = (hubs[random.integers(0, 40, 6000)] + random.normal(size=(6000, 12))).astype(np.float32)
    exact = Neighbours(folds=2).fit(values)
    detector = Neighbours(folds=2, approximate=True).fit(values)
    assert RECALL <= detector.recall <= 1.0
    cells = detector._open()[0]
    assert isinstance(cells, Cells)
    assert cells.probes < len(cells.centres)
    new = values[:500] + random.normal(size=(500, 12)).astype(np.float32)
    ratio = detector.score(new).values / exact.score(new).values
    assert (ratio >= 1 - 1e-6).all()
    assert np.mean(ratio) < 1.02


def test_cells_that_hold_too_few_are_made_up_for() -> None:
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(size=(397, 3)), 50 + random.normal(size=(3, 3))]).astype(
        np.float32
    )
    keys = np.arange(400, dtype=np.uint64)
    exact = Reference(points, keys)
    centres = np.array([[0, 0, 0], [50, 50, 50]], np.float32)
    found = Cells(points, keys, centres, 1, 1.0).nearest(points, keys, 5)
    want = exact.nearest(points, keys, 5)
    np.testing.assert_array_equal(found[1][397:], want[1][397:])
    np.testing.assert_allclose(found[0][397:], want[0][397:], rtol=1e-3)


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_equal_objects(share: float) -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(3000, 6)).astype(np.float32)
    equal = int(share * 3000)
    values[:equal] = values[np.arange(equal) % 5]
    detector = Neighbours().fit(values)
    gross = np.zeros((2, 6), np.float32)
    gross[0, 0] = 50.0
    p = detector.p_value(detector.score(gross)).values
    assert p[0] < 1e-6
    assert p[1] > 0.01
    ordinary = detector.p_value(values).values
    assert ordinary[:equal].min() > 0.4
    assert np.mean(ordinary < 0.05) == pytest.approx(0.05, abs=0.02)


def test_huge_and_constant_features() -> None:
    values = vectors(500, 4) + np.float32(1000)
    values[:, 1] = 7.0
    detector = Neighbours().fit(values)
    odd = values[:3].copy()
    odd[0, 0], odd[1, 1] = 3e38, 9.0
    scores = detector.score(odd).values
    assert np.isfinite(scores).all()
    assert scores[0] > 1e14
    assert scores[1] >= 2.0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="all vectors of feature are equal"):
        Neighbours().fit(np.full((300, 4), 1 / 3, np.float32))
    with pytest.raises(InputError, match=r"hold no 90 neighbours of one: give more objects"):
        Neighbours(k=90, folds=2).fit(vectors(150, 4))
    with pytest.raises(ConfigError, match="there is no neighbour 0"):
        Neighbours(k=0)
    with pytest.raises(ConfigError, match="there is no method median: give one of largest, mean"):
        Neighbours(method="median")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="there is no scale minmax: give one of standard, robust, none"):
        Neighbours(scale="minmax")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="5 objects hold no 5 neighbours"):
        Neighbours(reference=5)


@pytest.mark.parametrize("rank", [2, 6])
def test_components_of_narrow_tables(rank: int) -> None:
    """The error of the reconstruction is that of scikit-learn's components."""
    pca = pytest.importorskip("sklearn.decomposition").PCA
    random = np.random.default_rng(rank)
    values = (random.normal(size=(1500, rank)) @ random.normal(size=(rank, 6))).astype(np.float32)
    detector = Residual(folds=1, whiten=False).fit(values)
    exact = values.astype(np.float64)
    shares = np.cumsum(pca(svd_solver="full").fit(exact).explained_variance_ratio_)
    assert detector.taken == int(np.searchsorted(shares, 0.9)) + 1
    theirs = pca(detector.taken, svd_solver="full").fit(exact)
    error = np.linalg.norm(exact - theirs.inverse_transform(theirs.transform(exact)), axis=1)
    np.testing.assert_allclose(detector.score(values), error, rtol=1e-5, atol=1e-5)
    weighted = pca(min(rank, 6), svd_solver="full", whiten=True).fit(exact).transform(exact)
    distance = Mahalanobis(folds=1, shrinkage=False, span=rank).fit(values).score(values)
    np.testing.assert_allclose(distance, np.linalg.norm(weighted, axis=1), rtol=1e-3)
    off = values[:1] + 3 * np.linalg.svd(exact)[2][-1:].astype(np.float32)
    for each in (Residual(), Residual(whiten=False), Mahalanobis()):
        each.fit(values)
        assert np.isfinite(each.score(values)).all()
        if rank == 2:
            assert float(each.p_value(each.score(off))[0]) < 1e-6


def test_the_benchmark_of_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    random = np.random.default_rng(5)
    values, labels = random.normal(size=(400, 5)), np.zeros(400, np.int64)
    labels[:30] = 1
    values[:30] *= 5.0
    np.savez(tmp_path / "planted.npz", X=values, y=labels)
    script = Path(__file__).parents[2] / "benchmarks" / "tables.py"
    given = [str(tmp_path / "planted.npz"), "--seeds", "4", "--rows", "300", "--detectors"]
    names = ["neighbours", "neighbours, not scaled, one fold", "mahalanobis", "residual, error"]
    names += ["sklearn NearestNeighbors", "sklearn PCA, error"]
    monkeypatch.setattr(sys, "argv", ["tables.py", *given, *names])
    runpy.run_path(str(script), run_name="__main__")
    printed = capsys.readouterr().out
    for line in ("| neighbours |", "| mahalanobis |"):
        (area, precision) = (x for x in printed.splitlines() if x.startswith(line))
        assert 80.0 < float(area.split("|")[2]) <= 100.0
        assert 50.0 < float(precision.split("|")[2]) <= 100.0
    assert "one fold: AUROC at most 0.0000 from that of sklearn NearestNeighbors" in printed
    assert "residual, error: AUROC at most 0.0" in printed
    assert "best of ours by its mean AUROC" in printed
