"""Mismatch of two modalities: against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from fmbdask.anomaly import Cosine, Mahalanobis, Residual, scores
from fmbdask.errors import InputError

from .made import store, vectors


def test_scores_equal_plain_numpy() -> None:
    data = store(400, image=16, spectrum=16)
    a, b = (data[m].values.astype(np.float64) for m in ("image", "spectrum"))
    want = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    detector = Cosine().fit(data)
    np.testing.assert_allclose(detector.score(data), -want, rtol=1e-10, atol=1e-12)
    found = detector.similarity(data)
    np.testing.assert_array_equal(found, -detector.score(data))
    assert found.name == "cosine_similarity"
    assert found.chunks is not None


def test_swapped_pairs_are_the_most_anomalous() -> None:
    data = store(1000, image=16, spectrum=16)
    image = data["image"].values
    spectrum = image + np.float32(0.1) * vectors(1000, 16, 9)
    spectrum[[3, 4]] = spectrum[[4, 3]] * np.float32(-1)
    data = data.assign(spectrum=(("object", "spectrum_feature"), spectrum))
    found = Cosine().fit(data).score(data).values
    assert set(np.argsort(-found)[:2]) == {3, 4}


def test_vectors_of_zeros_have_no_score() -> None:
    data = store(300, image=4, spectrum=4)
    data["image"][7] = 0
    found = Cosine().fit(data).score(data)
    assert np.flatnonzero(found.isnull()).tolist() == [7]


def test_different_widths_are_sent_to_alignment() -> None:
    with pytest.raises(InputError, match=r"vectors of image have 4 features, .*use alignment"):
        Cosine().fit(store(300, image=4, spectrum=5))


def test_several_detectors_score_together() -> None:
    data = store(1000, image=12, spectrum=12)
    data["image"][3, 0] = np.nan
    detectors = {
        "distance": Mahalanobis(span=5).fit(data, modalities=["image"]),
        "left": Residual(span=5).fit(data, modalities=["spectrum"]),
        "match": Cosine().fit(data),
    }
    found = scores(detectors, data).compute()
    for name, detector in detectors.items():
        np.testing.assert_array_equal(found[name], detector.score(data))
    assert found["left"].notnull().all()
    with pytest.raises(InputError, match="there are no detectors to score with"):
        scores({}, data)
    with pytest.raises(InputError, match="the cosine detector is not fitted"):
        scores({"match": Cosine()}, data)
    data = data.assign_coords(source=("object", np.arange(1000) // 2))
    detectors["other"] = Mahalanobis(span=5).fit(data, modalities=["image"], group="source")
    with pytest.raises(InputError, match="were fitted with different groups"):
        scores(detectors, data)
