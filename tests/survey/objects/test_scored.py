"""Scores of several stores put together, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fmbdask.anomaly.calibration import Calibration
from fmbdask.anomaly.cosine import Cosine
from fmbdask.errors import InputError
from fmbdask.survey.objects.scored import gather, write_scores

NAME = "cosine"
CALIBRATED = Cosine()
CALIBRATED.calibration = Calibration.fit(np.random.default_rng(1).normal(0, 5, 500))


def written(path: Path, ids: np.ndarray) -> Path:
    """Scores of objects with these ids, the last of which has none."""
    values = np.arange(len(ids), dtype=np.float64)
    values[-1] = np.nan
    assert write_scores(path, iter([(ids, {NAME: values})]), {NAME: CALIBRATED}) == {NAME: 1}
    return path


def test_stores_follow_each_other(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"{n}.parquet", np.arange(n)) for n in (3, 5)]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    found = gather(paths, scratch)
    assert len(found) == 8
    assert found.ids.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    known = CALIBRATED.calibrated().p_value(np.array([0.0, 1.0, np.nan]))
    np.testing.assert_array_equal(found.p(NAME)[:3], known)


def test_numbers_and_text_do_not_mix(tmp_path: Path) -> None:
    paths = [written(tmp_path / "a.parquet", np.arange(3)), written(tmp_path / "b.parquet", np.array(["x"]))]
    with pytest.raises(InputError, match="numbers in one store and text in another"):
        gather(paths, tmp_path)


def test_damaged_scores(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", np.arange(3))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="score the store again"):
        gather([path], tmp_path)
