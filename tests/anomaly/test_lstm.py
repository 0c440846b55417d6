"""LSTM detectors of sequences: what they find, what never reaches them, and that a saved one is the same."""

from __future__ import annotations

import pickle
import runpy
import sys
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from fmbdask.anomaly import load
from fmbdask.anomaly.lstm import Lstm
from fmbdask.anomaly.scan import Scan, largest
from fmbdask.errors import ConfigError, InputError

from .made import chunked, same_bits

pytest.importorskip("torch")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STEPS = 24
#: A network that is trained in a moment.
TINY: dict[str, Any] = {"hidden": (12, 8), "dense": 6, "epochs": 4, "batch": 64, "learning_rate": 2e-2}


def waves(count: int, seed: int = 0, features: int = 1, valid: float = 0.9) -> xr.Dataset:
    """Sines of any phase in two units, with noise; steps are missing at random."""
    random = np.random.default_rng(seed)
    phase = random.uniform(0, 2 * np.pi, (count, 1, 1))
    time = np.arange(STEPS)[:, None] + np.zeros(features)
    values = (
        np.sin(phase + 0.6 * time + np.arange(features)) + 0.05 * random.normal(size=(count, STEPS, features))
    ) * 30 + 7
    there = random.random((count, STEPS)) < valid
    there[:, 0] = True
    return xr.Dataset(
        {"flux": (("object", "time", "flux_feature"), values.astype(np.float32))},
        coords={
            "object_id": ("object", np.arange(count) + 10_000 * seed),
            "valid_time": (("object", "time"), there),
        },
    )


def spiked(data: xr.Dataset, step: int, height: float) -> xr.Dataset:
    """With a spike at one step of all sequences, which is valid."""
    other = data.copy(deep=True)
    other["flux"][:, step] += height
    other["valid_time"][:, step] = True
    return other


@pytest.fixture(scope="module")
def fitted() -> dict[str, Lstm]:
    data = waves(1200)
    wrong = spiked(data.isel(object=slice(0, 120)), 10, 60.0)
    mixed = xr.concat([wrong, data.isel(object=slice(120, None))], "object")
    labels = np.repeat([1, 0], [120, 1080])
    made = {name: Lstm(**TINY, model=name).fit(data) for name in ("forecast", "reconstruction")}
    longer = {**TINY, "hidden": (16, 12), "dense": 8, "epochs": 40, "learning_rate": 1e-2}
    return made | {"supervised": Lstm(**longer, model="supervised").fit(mixed, labels=labels)}


def area(ordinary: NDArray[np.float64], anomalous: NDArray[np.float64]) -> float:
    return float((anomalous[:, None] > ordinary).mean())


@pytest.mark.parametrize("name", ["forecast", "reconstruction", "supervised"])
def test_spikes_come_first_in_new_sequences(fitted: dict[str, Lstm], name: str) -> None:
    new = waves(300, seed=1)
    scores = fitted[name].score(new).values
    assert area(scores, fitted[name].score(spiked(new, 10, 60.0)).values) > 0.97
    if name != "supervised":
        p = fitted[name].p_value(new).values
        assert 0.02 < (p < 0.1).mean() < 0.25


def test_scores_of_steps_point_at_the_spike(fitted: dict[str, Lstm]) -> None:
    new = spiked(waves(200, seed=2), 15, 80.0)
    errors = fitted["forecast"].score_times(new)
    assert errors.dims == ("object", "time")
    assert errors.chunks is not None
    values = errors.values
    there = new["valid_time"].values
    assert np.isnan(values[~there]).all()
    assert np.isfinite(values[there]).all()
    assert (np.nanargmax(values, axis=1) == 15).mean() > 0.9
    assert 0.5 < np.nanmedian(values[:, :15]) < 1.5  # in scales of the expected error
    with pytest.raises(InputError, match="a supervised LSTM scores whole sequences"):
        fitted["supervised"].score_times(new)
    with pytest.raises(InputError, match="not fitted"):
        Lstm().score_times(new)


@pytest.mark.parametrize("name", ["forecast", "reconstruction", "supervised"])
def test_what_lies_at_steps_that_are_not_valid_counts_for_nothing(fitted: dict[str, Lstm], name: str) -> None:
    new = waves(100, seed=3, valid=0.7)
    other = new.copy(deep=True)
    other["flux"] = new["flux"].where(new["valid_time"], 1e9)
    np.testing.assert_array_equal(fitted[name].score(other).values, fitted[name].score(new).values)
    absent = new.copy(deep=True)
    absent["valid_time"][5] = False
    assert np.isnan(fitted[name].score(absent).values).nonzero()[0].tolist() == [5]


def test_training_never_sees_steps_that_are_not_valid() -> None:
    data = waves(300)
    other = data.copy(deep=True)
    other["flux"] = data["flux"].where(data["valid_time"], -1e12)
    few = {**TINY, "epochs": 1}
    assert same_bits(Lstm(**few).fit(data), Lstm(**few).fit(other))


@pytest.mark.parametrize("name", ["forecast", "supervised"])
def test_the_same_bits_in_any_chunks_order_and_company(fitted: dict[str, Lstm], name: str) -> None:
    data = waves(1100, seed=4)
    whole = fitted[name].score(data).compute()
    for cuts, workers in (([3, 700], 1), ([512, 513, 1000], 3)):
        with dask.config.set(scheduler="threads", num_workers=workers):
            np.testing.assert_array_equal(fitted[name].score(chunked(data, cuts)).compute(), whole)
    order = np.random.default_rng(0).permutation(1100)
    np.testing.assert_array_equal(fitted[name].score(data.isel(object=order)).compute(), whole[order])
    np.testing.assert_array_equal(fitted[name].score(data.isel(object=[17, 3])).compute(), whole[[17, 3]])


def test_the_same_seed_gives_the_same_model() -> None:
    few = {**TINY, "epochs": 1}
    data = waves(300)
    one = Lstm(**few).fit(data)
    assert same_bits(one, Lstm(**few).fit(chunked(data, [100, 101]), threads=1))
    assert not same_bits(one, Lstm(**few, seed=1).fit(data))


@pytest.mark.parametrize("name", ["forecast", "reconstruction", "supervised"])
def test_a_saved_one_gives_the_same_bits(tmp_path: Path, fitted: dict[str, Lstm], name: str) -> None:
    new = waves(100, seed=5)
    fitted[name].save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(fitted[name]))):
        assert isinstance(other, Lstm)
        assert same_bits(fitted[name], other)
        assert (other.settings, other.supervised) == (fitted[name].settings, name == "supervised")
        np.testing.assert_array_equal(other.score(new).compute(), fitted[name].score(new).compute())


def test_several_features_and_gross_values() -> None:
    data = waves(300, features=3)
    detector = Lstm(**{**TINY, "epochs": 2}).fit(data)
    far = xr.concat([data.isel(object=[0])] * 4, "object")
    for place, height in enumerate((0.0, 1e3, 1e8, 3e38)):
        far["flux"][place, 12, 1] += height
    far["valid_time"][:, 12] = True
    scores = detector.score(far).values
    assert np.isfinite(scores).all()
    assert (np.diff(scores) > 0).all()


def test_odds_are_those_of_the_classes_as_they_are(fitted: dict[str, Lstm]) -> None:
    new = waves(400, seed=6)
    odds = fitted["supervised"].score(new).values
    wrong = fitted["supervised"].score(spiked(new, 10, 60.0)).values
    assert np.median(odds) < -2.0 < 0.0 < np.median(wrong)
    scores, labels = fitted["supervised"].predict(new)
    assert (labels == 1).mean() < 0.05
    assert scores.dtype == np.float64


def test_labels_are_wanted() -> None:
    data = waves(300)
    with pytest.raises(InputError, match=r"learns from labels: fit\(data, labels=\.\.\.\)"):
        Lstm(**TINY, model="supervised").fit(data)
    with pytest.raises(InputError, match="0 sequences labelled anomalous to train a supervised LSTM on"):
        Lstm(**TINY, model="supervised").fit(data, labels=np.zeros(300))


def test_what_cannot_be_is_said_in_one_sentence(fitted: dict[str, Lstm]) -> None:
    with pytest.raises(InputError, match="holds vectors, lstm takes sequences"):
        Lstm().fit(np.zeros((200, 5), np.float32))
    with pytest.raises(InputError, match="sequences of 1 step have no order"):
        Lstm().fit(np.zeros((200, 1, 5), np.float32))
    with pytest.raises(InputError, match="the model was fitted to"):
        fitted["forecast"].score(waves(10).isel(time=slice(0, 20)))
    with pytest.raises(ConfigError, match="there is no LSTM model transformer"):
        Lstm(model="transformer")
    with pytest.raises(ConfigError, match="give 1 or more of each"):
        Lstm(hidden=(8, 0))


def test_windows_of_errors() -> None:
    random = np.random.default_rng(0)
    errors = random.normal(size=(2000, 64, 1))
    errors[random.random((2000, 64)) < 0.1] = np.nan
    scan = Scan.of(errors)
    assert scan.lengths.tolist() == [1, 2, 4, 8, 16, 32, 64]
    ordinary = scan(errors)
    assert np.mean(ordinary < 6.0) > 0.95
    part = errors[:500, 16:48]
    for changed in (part + 1.5, 0.05 * part, 2.0 * part, np.where(np.arange(32)[:, None] == 7, 8.0, part)):
        other = errors[:500].copy()
        other[:, 16:48] = changed
        assert area(ordinary, scan(other)) > 0.9
    one = largest(np.array([[[3.0], [np.nan], [1.0]]]), np.array([1, 3]))
    assert one[0, 0] == 4.5
    variance = (2.0 + 4.0) / 6.0  # of 3 and 1 about 2, and of four errors that every window has besides
    assert one[0, 1] == pytest.approx(0.5 * (10.0 - 2.0 - 2.0 * np.log(variance)))


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = "--seeds 1 --objects 600 --steps 40 --set epochs=3 batch=64 hidden=(8,6)"
    monkeypatch.setattr(sys, "argv", ["sequences.py", *small.split()])
    runpy.run_path(str(BENCHMARKS / "sequences.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["level", "shift"]
    found = {line[:22].strip(): [float(value) for value in line[22:].split()] for line in lines[1:]}
    assert list(found) == ["forecast", "reconstruction", "supervised", "components", "components, whitened"]
    assert all(len(values) == 7 and 0 < min(values) <= max(values) <= 1 for values in found.values())
    assert found["forecast"][0] > 0.7  # level shifts
    assert found["components"][5] > 0.6  # drifts
