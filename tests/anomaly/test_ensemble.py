from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from fmbdask.anomaly import Detector, Ensemble, Levels, Mahalanobis, Residual, load, scores, with_sequences
from fmbdask.anomaly.objects import Objects
from fmbdask.anomaly.reading import summary_of
from fmbdask.anomaly.rows import Rows
from fmbdask.anomaly.together import learn_together
from fmbdask.errors import InputError
from fmbdask.sequences import Shape

from .made import chunked, same_bits, store, vectors

WIDTH = 8
LSTM_LIKE = {"sequences": {"sequence": "10x3"}}


def members(folds: int = 3) -> dict[str, Detector]:
    return {
        "near": Mahalanobis(span=3, folds=folds),
        "far": Residual(span=3, folds=folds),
        "error": Residual(span=2, whiten=False, folds=folds),
    }


@pytest.fixture(scope="module")
def whole() -> xr.Dataset:
    return store(23_000, table=WIDTH)


@pytest.fixture(scope="module")
def train(whole: xr.Dataset) -> xr.Dataset:
    return whole.isel(object=slice(0, 3000))


@pytest.fixture(scope="module")
def test(whole: xr.Dataset) -> xr.Dataset:
    found = whole.isel(object=slice(3000, 3300)).copy(deep=True)
    found["table"][:5] += 4.0 * np.arange(1, 6)[:, None]
    found["table"][7, 2] = np.nan
    return found


@pytest.fixture(scope="module")
def fitted(train: xr.Dataset) -> Ensemble:
    return Ensemble(members(), folds=3).fit(train)


@pytest.mark.filterwarnings("ignore:some vectors")
def test_scores_levels_alerts_and_labels_go_together(fitted: Ensemble, test: xr.Dataset) -> None:
    found, label = fitted.predict(test)
    p, level, alert = fitted.p_value(test), fitted.levels(test), fitted.alerts(test)
    assert found.chunks is not None
    assert level.chunks is not None
    assert alert.chunks is not None
    assert alert.dtype == np.int8
    known = ~np.isnan(found.values)
    assert np.flatnonzero(~known).tolist() == [7]
    assert_allclose(level.values, Levels().score(p.values))
    assert np.array_equal(level.values, fitted.levels(found).values, equal_nan=True)
    assert alert.values[7] == label.values[7] == -1
    assert np.array_equal(alert.values[known] == 2, p.values[known] <= 1e-3)
    assert np.array_equal(label.values[known] == 1, p.values[known] < 1e-3)
    assert (alert.values[2:5] == 2).all()
    meanings = alert.attrs["flag_meanings"].split()
    assert dict(zip(alert.attrs["flag_values"], meanings, strict=True)) == {
        -1: "unknown", 0: "normal", 1: "warning", 2: "critical",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_levels_have_the_stated_false_alarms(seed: int) -> None:
    own = vectors(24_000, WIDTH, seed=100 + seed)
    ensemble = Ensemble(members(2), folds=2).fit(own[:4000])
    alert = ensemble.alerts(own[4000:]).values
    assert 0.035 < (alert >= 1).mean() < 0.065  # 5 per cent, known to .35 from 4000 rows
    assert (alert == 2).mean() < 0.004  # .1 per cent


def test_scores_do_not_saturate(fitted: Ensemble) -> None:
    far = vectors(1, WIDTH, seed=5) * 0 + np.array([[10.0], [20.0], [40.0], [80.0]], np.float32)
    found = fitted.score(far).values
    assert (np.diff(found) > 0).all()


def test_one_member_alone_finds_what_is_far_out(train: xr.Dataset) -> None:
    ensemble = Ensemble(members(), folds=3).fit(train)
    p = {name: np.full(1, 0.5) for name in ensemble.members}
    calibration = {name: member.calibrated() for name, member in ensemble.members.items()}
    raw = np.array([[calibration[n].quantile(1 - p[n][0]) for n in p]])
    raw[0, 1] = calibration["far"].quantile(1 - 1e-12)
    terms = np.stack(
        [-np.log10(calibration[n].p_value(raw[:, k])) for k, n in enumerate(ensemble.members)], axis=1
    )
    found = ensemble.calibrated().p_value(ensemble._together(terms))
    assert ensemble.alert_levels.codes(ensemble.alert_levels.score(found)).tolist() == [2]


def test_weights_after_a_fit_are_those_before_it(train: xr.Dataset, test: xr.Dataset) -> None:
    weights = {"near": 2.0, "far": 1.0, "error": 0.0}
    before = Ensemble(members(), weights, folds=3).fit(train)
    after = Ensemble(members(), folds=3).fit(train).set_weights(**weights)
    assert before.weights == after.weights == {"near": 2 / 3, "far": 1 / 3, "error": 0.0}
    assert same_bits(before, after)
    clean = test.isel(object=slice(10, None))
    assert np.array_equal(before.score(clean).values, after.score(clean).values)


def test_weights_keep_levels_calibrated(fitted: Ensemble, whole: xr.Dataset) -> None:
    own = pickle.loads(pickle.dumps(fitted))
    more = whole.isel(object=slice(3300, None))
    assert own.weights == dict.fromkeys(("near", "far", "error"), 1 / 3)
    limit = own.threshold(90)
    for name in own.members:
        own.set_weights(**(dict.fromkeys(own.members, 0) | {name: 1}))
        assert own.label_threshold != limit
        found, label = own.predict(more)
        assert 0.08 < label.values.mean() < 0.12
        # of one member alone p-values are the member's
        assert_allclose(own.p_value(found).values, own.members[name].p_value(more).values, atol=0.02)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"lstm": 1}, "no member lstm: known are near, far, error"),
        ({"near": -1}, "weight of near is -1: give 0 or more"),
        ({"near": np.nan}, "weight of near is nan"),
        ({"near": np.inf}, "weight of near is inf"),
        ({"near": "much"}, "weight of near is much"),
        ({"near": 0, "far": 0, "error": 0}, "all weights are 0"),
    ],
)
def test_weights_that_cannot_be_change_nothing(weights: dict[str, Any], said: str) -> None:
    ensemble = Ensemble(members(), folds=3)
    before = ensemble.weights
    with pytest.raises(InputError, match=said):
        ensemble.set_weights(**weights)
    with pytest.raises(InputError, match=said):
        Ensemble(members(), weights, folds=3)
    assert ensemble.weights == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no members"),
        ({"a b": Mahalanobis()}, "cannot be the name"),
        ({"a": Mahalanobis(folds=2)}, "a has 2 folds and the ensemble 5"),
        ({"a": Ensemble({"b": Mahalanobis()})}, "is an ensemble itself"),
    ],
)
def test_members_that_cannot_be_are_refused(given: dict[str, Detector], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Ensemble(given)


def test_what_is_saved_scores_the_same_bits(fitted: Ensemble, test: xr.Dataset, tmp_path: Path) -> None:
    clean = test.isel(object=slice(10, None))
    ensemble = pickle.loads(pickle.dumps(fitted)).set_weights(near=3)
    ensemble.threshold(99)
    ensemble.alert_levels = Levels(warning=0.2, critical=0.5)
    folder = ensemble.save(tmp_path / "model")
    assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["error", "far", "near"]
    again = load(folder)
    assert isinstance(again, Ensemble)
    assert again.weights == ensemble.weights
    assert again.label_threshold == ensemble.label_threshold
    assert again.alert_levels == ensemble.alert_levels
    assert same_bits(again, ensemble)
    for one in (again, pickle.loads(pickle.dumps(ensemble))):
        assert np.array_equal(one.score(clean).values, ensemble.score(clean).values)
    assert same_bits(again.set_weights(near=1), ensemble.set_weights(near=1))
    near = Mahalanobis.load(folder / "near")
    assert np.array_equal(near.score(clean).values, ensemble.members["near"].score(clean).values)


@pytest.mark.parametrize("cuts", [[1], [100, 101, 250], list(range(10, 290, 10))])
def test_chunks_do_not_change_a_bit(
    fitted: Ensemble, train: xr.Dataset, test: xr.Dataset, cuts: list[int]
) -> None:
    clean = test.isel(object=slice(10, None))
    assert np.array_equal(fitted.score(chunked(clean, cuts)).values, fitted.score(clean).values)
    again = Ensemble(members(), folds=3).fit(chunked(train, [c * 10 for c in cuts]))
    assert same_bits(again, fitted)


def test_members_are_computed_once(
    fitted: Ensemble, test: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = test.isel(object=slice(10, None))
    counted: list[int] = []
    score_rows = Mahalanobis.score_rows

    def counting(self: Mahalanobis, rows: Rows) -> NDArray[np.float64]:
        counted.append(len(rows))
        return score_rows(self, rows)

    monkeypatch.setattr(Mahalanobis, "score_rows", counting)
    found = scores({"ensemble": fitted, **fitted.members}, clean).compute()
    assert sum(counted) == clean.sizes["object"]
    monkeypatch.undo()
    assert np.array_equal(found["ensemble"].values, fitted.score(clean).values)
    own = fitted.member_scores(clean).compute()
    for name, member in fitted.members.items():
        assert np.array_equal(found[name].values, member.score(clean).values)
        assert np.array_equal(own[f"{name}_score"].values, found[name].values)
        assert np.array_equal(own[f"{name}_p_value"].values, member.p_value(found[name]).values)


def test_a_member_of_weight_0_is_not_computed(fitted: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = pickle.loads(pickle.dumps(fitted)).set_weights(near=0)

    def never(*_: Any) -> NDArray[np.float64]:
        raise AssertionError

    monkeypatch.setattr(Mahalanobis, "score_rows", never)
    assert np.isfinite(ensemble.score(vectors(3, WIDTH)).values).all()


def test_together_with_others_it_learns_what_it_learns_alone(train: xr.Dataset, fitted: Ensemble) -> None:
    ensemble, beside = Ensemble(members(), folds=3), Mahalanobis(span=3, folds=3)
    objects = Objects.of(train)
    for one in (ensemble, beside):
        one.begin(objects.widths, objects.provenance, None)
    learn_together({"ensemble": ensemble, "beside": beside}, summary_of(objects, 3))
    assert same_bits(ensemble, fitted)
    assert same_bits(beside, ensemble.members["near"])


def test_labelled_anomalies_count_in_no_calibration(train: xr.Dataset, fitted: Ensemble) -> None:
    anomalies = store(300, first_id=9000, table=WIDTH)
    anomalies["table"] += 30.0
    both = xr.concat([train, anomalies], "object")
    labels = np.repeat([0, 1], [3000, 300])
    ensemble = Ensemble(members(), folds=3).fit(both, labels=labels)
    assert ensemble.terms is not None
    assert len(ensemble.terms) == 3000
    assert (ensemble.alerts(anomalies).values == 2).all()
    assert ensemble.members["near"].calibrated().count == fitted.members["near"].calibrated().count


def test_members_that_take_moments_again_do(train: xr.Dataset) -> None:
    robust = Mahalanobis(span=3, robust=True, folds=3)
    ensemble = Ensemble({"robust": robust, "far": Residual(span=3, folds=3)}, folds=3).fit(train)
    assert ensemble.rounds == robust.rounds == 2


def begun(ensemble: Ensemble, *modalities: str) -> Ensemble:
    widths = {"table": 6, "sequences": Shape(10, 3).width, "spectrum": 7}
    ensemble.begin({m: widths[m] for m in modalities}, LSTM_LIKE, None)
    return ensemble


def test_members_suit_what_there_is() -> None:
    table = begun(Ensemble(), "table")
    assert set(table.members) == {"autoencoder", "isolation_forest", "neighbours", "mahalanobis"}
    assert set(table.weights.values()) == {0.25}
    both = begun(Ensemble(), "table", "sequences")
    assert {n: m.modalities for n, m in both.members.items()} == {
        **dict.fromkeys(table.members, ("table",)),
        "lstm": ("sequences",),
    }
    assert both.takes == 2
    alone = begun(Ensemble(), "sequences")
    assert alone.weights == pytest.approx({"autoencoder": 0.4, "isolation_forest": 0.3, "lstm": 0.3})
    assert begun(alone, "table").takes == 1
    with pytest.raises(InputError, match="one modality of vectors and one of sequences, these are table, sp"):
        begun(Ensemble(), "table", "spectrum")
    with pytest.raises(InputError, match="no member neighbours: known are"):
        begun(Ensemble(weights={"neighbours": 1}), "sequences")


def test_networks_are_left_out_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else name)
    with pytest.warns(UserWarning, match="torch is not installed: the ensemble has no autoencoder and no ls"):
        found = begun(Ensemble(), "table", "sequences")
    assert set(found.members) == {"isolation_forest", "neighbours", "mahalanobis"}


def test_sequences_want_a_member_that_takes_them() -> None:
    from fmbdask.anomaly import Lstm

    with pytest.raises(InputError, match="lstm takes sequences"):
        begun(Ensemble({"lstm": Lstm()}), "table")


def both_kinds(count: int = 240) -> xr.Dataset:
    random = np.random.default_rng(3)
    steps = np.cumsum(random.normal(size=(count, 8, 2)), axis=1)
    return with_sequences(vectors(count, 5), steps)


def test_rows_and_sequences_are_scored_together(tmp_path: Path) -> None:
    from fmbdask.anomaly import Lstm

    made: dict[str, Detector] = {
        "near": Mahalanobis(folds=2),
        "lstm": Lstm(folds=2, hidden=(4,), epochs=2),
    }
    data = both_kinds()
    ensemble = Ensemble(made, folds=2).fit(data)
    assert ensemble.modalities == ("feature", "sequence")
    gap = data.isel(object=slice(0, 20)).copy(deep=True)
    gap["feature"][3] = np.nan
    with pytest.warns(UserWarning, match="feature are not finite"):
        found = ensemble.score(gap).values
    assert np.flatnonzero(np.isnan(found)).tolist() == [3]
    whole = ensemble.score(data).values
    assert np.array_equal(np.delete(found, 3), np.delete(whole[:20], 3))
    again = Ensemble.load(ensemble.save(tmp_path / "model"))
    assert again.takes == 2
    assert np.array_equal(again.score(data).values, whole)
    with pytest.raises(InputError, match="give a Dataset that holds them"):
        ensemble.score(vectors(3, 5))


def test_rows_and_sequences_that_do_not_match_are_refused() -> None:
    rows, steps = np.zeros((4, 3)), np.zeros((4, 5, 2))
    assert with_sequences(rows, steps).sizes["object"] == 4
    with pytest.raises(InputError, match="4 rows and 3 sequences"):
        with_sequences(rows, steps[:3])
    with pytest.raises(InputError, match=r"sequences have the shape \(4, 3\): give 3 dimensions"):
        with_sequences(rows, rows)
    with pytest.raises(InputError, match=r"rows have the shape \(4, 5, 2\)"):
        with_sequences(steps, steps)

    def named(ids: list[Any], dims: tuple[str, ...], name: str, size: tuple[int, ...]) -> xr.DataArray:
        return xr.DataArray(np.zeros(size), dims=dims, name=name, coords={"object_id": ("object", ids)})

    first = named(list("abcd"), ("object", "feature"), "table", (4, 3))
    second = named(list("abdc"), ("object", "time", "feature"), "curve", (4, 5, 2))
    with pytest.raises(InputError, match="row 2 is c and sequence 2 is d"):
        with_sequences(first, second)
    with pytest.raises(InputError, match="both called table"):
        with_sequences(first, second.rename("table").assign_coords(object_id=first["object_id"]))
    found = with_sequences(first, second.assign_coords(object_id=first["object_id"]))
    assert Objects.of(found).widths == {"table": 3, "curve": 15}
