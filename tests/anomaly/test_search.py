"""Contrast, alignment and the search that combines all detectors, on small planted stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fmbdask.anomaly import Alignment, Contrast, Cosine, CrossModalSearch, load
from fmbdask.anomaly.contrast import _usual
from fmbdask.anomaly.discovery import discoveries
from fmbdask.anomaly.listing import families_of, nearest_ordinary
from fmbdask.anomaly.objects import Objects
from fmbdask.anomaly.reference import Reference, median_of
from fmbdask.anomaly.surroundings import unit
from fmbdask.errors import InputError
from fmbdask.survey.bench.embeddings.judge import store_of
from fmbdask.survey.bench.embeddings.planted import CLASSES, Planted, planted

from .made import chunked, same_bits, vectors

COUNT = 2400


@pytest.fixture(scope="module")
def made() -> Planted:
    return planted(11, objects=COUNT, width=96)


@pytest.fixture(scope="module")
def store(made: Planted) -> xr.Dataset:
    return store_of(made)


@pytest.fixture(scope="module")
def search(store: xr.Dataset) -> CrossModalSearch:
    return CrossModalSearch(alignment="ridge", folds=3).fit(store, threads=1)


@pytest.fixture(scope="module")
def table(search: CrossModalSearch, store: xr.Dataset) -> xr.Dataset:
    return search.score(store)


def test_neighbours_are_the_nearest_and_never_oneself() -> None:
    points = vectors(300, 6)
    keys = np.arange(300, dtype=np.uint64)
    distances, places = Reference(points, keys).nearest(points[:50], keys[:50], 5)
    plain = ((points[:50, None] - points[None]) ** 2).sum(axis=2)
    plain[np.arange(50), np.arange(50)] = np.inf
    np.testing.assert_array_equal(places, np.argsort(plain, axis=1)[:, :5])
    np.testing.assert_allclose(distances, np.sort(plain, axis=1)[:, :5], rtol=1e-4)


def test_few_references_give_few_neighbours() -> None:
    points, keys = vectors(3, 4), np.arange(3, dtype=np.uint64)
    distances, places = Reference(points, keys).nearest(points, keys, 4)
    assert (np.sort(places, axis=1)[:, :2] == -1).all()
    assert np.isinf(distances[:, 2:]).all()
    values = np.array([1.0, 2.0, 4.0])
    np.testing.assert_allclose(median_of(values, places), [3.0, 2.5, 1.5])
    assert median_of(values, np.full((1, 2), -1)).tolist() == [0.0]


def test_unit_vectors() -> None:
    found = unit(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_usual_energies_follow_the_noise() -> None:
    random = np.random.default_rng(4)
    noise = np.exp(random.normal(0.0, 0.8, 6000))
    level, slope = np.array([0.9, 0.4, 0.0]), np.array([0.1, 0.6, 1.0])
    energies = (level + noise[:, None] * slope) * random.gamma(4.0, 0.25, (6000, 3))
    energies[:12] *= 1000.0
    np.testing.assert_allclose(_usual(noise, energies), [level, slope], atol=0.1)


def test_every_class_is_found(table: xr.Dataset, made: Planted) -> None:
    first = made.truth[np.argsort(table["p_value"].values)[: int((made.truth > 0).sum())]]
    for k, name in enumerate(CLASSES, start=1):
        assert (first == k).sum() >= 0.8 * (made.truth == k).sum(), name
    listed = discoveries(table["p_value"].values, 0.1)
    assert (made.truth[listed] > 0).mean() > 0.8
    assert listed.sum() > 0.5 * (made.truth > 0).sum()


def test_reasons_name_the_detector(table: xr.Dataset, search: CrossModalSearch, made: Planted) -> None:
    deciding = search.deciding
    assert set(deciding) == {
        n for n in search.detectors if n.startswith(("residual", "contrast", "alignment"))
    }
    p = np.array([table[f"p_{name}"].values for name in deciding])
    np.testing.assert_array_equal(table["reason"], np.array(deciding)[p.argmin(axis=0)])
    swapped = table["reason"].values[made.truth == 1 + CLASSES.index("swapped")]
    assert (swapped == "alignment").all()


@pytest.mark.parametrize("name", ["alignment", "contrast_image"])
def test_chunks_order_and_company_change_no_bit(
    name: str, search: CrossModalSearch, table: xr.Dataset, store: xr.Dataset
) -> None:
    detector = search.detectors[name]
    scores = table[f"score_{name}"].values
    for cuts in ([1], [511, 512, 1700]):
        np.testing.assert_array_equal(detector.score(chunked(store, cuts)), scores)
    some = np.random.default_rng(0).permutation(COUNT)[:701]
    np.testing.assert_array_equal(detector.score(store.isel(object=some)), scores[some])
    again = (Alignment(model="ridge", folds=3) if name == "alignment" else Contrast(folds=3)).fit(
        chunked(store, [700]), modalities=list(detector.modalities), threads=2
    )
    assert same_bits(again, detector)


def test_a_network_aligns_with_the_same_bits(store: xr.Dataset, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    some = store.isel(object=slice(0, 500))
    one, other = (Alignment(model="mlp", folds=2, seed=3).fit(some, threads=1) for _ in range(2))
    assert same_bits(one, other)
    again = load(one.save(tmp_path / "model"))
    np.testing.assert_array_equal(again.score(chunked(some, [100])), one.score(some))
    assert not same_bits(one, Alignment(model="mlp", folds=2, seed=4).fit(some, threads=1))


def test_saved_searches_score_the_same(
    search: CrossModalSearch, table: xr.Dataset, store: xr.Dataset, tmp_path: Path
) -> None:
    again = CrossModalSearch.load(search.save(tmp_path / "search"))
    assert list(again.detectors) == list(search.detectors)
    xr.testing.assert_identical(again.score(store.isel(object=slice(5, 25))), table.isel(object=slice(5, 25)))
    with pytest.raises(InputError, match="no saved model"):
        CrossModalSearch.load(tmp_path / "nowhere")


def test_a_missing_modality_leaves_the_other(search: CrossModalSearch, store: xr.Dataset) -> None:
    some = store.isel(object=slice(0, 40)).copy(deep=True)
    there = np.arange(40) >= 10
    found = search.score(some.assign_coords(valid_spectrum=("object", there)))
    assert np.isnan(found["score_alignment"].values).tolist() == (~there).tolist()
    assert np.isfinite(found["p_value"].values).all()
    assert not (found["reason"].values[:10] == "alignment").any()
    neither = some.assign_coords(valid_spectrum=("object", there), valid_image=("object", there))
    found = search.score(neither)
    assert np.isnan(found["p_value"].values[:10]).all()
    assert (found["reason"].values[:10] == "").all()


def test_widths_may_differ(store: xr.Dataset) -> None:
    narrow = store.assign(spectrum=(("object", "spectrum_feature"), store["spectrum"].values[:, :40]))
    detectors = CrossModalSearch(alignment="ridge", folds=2).fit(narrow, threads=1).detectors
    assert "alignment" in detectors
    assert "cosine" not in detectors
    with pytest.raises(InputError, match="no cosine"):
        Cosine().fit(narrow)


def test_one_modality_is_searched_as_well(store: xr.Dataset) -> None:
    found = CrossModalSearch(folds=2).fit(store, modalities=["image"], threads=1)
    assert set(found.detectors) == {"full_image", "residual_image", "contrast_image"}
    assert np.isfinite(found.score(store)["p_value"]).all()


def test_other_scores_drift(search: CrossModalSearch, table: xr.Dataset) -> None:
    assert not any(d.drifted for d in search.drift(table).values())
    moved = table.assign(score_alignment=table["score_alignment"] + 1.0)
    assert [n for n, d in search.drift(moved).items() if d.drifted] == ["alignment"]


def test_artefacts_are_families_and_have_ordinary_neighbours(
    search: CrossModalSearch, table: xr.Dataset, made: Planted
) -> None:
    order = np.argsort(table["p_value"].values)[:60]
    rows = Objects.of(store_of(made)).rows(0, COUNT)
    some, reasons = rows.take(order), table["reason"].values[order].tolist()
    family = families_of(search.detectors, some, reasons)
    assert (family <= np.arange(60)).all()
    assert (family[family] == family).all()
    artefacts = np.flatnonzero(made.truth[order] == 1)
    assert len(artefacts) >= 4
    image = [reasons[k].endswith("image") for k in artefacts]
    assert len(set(family[artefacts[image]])) <= 3 < len(artefacts[image])
    nearest = nearest_ordinary(search.detectors, some, reasons, 4)
    assert nearest.shape == (60, 4)
    assert not (nearest == some.keys[:, None]).any()
    assert np.isin(nearest, rows.keys).all()
    for name in ("alignment", "cosine", "nothing"):
        assert nearest_ordinary(search.detectors, some, [name] * 60, 2).any() == (name != "nothing")
    assert families_of(search.detectors, some, ["nothing"] * 60).tolist() == list(range(60))


def test_what_cannot_be_is_said(store: xr.Dataset) -> None:
    with pytest.raises(InputError, match="no alignment by forest"):
        Alignment(model="forest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not fitted"):
        CrossModalSearch().score(store)
    with pytest.raises(InputError, match="not fitted"):
        CrossModalSearch().save("nowhere")
    with pytest.raises(InputError, match="too few"):
        CrossModalSearch(alignment="ridge").fit(store.isel(object=slice(0, 60)), threads=1)
