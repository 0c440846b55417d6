"""Searches of stores: what is written, what is used again, and what is refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from fmbdask.anomaly.cosine import Cosine
from fmbdask.anomaly.flow import Flow
from fmbdask.errors import InputError, OutputExistsError
from fmbdask.store.embeddings import open_embeddings
from fmbdask.survey.objects import compute_cosine_mismatch, detect_anomalies, search, train, train_flow
from fmbdask.survey.objects.making import detector_of
from fmbdask.survey.objects.searching import stores_of
from fmbdask.survey.objects.settings import DetectConfig

from .made import QUICK, store

pytest.importorskip("torch")
pytest.importorskip("zuko")
SETTINGS = DetectConfig(**QUICK)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store some of whose spectra are missing, and the lists of its outliers."""
    folder = tmp_path_factory.mktemp("made")
    path = store(folder / "aion.zarr", 600, missing=0.05)
    found = search([path], folder / "out", "outliers", SETTINGS)
    assert any("have no usable vector of spectrum" in note for note in found.notes)
    assert [note for note in found.notes if "against Mahalanobis" in note]
    return path, folder / "out"


def test_outliers_are_what_the_detector_says(made: tuple[Path, Path]) -> None:
    path, out = made
    table = pd.read_csv(out / "anomaly_scores_aion.csv")
    data = open_embeddings(path)
    valid = data["valid_spectrum"].values
    assert table.groupby("embedding_key").size().to_dict() == {
        "embedding_hsc": 600, "embedding_spectrum": int(valid.sum()),
    }  # fmt: skip
    for key, modality in (("embedding_hsc", "image"), ("embedding_spectrum", "spectrum")):
        mine = table[table.embedding_key == key].set_index("object_id")
        assert mine["rank"].tolist() == list(range(1, len(mine) + 1))
        own = detector_of("flow", SETTINGS).fit(data, modalities=[modality], progress=lambda *_: None)
        loaded = Flow.load(out / "models" / "aion" / f"flow_{modality}")
        for detector in (own, loaded):
            scores = detector.score(data).compute()
            known = scores[~np.isnan(scores.values)]
            ordered = mine.loc[known["object_id"].values]
            np.testing.assert_array_equal(ordered.neg_log_prob, known.values)
            np.testing.assert_array_equal(ordered.log_prob, -known.values)
            assert detector.calibration is not None
            np.testing.assert_array_equal(ordered.anomaly_sigma, detector.calibration.sigma(known.values))
            np.testing.assert_array_equal(ordered.p_value, detector.calibration.p_value(known.values))


def test_models_are_used_again_and_lists_are_not_replaced(made: tuple[Path, Path]) -> None:
    path, out = made
    before = (out / "anomaly_scores_aion.csv").read_bytes()
    with pytest.raises(OutputExistsError, match=r"already there: give another folder, or --overwrite"):
        search([path], out, "outliers", SETTINGS)
    again = search([path], out, "outliers", DetectConfig(), overwrite=True)
    assert [note for note in again.notes if "are used: flow_image, flow_spectrum" in note]
    assert (out / "anomaly_scores_aion.csv").read_bytes() == before
    with pytest.raises(InputError, match="was trained with n_layers 1, not 2: leave that out to use it, or"):
        search([path], out, "multimodal", SETTINGS, asked={"n_layers": 2})
    assert not [p for p in out.iterdir() if p.name.endswith(".partial")]


def test_cosines_by_their_formula(made: tuple[Path, Path], tmp_path: Path) -> None:
    path, _ = made
    table = compute_cosine_mismatch(path, out=tmp_path)
    data = open_embeddings(path).compute()
    a, b = (data[m].values.astype(float) for m in ("image", "spectrum"))
    wanted = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    known = dict(zip(data["object_id"].values.tolist(), wanted, strict=True))
    np.testing.assert_allclose(table.cosine_similarity, [known[i] for i in table.object_id], atol=1e-6)
    assert table["rank"].tolist() == list(range(1, int(data["valid_spectrum"].sum()) + 1))
    assert table.cosine_similarity.is_monotonic_increasing
    own = Cosine().fit(open_embeddings(path), modalities=["image", "spectrum"])
    scores = own.score(open_embeddings(path)).dropna("object").compute().to_series()
    np.testing.assert_array_equal(np.sort(-scores), table.cosine_similarity)
    csv = pd.read_csv(tmp_path / "cosine_scores_aion.csv")
    pd.testing.assert_frame_equal(csv, table)


def test_the_three_functions_of_the_benchmark(tmp_path: Path) -> None:
    path = store(tmp_path / "x.zarr", 400, model="astropt")
    models = train_flow(path, "coupling", 1, 4, out=tmp_path / "models", components=3, epochs=1)
    assert sorted(p.name for p in models.iterdir()) == ["flow_image", "flow_spectrum", "store.json"]
    table = detect_anomalies(models, path, out=tmp_path)
    assert list(table)[:2] == ["object_id", "embedding_key"]
    assert len(table) == 800
    assert (tmp_path / "anomaly_scores_astropt.csv").is_file()
    with pytest.raises(OutputExistsError):
        train_flow(path, "coupling", 1, 4, out=tmp_path / "models")


def test_lists_of_ranks_use_what_is_there(made: tuple[Path, Path]) -> None:
    path, out = made
    found = search([path], out, "multimodal", DetectConfig(fusion="geo", top_k=20))
    assert [note for note in found.notes if "are used: flow_image, flow_spectrum" in note]
    folder = out / "multimodal"
    whole = pd.read_csv(folder / "all_scores.csv")
    valid = int(open_embeddings(path)["valid_spectrum"].sum())
    assert len(whole) == valid
    assert [note for note in found.notes if f"{600 - valid} of 600 objects lack a score" in note]
    assert whole["score_mm_geo"].is_monotonic_decreasing
    n = len(whole)
    for which, rank in (("mis", "rank_cosine"), ("img", "rank_img"), ("spec", "rank_spec")):
        np.testing.assert_allclose(whole[f"p_{which}"], (n - whole[rank] + 1) / n)
    np.testing.assert_allclose(whole.score_mm_geo, whole.p_mis * np.sqrt(whole.p_img * whole.p_spec))
    np.testing.assert_allclose(whole.score_mm_min, whole.p_mis * np.minimum(whole.p_img, whole.p_spec))
    top = pd.read_csv(folder / "ranked" / "top20_aion_geo.csv")
    pd.testing.assert_frame_equal(top, whole.head(20))
    filtered = pd.read_csv(folder / "filtered" / "top20_aion_geo_filtered.csv")
    passed = top[(top[["p_mis", "p_img", "p_spec"]] >= 0.9).all(axis=1)].reset_index(drop=True)
    pd.testing.assert_frame_equal(filtered, passed, check_dtype=False)
    assert (out / "cosine_scores_aion.csv").is_file()


def test_a_shared_list_of_two_models(tmp_path: Path) -> None:
    paths = [store(tmp_path / f"{m}.zarr", 300, model=m, seed=k) for k, m in enumerate(("aion", "astropt"))]
    found = search(paths, tmp_path / "out", "multimodal", DetectConfig(fusion="min", **QUICK))
    whole = pd.read_csv(tmp_path / "out" / "multimodal" / "all_scores.csv")
    assert whole.groupby("model").size().to_dict() == {"aion": 300, "astropt": 300}
    assert found.lists[-1].name == "all_scores.csv"
    assert len(stores_of([], out=tmp_path / "out")) == 2  # without a name: those of earlier searches
    with pytest.raises(InputError, match="both hold vectors of aion"):
        search([paths[0], paths[0]], tmp_path / "o", "cosine")


def test_scores_of_another_release(made: tuple[Path, Path], tmp_path: Path) -> None:
    path, out = made
    models = out / "models" / "aion"
    same = search([path], tmp_path / "same", "scores", models=models)
    table = pd.read_csv(tmp_path / "same" / "scores_aion.csv")
    assert list(table) == [
        "object_id", "detector", "embedding_key", "score", "anomaly_sigma", "rank", "p_value",
    ]  # fmt: skip
    assert not [note for note in same.notes if "drift" in note]
    later = store(tmp_path / "later.zarr", 600, shift=2.0)
    other = search([later], tmp_path / "other", "scores", models=models)
    assert [note for note in other.notes if "scores of flow_image drift from" in note]
    assert not (tmp_path / "other" / "models").exists()


def _wide(folder: Path) -> tuple[Path, str]:
    return store(folder / "b.zarr", 300, {"image": 7, "spectrum": 6}), "outliers"


def _other_model(folder: Path) -> tuple[Path, str]:
    return store(folder / "b.zarr", 300, model="astropt"), "outliers"


def _without(folder: Path) -> tuple[Path, str]:
    return store(folder / "b.zarr", 300, {"spectrum": 6}), "scores"


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (
            _wide,
            "vectors of image in .*b.zarr have 7 features, the flow model was fitted to 6: give the store",
        ),
        (
            _other_model,
            "have model astropt, the flow model was fitted to aion: give the store of the same model",
        ),
        (_without, "has no vectors of image, which the cosine model was fitted to: it has spectrum"),
    ],
)
def test_models_of_other_vectors_are_refused(
    made: tuple[Path, Path], tmp_path: Path, other: Any, sentence: str
) -> None:
    path, find = other(tmp_path)
    with pytest.raises(InputError, match=sentence):
        search([path], tmp_path / "out", find, SETTINGS, models=made[1] / "models" / "aion")
    assert not (tmp_path / "out" / "anomaly_scores_aion.csv").exists()


def test_what_cannot_be_searched(tmp_path: Path) -> None:
    few = store(tmp_path / "few.zarr", 60)
    with pytest.raises(InputError, match="60 objects with finite vectors of image and spectrum are too few"):
        search([few], tmp_path / "o", "cosine")
    one = store(tmp_path / "one.zarr", 300, {"image": 6})
    with pytest.raises(InputError, match=r"no two modalities of one model to compare \(image\): a mismatch"):
        search([one], tmp_path / "o", "multimodal")
    with pytest.raises(InputError, match="alignment takes two"):
        train("alignment", [one], tmp_path / "o")
    equal = store(tmp_path / "equal.zarr", 300, equal=True)
    with pytest.raises(InputError, match="image differ along 0 directions, a flow needs 2"):
        search([equal], tmp_path / "o", "outliers", SETTINGS)
    widths = store(tmp_path / "widths.zarr", 300, {"image": 6, "spectrum": 5})
    with pytest.raises(InputError, match="they have no cosine, use alignment"):
        search([widths], tmp_path / "o", "cosine")
    with pytest.raises(InputError, match="holds no saved models: train some with `fmbdask train`"):
        search([widths], tmp_path / "o", "scores", models=tmp_path)
    with pytest.raises(InputError, match="no models are named to score with: give --models"):
        search([widths], tmp_path / "o", "scores")
    with pytest.raises(InputError, match="no store is named"):
        stores_of([])
    assert not list((tmp_path / "o").glob("*"))


def test_models_of_an_earlier_state_are_not_used(tmp_path: Path) -> None:
    path = store(tmp_path / "x.zarr", 300)
    search([path], tmp_path / "out", "cosine")
    before = json.loads((tmp_path / "out" / "models" / "aion" / "store.json").read_text())
    for item in sorted(path.rglob("*"), reverse=True):
        item.unlink() if item.is_file() else item.rmdir()
    path.rmdir()
    store(path, 320, seed=4)
    found = search([path], tmp_path / "out", "cosine", overwrite=True)
    assert [
        note for note in found.notes if "another store, or of an earlier state of it: trained anew" in note
    ]
    assert json.loads((tmp_path / "out" / "models" / "aion" / "store.json").read_text()) != before


def test_text_ids_and_groups(tmp_path: Path) -> None:
    ids = np.array([f"obj {i}, é" for i in range(300)])
    path = store(tmp_path / "x.zarr", 300, ids=ids)
    search([path], tmp_path / "out", "cosine")
    table = pd.read_csv(tmp_path / "out" / "cosine_scores_aion.csv")
    assert sorted(table.object_id) == sorted(ids)
    assert isinstance(open_embeddings(path), xr.Dataset)
    with pytest.raises(InputError, match="has no column plate to group by: it has object_id"):
        search([path], tmp_path / "o", "cosine", DetectConfig(group="plate"))
