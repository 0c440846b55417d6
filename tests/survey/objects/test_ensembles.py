"""Ensembles over tables, stores and sequences: what their list says, what is used again, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fmbdask.anomaly import Ensemble, IsolationForest, Mahalanobis, load
from fmbdask.errors import ConfigError, InputError
from fmbdask.store.embeddings import open_embeddings
from fmbdask.survey.objects import detect_ensemble, search, train, train_detector
from fmbdask.survey.objects.settings import DetectConfig, LevelsConfig

from .made import FAMILIES, MEMBERS, sequences, store

pytest.importorskip("sklearn")
COUNT = 800


def settings(**options: Any) -> DetectConfig:
    return DetectConfig(**{"members": MEMBERS, "detectors": FAMILIES, **options})


def made(levels: Any = None, weights: Mapping[str, float] | None = None) -> Ensemble:
    """The ensemble of these settings, not fitted."""
    members = {"isolation_forest": IsolationForest(trees=8, samples=64), "mahalanobis": Mahalanobis()}
    return Ensemble(members, weights, levels)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table some of whose objects have no features, and some of which are labelled."""
    rng = np.random.default_rng(5)
    label = np.where(rng.random(COUNT) < 0.05, 1, 0)
    path = tmp_path_factory.mktemp("table") / "machines.zarr"
    return store(path, COUNT, {"features": 5}, model="", missing=0.02, columns={"label": label})


@pytest.fixture(scope="module")
def listed(table: Path) -> Path:
    """Folder of the list of that table."""
    found = search([table], table.parent / "out", "ensemble", settings())
    assert [p.name for p in found.lists] == [
        "ensemble_scores_machines.csv", "rates_ensemble_machines.csv",
    ]  # fmt: skip
    return table.parent / "out"


def test_the_list_is_what_the_ensemble_says(table: Path, listed: Path) -> None:
    found = pd.read_csv(listed / "ensemble_scores_machines.csv")
    pd.testing.assert_frame_equal(found, pd.read_parquet(listed / "ensemble_scores_machines.parquet"))
    assert list(found) == [
        "object_id", "ensemble_score", "level", "alert", "label", "p_value", "rank", "isolation_forest_score",
        "isolation_forest_p_value", "mahalanobis_score", "mahalanobis_p_value",
    ]  # fmt: skip
    data = open_embeddings(table)
    known = int(data["valid_features"].sum())
    assert known < COUNT == len(found)
    assert found["rank"][:known].tolist() == list(range(1, known + 1))
    assert found.ensemble_score[:known].is_monotonic_decreasing
    unscored = found[known:]
    assert (unscored.label == -1).all()
    assert unscored.drop(columns=["object_id", "label"]).isna().all(axis=None)

    own = made().fit(data)
    saved = load(listed / "models" / "machines" / "ensemble")
    ordered = found.set_index("object_id").loc[data["object_id"].values]
    for ensemble in (own, saved):
        assert isinstance(ensemble, Ensemble)
        scores, labels = ensemble.predict(data)
        np.testing.assert_array_equal(ordered.ensemble_score, scores)
        np.testing.assert_array_equal(ordered.label, labels)
        np.testing.assert_array_equal(ordered.p_value, ensemble.p_value(data))
        np.testing.assert_array_equal(ordered.level, ensemble.levels(data))
        names = np.where(scores.isnull(), "", ensemble.alert_levels.names(ensemble.alerts(data).values))
        assert ordered.alert.fillna("").tolist() == names.tolist()
        for name, values in ensemble.member_scores(data).items():
            np.testing.assert_array_equal(ordered[name], values)
    rates = pd.read_csv(listed / "rates_ensemble_machines.csv")
    assert set(rates.detector) == {"ensemble", "ensemble.isolation_forest", "ensemble.mahalanobis"}


def test_weights_and_levels_of_a_trained_ensemble(table: Path, listed: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (listed / "models").rglob("*.safetensors")}
    assert before
    levels = LevelsConfig(warning=0.5, critical=0.9)
    wanted = settings(weights={"mahalanobis": 3.0, "isolation_forest": 1.0}, levels=levels)
    search([table], listed, "ensemble", wanted, asked={"weights": wanted.weights}, overwrite=True)
    assert {p: p.stat().st_mtime_ns for p in (listed / "models").rglob("*.safetensors")} == before
    found = pd.read_parquet(listed / "ensemble_scores_machines.parquet").set_index("object_id")
    data = open_embeddings(table)
    own = made(levels.made(), wanted.weights).fit(data)
    scores = own.score(data)
    np.testing.assert_array_equal(found.ensemble_score.loc[data["object_id"].values], scores)
    known = found.dropna(subset="level")
    made_of = levels.made()
    assert known.alert.tolist() == made_of.names(made_of.codes(known.level)).tolist()
    assert ((known.alert == "normal") == (known.level < 0.5)).all()
    alone = detect_ensemble(table, weights={"mahalanobis": 1.0}, out=listed, overwrite=True)
    assert "mahalanobis_score" in alone
    assert "isolation_forest_score" not in alone
    ranks = alone.dropna(subset="rank").mahalanobis_score
    assert ranks.is_monotonic_decreasing


def test_labelled_anomalies_are_not_learnt_from(table: Path, listed: Path, tmp_path: Path) -> None:
    wanted = settings(labels="label")
    with pytest.raises(InputError, match="was trained with labels None, not label: leave that out to use it"):
        search([table], listed, "ensemble", wanted, asked={"labels": "label"})
    search([table], tmp_path / "out", "ensemble", wanted, asked={"labels": "label"})
    found = pd.read_parquet(tmp_path / "out" / "ensemble_scores_machines.parquet").set_index("object_id")
    data = open_embeddings(table)
    own = made().fit(data, labels="label")
    np.testing.assert_array_equal(found.ensemble_score.loc[data["object_id"].values], own.score(data))
    assert own.calibration is not None
    assert own.calibration.count == int((data["valid_features"] & (data["label"] != 1)).sum())


def test_sequences(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    both = sequences(tmp_path / "both.zarr", beside=4)
    trained = train("lstm", [both], tmp_path / "models", settings(), options={"networks": 2})
    assert [p.name for p in trained.models] == ["lstm_flux"]
    assert [
        note for note in trained.notes if "may be learnt from and scored at once: give --group block" in note
    ]
    forest = train("isolation_forest", [both], tmp_path / "models", settings())
    assert [p.name for p in forest.models] == ["isolation_forest_features"]
    search([both], tmp_path / "scored", "scores", models=tmp_path / "models")
    table = pd.read_csv(tmp_path / "scored" / "scores_tess.csv")
    assert table.groupby("detector").size().to_dict() == {"isolation_forest_features": 300, "lstm_flux": 300}
    wanted = settings(members=("isolation_forest", "lstm"), group="block")
    done = search([both], tmp_path / "out", "ensemble", wanted)
    assert not [note for note in done.notes if "--group block" in note]
    saved = load(tmp_path / "out" / "models" / "tess" / "ensemble")
    assert isinstance(saved, Ensemble)
    assert {n: m.modalities for n, m in saved.members.items()} == {
        "isolation_forest": ("features",), "lstm": ("flux",),
    }  # fmt: skip


def test_supervised_networks_take_labels(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = sequences(tmp_path / "x.zarr", 400)
    models = train_detector(
        path, "lstm", labels="label", out=tmp_path / "models", model="supervised", hidden=(4,), epochs=1
    )
    saved = load(models / "lstm_flux")
    assert saved.labels == "label"
    assert saved.supervised


def two(folder: Path) -> Path:
    return store(folder / "two.zarr", 300)


def vectors(folder: Path) -> Path:
    return store(folder / "vectors.zarr", 300, {"features": 5})


def series(folder: Path) -> Path:
    return sequences(folder / "series.zarr")


@pytest.mark.parametrize(
    ("make", "options", "sentence"),
    [
        (two, {}, r"holds vectors of several modalities \(image, spectrum\).* --modality image say"),
        (two, {"modality": ["radio"]}, "has no modality radio: it has image, spectrum"),
        (vectors, {"members": ["forest"]}, "forest cannot be a member of an ensemble: known are autoencoder"),
        (vectors, {"members": ["alignment"]}, "alignment cannot be a member of an ensemble"),
        (vectors, {"weights": {"lstm": 1}, "members": MEMBERS}, "lstm has a weight and is no member: the me"),
        (vectors, {"weights": {"mahalanobis": 0}, "members": None}, "all weights are 0"),
        (vectors, {"weights": {"mahalanobis": -1}, "members": None}, "the weight of mahalanobis is -1"),
        (vectors, {"members": ["lstm"]}, r"holds no sequences \(features\), which lstm takes: leave it out"),
        (vectors, {"labels": "y"}, r"vectors.zarr has no column y to take labels from: it has object_id"),
        (vectors, {"group": "plate"}, r"vectors.zarr has no column plate to group by: it has object_id"),
    ],
)
def test_what_an_ensemble_refuses(tmp_path: Path, make: Any, options: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        search([make(tmp_path)], tmp_path / "out", "ensemble", settings(**options))
    assert not list(tmp_path.glob("out/*.csv"))


@pytest.mark.parametrize(
    ("make", "kind", "options", "sentence"),
    [
        (series, "autoencoder", {}, r"holds sequences only \(flux\): use `fmbdask train lstm`"),
        (vectors, "lstm", {}, r"holds no sequences \(features\): cut series into windows with `fmbdask em"),
        (vectors, "alignment", {}, r"holds no two modalities of one model \(features\): alignment takes two"),
        (vectors, "mahalanobis", {"trees": 3}, "mahalanobis has no option trees: it takes"),
        (vectors, "forest", {}, "there is no detector of kind forest: known are alignment, autoencoder"),
    ],
)
def test_what_a_family_refuses(tmp_path: Path, make: Any, kind: str, options: Any, sentence: str) -> None:
    with pytest.raises((InputError, ConfigError), match=sentence):
        train_detector(make(tmp_path), kind, out=tmp_path / "models", **options)


def test_other_tables_and_other_models_are_refused(listed: Path, tmp_path: Path) -> None:
    other = store(tmp_path / "other.zarr", 300, {"features": 4})
    with pytest.raises(InputError, match="have 4 features, the ensemble model was fitted to 5: give the st"):
        detect_ensemble(other, models=listed / "models" / "machines", out=tmp_path / "out")
    for find in ("cosine", "multimodal"):
        with pytest.raises(InputError, match="mismatch needs two vectors of an object, use `fmbdask detect"):
            search([other], tmp_path / "out", find, settings())  # type: ignore[arg-type]
    models = train_detector(other, "mahalanobis", out=tmp_path / "models")
    with pytest.raises(InputError, match="holds no ensemble, but span_features: leave --models out"):
        detect_ensemble(other, models=models, out=tmp_path / "out")
