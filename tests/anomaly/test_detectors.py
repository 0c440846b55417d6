"""What all detectors promise: the same scores in any chunks, order and company; errors in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import fmbdask
from fmbdask.anomaly import Cosine, Detector, Mahalanobis, Residual, load, skipped
from fmbdask.anomaly.summary import piece_of
from fmbdask.errors import InputError

from .made import chunked, same_bits, store, vectors

COUNT = 3000
BOTH = {"image": 24, "spectrum": 24}
#: Each family in all its ways, and what it takes of a store.
EACH: dict[str, Detector] = {
    "span": Mahalanobis(span=7),
    "full": Mahalanobis(span=None, folds=3),
    "robust": Mahalanobis(span=7, robust=True, folds=2),
    "alone": Mahalanobis(span=7, folds=1),
    "residual": Residual(span=7),
    "error": Residual(span=7, whiten=False),
    "cosine": Cosine(),
}
each = pytest.mark.parametrize("name", EACH)


def like(detector: Detector) -> Detector:
    """A new one of the same settings."""
    own = {k: getattr(detector, k) for k in ("span", "whiten", "robust") if hasattr(detector, k)}
    return type(detector)(folds=detector.folds, **own)


def wanted(detector: Detector) -> list[str]:
    return ["image", "spectrum"][: detector.takes]


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    made = store(COUNT, **BOTH)
    made["image"][11, 3] = np.nan
    made["spectrum"][12, 0] = np.inf
    duplicates = ("object", np.arange(COUNT) // 3)
    missing = np.ones(COUNT, bool)
    missing[:5] = False
    return made.assign_coords(source=duplicates, valid_image=("object", missing))


@pytest.fixture(scope="module")
def fitted(data: xr.Dataset) -> dict[str, tuple[Detector, xr.DataArray]]:
    found = {}
    for name, detector in EACH.items():
        with pytest.warns(UserWarning, match="1 of 3000 vectors of image are not finite: left out"):
            detector.fit(data, modalities=wanted(detector), threads=2)
        with pytest.warns(UserWarning, match="some vectors of image are not finite"):
            found[name] = detector, detector.score(data).compute()
    return found


@each
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=6)
@given(
    cuts=st.lists(st.integers(1, COUNT - 1), max_size=4),
    features=st.sampled_from([5, 24]),
    threads=st.sampled_from([1, 3]),
)
def test_chunks_and_threads_change_no_bit(
    name: str,
    data: xr.Dataset,
    fitted: dict[str, tuple[Detector, xr.DataArray]],
    cuts: list[int],
    features: int,
    threads: int,
) -> None:
    detector, scores = fitted[name]
    lazy = chunked(data, cuts, features)
    again = like(detector).fit(lazy, modalities=wanted(detector), threads=threads)
    assert same_bits(again, detector)
    np.testing.assert_array_equal(detector.score(lazy), scores)


@each
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=8)
@given(seed=st.integers(0, 999), size=st.integers(1, COUNT))
def test_no_row_knows_the_others(
    name: str, data: xr.Dataset, fitted: dict[str, tuple[Detector, xr.DataArray]], seed: int, size: int
) -> None:
    detector, scores = fitted[name]
    some = np.random.default_rng(seed).permutation(COUNT)[:size]
    with dask.config.set(scheduler="threads"):
        found = detector.score(data.isel(object=some)).compute()
    np.testing.assert_array_equal(found, scores[some])
    np.testing.assert_array_equal(found.object_id, data.object_id[some])


@each
@pytest.mark.filterwarnings("ignore")
def test_small_tasks_change_no_bit(
    name: str,
    data: xr.Dataset,
    fitted: dict[str, tuple[Detector, xr.DataArray]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    detector, scores = fitted[name]
    monkeypatch.setattr("fmbdask.anomaly.lazy.piece_of", lambda widths: 100)
    lazy = detector.score(data)
    assert lazy.chunks == ((100,) * 30,)
    np.testing.assert_array_equal(lazy, scores)


@each
@pytest.mark.filterwarnings("ignore")
def test_saved_and_loaded_it_gives_the_same_bits(
    name: str, data: xr.Dataset, fitted: dict[str, tuple[Detector, xr.DataArray]], tmp_path: Path
) -> None:
    detector, scores = fitted[name]
    limit = detector.threshold(99)
    detector.save(tmp_path / "model")
    for again in (type(detector).load(tmp_path / "model"), load(tmp_path / "model")):
        assert type(again) is type(detector)
        assert same_bits(again, detector)
        assert again.label_threshold == limit
        assert again.widths == detector.widths
        assert again.provenance == detector.provenance
        np.testing.assert_array_equal(again.score(data), scores)
    again.save(tmp_path / "twice")
    for file in ("model.json", "arrays.safetensors"):
        assert (tmp_path / "twice" / file).read_bytes() == (tmp_path / "model" / file).read_bytes()


@pytest.mark.filterwarnings("ignore")
def test_another_process_gives_the_same_bits(
    data: xr.Dataset, fitted: dict[str, tuple[Detector, xr.DataArray]], tmp_path: Path
) -> None:
    values = np.ascontiguousarray(data["image"].values[100:])
    np.save(tmp_path / "values.npy", values)
    for name in ("full", "residual"):
        fitted[name][0].save(tmp_path / name)
    code = (
        "import sys, numpy as np, fmbdask\n"
        "for name in ('full', 'residual'):\n"
        "    scores = fmbdask.anomaly.load(name).score(np.load('values.npy'))\n"
        "    np.save(f'{name}.npy', scores.compute(scheduler='threads', num_workers=3))\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, check=True)
    for name in ("full", "residual"):
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), fitted[name][0].score(values))


@each
@pytest.mark.filterwarnings("ignore")
def test_p_values_and_labels(name: str, fitted: dict[str, tuple[Detector, xr.DataArray]]) -> None:
    detector, scores = fitted[name]
    data = store(2000, seed=50, first_id=10**6, **BOTH)
    p = detector.p_value(data)
    assert p.chunks is not None
    assert ((p > 0) & (p <= 1)).all()
    order = np.argsort(detector.score(data).values)
    assert (np.diff(p.values[order]) <= 0).all()
    np.testing.assert_array_equal(detector.p_value(detector.score(data)), p)
    values, labels = detector.predict(data, p=0.05)
    np.testing.assert_array_equal(labels == 1, p < 0.05)
    limit = detector.threshold(95)
    values, labels = detector.predict(data)
    np.testing.assert_array_equal(labels == 1, values > limit)
    ordinary = scores.values[np.isfinite(scores.values)]
    assert abs((ordinary > limit).mean() - 0.05) < 0.01
    assert labels.dtype == np.int8
    for wrong in (-1, 100, float("nan")):
        with pytest.raises(InputError, match="there is no percentile"):
            detector.threshold(wrong)


@pytest.mark.filterwarnings("ignore")
def test_objects_without_a_score_are_counted(
    data: xr.Dataset, fitted: dict[str, tuple[Detector, xr.DataArray]]
) -> None:
    scores = fitted["span"][1]
    assert scores.attrs["missing"] == 5
    assert scores.isnull().sum() == 6
    assert skipped(scores) == 1
    assert skipped(fitted["cosine"][1]) == 2
    _, labels = fitted["span"][0].predict(data)
    assert sorted(np.flatnonzero(labels == -1)) == [0, 1, 2, 3, 4, 11]


def test_arrays_of_any_kind_are_taken(data: xr.Dataset) -> None:
    values = np.round(vectors(600, 6) * 1000)
    for made in (
        values,
        da.from_array(values, chunks=(123, 2)),
        xr.DataArray(values, dims=("object", "x")),
        xr.Dataset({"feature": (("object", "x"), values)}),
        values.tolist(),
    ):
        found = Mahalanobis(span=3).fit(made)
        assert found.modalities == ("feature",)
        assert found.score(made).shape == (600,)
    same = []
    for kind in (np.float64, np.int32, np.int64):
        with pytest.warns(UserWarning, match=f"are {np.dtype(kind)}: taken as float32"):
            same.append(Mahalanobis(span=3).fit(values.astype(kind)))
    assert same_bits(same[0], same[1])
    assert same_bits(same[0], Mahalanobis(span=3).fit(values))
    with pytest.warns(UserWarning, match="1 of 600 vectors of feature are not finite"):
        Mahalanobis(span=3).fit(np.where(np.arange(600)[:, None] == 3, 1e39, values.astype(np.float64)))


def test_ids_as_text_or_numbers_are_the_same() -> None:
    one = store(500, image=5)
    texts = one.assign_coords(object_id=one.object_id.astype(str))
    octets = one.assign_coords(object_id=one.object_id.astype("S"))
    detector = Mahalanobis().fit(one)
    for other in (texts, octets):
        assert same_bits(Mahalanobis().fit(other), detector)
        np.testing.assert_array_equal(detector.score(other), detector.score(one))


@pytest.mark.filterwarnings("ignore")
def test_groups_stay_in_one_fold(data: xr.Dataset) -> None:
    detector = Mahalanobis(span=7).fit(data, modalities=["image"], group="source")
    same = data.isel(object=[30] * 4).assign_coords(
        object_id=("object", np.arange(4)), source=("object", [10, 10, 11, 12])
    )
    scores = detector.score(same).values
    assert scores[0] == scores[1]
    assert len(set(scores)) > 1  # 10, 11 and 12 are not all in one of the folds
    with pytest.raises(InputError, match="there is no column source to group by"):
        detector.score(data.drop_vars("source"))
    with pytest.raises(InputError, match="there is no column source"):
        detector.score(data["image"].values)
    with pytest.raises(InputError, match="no column nothing to group by"):
        Mahalanobis().fit(data, modalities=["image"], group="nothing")
    with pytest.raises(InputError, match=r"all objects .* are in one of 5 folds: give fewer folds"):
        Mahalanobis(span=7).fit(
            data.assign_coords(one=("object", np.zeros(COUNT, int))), modalities=["image"], group="one"
        )


def test_progress_is_told() -> None:
    told: list[tuple[int, int, str]] = []
    Mahalanobis(robust=True).fit(store(500, image=5), progress=lambda *what: told.append(what))
    assert {text for *_, text in told} == {"reading", "components of image", "mahalanobis: calibration"}
    assert (500, 500, "reading") in told
    assert all(0 <= done <= total for done, total, _ in told)


@each
def test_unfitted_ones_say_so(name: str, tmp_path: Path) -> None:
    detector = like(EACH[name])
    given_data = store(10, **BOTH)
    for use in (
        lambda: detector.score(given_data),
        lambda: detector.p_value(given_data),
        lambda: detector.predict(given_data),
        lambda: detector.threshold(99),
        lambda: detector.save(tmp_path / "model"),
    ):
        with pytest.raises(InputError, match="is not fitted: call fit, or load a saved one"):
            use()


@each
def test_too_few_rows(name: str) -> None:
    for count in (1, 50, 99):
        given_data = store(count, **BOTH)
        with pytest.raises(InputError, match=rf"{count} objects .* too few .*give at least 100"):
            like(EACH[name]).fit(given_data, modalities=wanted(EACH[name]))
    with pytest.raises(InputError, match="there are no objects"):
        like(EACH[name]).fit(store(0, **BOTH), modalities=wanted(EACH[name]))


@pytest.mark.parametrize(
    ("detector", "enough"), [(Mahalanobis(), 153), (Residual(span=100), 153), (Mahalanobis(folds=2), 245)]
)
def test_fewer_rows_than_components(detector: Detector, enough: int) -> None:
    with pytest.raises(InputError, match=rf"too few for 100 components: give at least {enough}"):
        detector.fit(vectors(110, 128))
    assert detector.fit(vectors(enough, 128)).calibration is not None


@pytest.mark.parametrize("name", ["span", "full", "residual", "error", "robust"])
@pytest.mark.parametrize("value", [0.0, 1.0, 1 / 3, 1e6])
def test_equal_rows(name: str, value: float) -> None:
    with pytest.raises(InputError, match="all vectors of feature are equal"):
        like(EACH[name]).fit(np.full((500, 12), value, np.float32))


def test_what_it_was_not_fitted_to_is_refused(fitted: dict[str, tuple[Detector, xr.DataArray]]) -> None:
    detector, cosine = fitted["span"][0], fitted["cosine"][0]
    other = store(20, image=24, spectrum=24)
    with pytest.raises(InputError, match="have 23 features, the model was fitted to 24"):
        detector.score(vectors(20, 23))
    with pytest.raises(InputError, match="vectors of image have model else, the model was fitted to made"):
        detector.score(other.assign(image=other["image"].assign_attrs(model="else")))
    with pytest.raises(InputError, match="vectors of image have weights_sha256 f00"):
        detector.score(other.assign(image=other["image"].assign_attrs(weights_sha256="f00")))
    with pytest.raises(InputError, match="there is no modality image"):
        detector.score(other.drop_vars("image"))
    with pytest.raises(InputError, match="called spectrum, the model was fitted to image"):
        detector.score(other["spectrum"])
    with pytest.raises(InputError, match="takes image and spectrum, this is one array"):
        cosine.score(other["image"])
    with pytest.raises(InputError, match="there is no modality spectrum"):
        cosine.score(other.drop_vars("spectrum"))
    with pytest.raises(InputError, match=r"cosine takes 2 modalities, these are 1 \(image\)"):
        Cosine().fit(other, modalities=["image"])
    with pytest.raises(InputError, match=r"takes 1 modality, these are 2 \(image, spectrum\)"):
        Mahalanobis().fit(other)
    with pytest.raises(InputError, match="names a modality twice"):
        Cosine().fit(other, modalities=["image", "image"])


@pytest.mark.parametrize(
    ("given_data", "words"),
    [
        (np.zeros(5), r"the shape \(5,\): give \(objects, features\)"),
        (np.zeros((5, 0)), "have no features"),
        (np.array([["a"]]), "are <U1: give numbers"),
        (xr.DataArray(np.zeros((3, 2)), dims=("x", "y")), r"dimensions \('x', 'y'\)"),
        (xr.Dataset(coords={"object": [1]}), "the store holds no vectors"),
    ],
)
def test_data_that_are_no_vectors(given_data: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Mahalanobis().fit(given_data)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="0 folds cannot be"):
        Cosine(folds=0)
    for family in (Mahalanobis, Residual):
        with pytest.raises(InputError, match="a span of 0 components"):
            family(span=0)


def test_tasks_hold_a_bounded_number_of_bytes() -> None:
    detector = Mahalanobis(span=7).fit(vectors(400, 300))
    for size in (100_000, 999):
        lazy = da.zeros((100_000, 300), dtype=np.float32, chunks=(size, 300))
        (sizes,) = detector.score(lazy[:70_000]).chunks or ()
        assert set(sizes[:-1]) == {piece_of({"feature": 300})}
        assert max(sizes) * 300 * 4 <= 64 * 2**20


def test_the_room_is_lent_by_the_package() -> None:
    assert fmbdask.anomaly.Mahalanobis is Mahalanobis
    assert set(fmbdask.anomaly.__all__) <= set(dir(fmbdask.anomaly))
    for name in fmbdask.anomaly.__all__:
        assert getattr(fmbdask.anomaly, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = fmbdask.anomaly.nothing
