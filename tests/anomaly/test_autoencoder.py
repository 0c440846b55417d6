"""Autoencoders: what they find, that only the row decides its score, and that saved ones are the same."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from fmbdask.anomaly import load
from fmbdask.anomaly.autoencoder import Autoencoder
from fmbdask.anomaly.standard import CLIP, Standard
from fmbdask.errors import ConfigError, InputError

from .made import chunked, same_bits, store

pytest.importorskip("torch")

#: An autoencoder that is trained in a moment.
TINY: dict[str, Any] = {"layers": (16, 4), "epochs": 3, "batch": 128, "learning_rate": 1e-2}


def bent(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Vectors (count, 6) on a bent sheet, of very different units, with a little noise."""
    random = np.random.default_rng(seed)
    a, b = random.uniform(-1, 1, (2, count))
    sheet = np.stack([a, b, a * b, a**2, np.sin(3 * b), np.cos(2 * a)], axis=1)
    return ((sheet + 0.05 * random.normal(size=sheet.shape)) * np.geomspace(1, 1e4, 6) + 500).astype("f4")


@pytest.fixture(scope="module")
def fitted() -> Autoencoder:
    return Autoencoder(layers=(32, 16, 2), trim=0.0, epochs=40, batch=100, learning_rate=1e-2).fit(bent(2000))


def test_it_finds_what_is_off_the_sheet_and_labels_a_twentieth_of_the_rest(fitted: Autoencoder) -> None:
    new = bent(2000, seed=1)
    # each feature is as ordinary as ever
    shuffled = np.random.default_rng(2).permuted(bent(300, seed=3), axis=0)
    scores, labels = fitted.predict(np.concatenate([new, shuffled]))
    assert float((scores.values[2000:, None] > scores.values[:2000]).mean()) > 0.9
    assert 0.02 < (labels[:2000] == 1).mean() < 0.09
    assert (labels[2000:] == 1).mean() > 0.5
    assert fitted.threshold(99.0) > fitted.threshold(95.0) == fitted.label_threshold
    kept = fitted.training[0]
    assert kept["validation"][kept["best"]] == min(kept["validation"]) < 0.5 * kept["validation"][0]


def test_defaults_are_those_that_are_documented() -> None:
    detector = Autoencoder()
    assert (detector.settings["layers"], detector.percentile) == ([128, 64, 32, 16], 95.0)
    assert (detector.networks, detector.kind, detector.settings["scale"]) == (2, "autoencoder", "standard")


@pytest.mark.parametrize("scale", ["standard", "robust"])
def test_one_gross_value_spoils_no_training_and_scores_go_on_growing(scale: str) -> None:
    data = bent(1500)
    clean = Autoencoder(**TINY, scale=scale).fit(data)
    soiled = data.copy()
    soiled[7, 2], soiled[8, 3] = 1e30, -1e15
    found = Autoencoder(**TINY, scale=scale).fit(soiled)
    one, other = (d.score(data[100:]).values for d in (clean, found))
    assert np.median(np.abs(np.log(one / other))) < 0.5
    far = np.repeat(data[:1], 6, axis=0)
    far[:, 1] += np.array([0.0, 1e3, 1e5, 1e10, 1e30, 3e38], np.float32)
    scores = clean.score(far).values
    assert np.isfinite(scores).all()
    assert (np.diff(scores[:5]) > 0).all()
    assert scores[5] >= scores[4] > CLIP**2


def test_features_without_scale() -> None:
    data = bent(400)
    constant = np.concatenate([data, np.full((400, 1), 3.0, np.float32)], axis=1)
    constant[5, 6] = 103.0
    detector = Autoencoder(**TINY).fit(constant)
    scores = detector.score(constant).values
    assert np.isfinite(scores).all()
    assert scores.argmax() == 5
    assert Autoencoder(**TINY, scale="none").fit(data / 500).score(data / 500).notnull().all()


def test_scales() -> None:
    values = np.arange(1001, dtype=np.float32)[:, None]
    standard, robust = (Standard.of(values, how) for how in ("standard", "robust"))
    assert (standard.centre, robust.centre) == (500.0, 500.0)
    assert float(standard.scale[0]) == pytest.approx(1001 / 12**0.5, rel=1e-3)
    assert float(robust.scale[0]) == pytest.approx(500 / 1.349)
    rare = np.zeros((1000, 1), np.float32)
    rare[3] = 1.0
    assert float(Standard.of(rare, "robust").scale[0]) == pytest.approx(rare.std())
    large = (1e7 + 1e-3 * np.zeros((100, 1))).astype(np.float32)
    assert Standard.of(large, "standard").scale.tolist() == [1.0]


@pytest.mark.parametrize("width", [1, 2])
def test_narrow_and_few(width: int) -> None:
    data = bent(100)[:, :width]
    scores = Autoencoder(**TINY).fit(data).score(data).values
    assert np.isfinite(scores).all()
    one = Autoencoder(**TINY, folds=1).fit(data)
    assert one.networks == 1
    assert np.isfinite(one.score(data).values).all()


def test_the_same_bits_in_any_chunks_order_and_company() -> None:
    data = store(1400, image=8)
    one = Autoencoder(**TINY).fit(data)
    assert same_bits(one, Autoencoder(**TINY).fit(chunked(data, [1, 700, 701], features=3), threads=1))
    assert not same_bits(one, Autoencoder(**TINY, seed=1).fit(data))
    whole = one.score(data).compute()
    for cuts, workers in (([3, 700], 1), (list(range(100, 1400, 100)), 4)):
        with dask.config.set(scheduler="threads", num_workers=workers):
            np.testing.assert_array_equal(one.score(chunked(data, cuts)).compute(), whole)
    order = np.random.default_rng(0).permutation(1400)
    np.testing.assert_array_equal(one.score(data.isel(object=order)).compute(), whole[order])
    others = data.copy(deep=True)
    others["image"][20:] *= 3.0
    np.testing.assert_array_equal(one.score(others).compute()[:20], whole[:20])


def test_a_saved_one_gives_the_same_bits(tmp_path: Path, fitted: Autoencoder) -> None:
    data = bent(600, seed=4)
    fitted.save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(fitted))):
        assert isinstance(other, Autoencoder)
        assert same_bits(fitted, other)
        assert (other.settings, other.training) == (fitted.settings, fitted.training)
        assert (other.label_threshold, other.percentile) == (fitted.label_threshold, 95.0)
        np.testing.assert_array_equal(other.score(data).compute(), fitted.score(data).compute())


def test_a_damaged_one_is_refused(tmp_path: Path, fitted: Autoencoder) -> None:
    from fmbdask.checkpoints import Checkpoint, load_checkpoint, save_checkpoint

    fitted.save(tmp_path / "model")
    saved = load_checkpoint(tmp_path / "model")
    for change in (
        {"0.centre": np.zeros(3)},
        {"1.scale": -saved.arrays["1.scale"]},
        {"0.centre": np.full(6, np.nan)},
    ):
        whole = Checkpoint("autoencoder", {**saved.arrays, **change}, saved.meta)
        save_checkpoint(tmp_path / "bad", whole, overwrite=True)
        with pytest.raises(InputError, match="holds no autoencoder model that can be used"):
            Autoencoder.load(tmp_path / "bad")
    name = next(n for n in saved.arrays if ".network." in n)
    whole = Checkpoint("autoencoder", {**saved.arrays, name: saved.arrays[name][:1]}, saved.meta)
    save_checkpoint(tmp_path / "bad", whole, overwrite=True)
    with pytest.raises(InputError, match="weights of other shapes than its settings say"):
        Autoencoder.load(tmp_path / "bad").score(bent(10)).compute()


def test_what_cannot_be_is_said_in_one_sentence(fitted: Autoencoder) -> None:
    with pytest.raises(InputError, match="the autoencoder detector is not fitted"):
        Autoencoder().score(bent(10))
    with pytest.raises(InputError, match="have 5 features, the model was fitted to 6"):
        fitted.score(bent(10)[:, :5])
    with pytest.raises(InputError, match="99 objects with finite vectors of feature are too few"):
        Autoencoder().fit(bent(99))
    grouped = xr.DataArray(bent(100), dims=("object", "feature"), coords={"night": ("object", np.ones(100))})
    with pytest.raises(InputError, match="0 objects to train an autoencoder of feature on are too few"):
        Autoencoder().fit(grouped, group="night")
    with pytest.raises(ConfigError, match="there is no scale minmax"):
        Autoencoder(scale="minmax")
    with pytest.raises(ConfigError, match=r"layers of an autoencoder cannot be \[\]"):
        Autoencoder(layers=())
    with pytest.raises(ConfigError, match=r"trim is 1\.0: give a share"):
        Autoencoder(trim=1.0)
    with pytest.raises(ConfigError, match="1 networks for 5 folds"):
        Autoencoder(networks=1)
