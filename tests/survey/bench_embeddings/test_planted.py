"""Planted stores are what they say, and the benchmark counts what is found in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fmbdask.errors import InputError
from fmbdask.survey.bench.embeddings import report
from fmbdask.survey.bench.embeddings.harder import JUDGES, SMALLEST, TUNING, _shares
from fmbdask.survey.bench.embeddings.judge import FAMILIES, Judged, judge, recall_of
from fmbdask.survey.bench.embeddings.planted import CLASSES, Planted
from fmbdask.survey.bench.embeddings.report import embeddings_files, tables_of


@pytest.mark.parametrize("family", FAMILIES)
def test_stores_depend_on_the_seed_alone(family: str) -> None:
    one, other, third = (FAMILIES[family](s, objects=800, width=64) for s in (1, 1, 2))
    for name in ("image", "spectrum", "truth"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.image.dtype == np.float32
    assert one.image.shape == one.spectrum.shape == (800, 64)
    assert np.isfinite(one.image).all()
    assert (one.image != third.image).any()
    assert np.bincount(one.truth).tolist() == [790, 2, 2, 2, 2, 2]
    assert not FAMILIES[family](1, objects=800, width=64, severity=0.0).truth.any()


def test_judging_families_are_not_those_of_tuning() -> None:
    assert not set(JUDGES) & set(TUNING)
    assert len(TUNING) >= 2


def test_the_smallest_clusters_are_small() -> None:
    shares = _shares(9, np.random.default_rng(0))
    assert shares.sum() == pytest.approx(1.0)
    assert np.sort(shares)[:2].tolist() == [SMALLEST, SMALLEST]


def test_recall_by_hand() -> None:
    truth = np.array([0, 1, 1, 5, 0, 5], np.int8)
    p = np.array([0.1, 0.2, 0.9, 0.01, 0.8, 0.3])
    assert recall_of(p, truth) == {CLASSES[0]: 0.5, CLASSES[4]: 1.0}


def test_one_small_store_is_judged() -> None:
    one = judge("planted", 3, objects=1200, width=64, alignment="ridge")
    assert one.planted == 15
    assert 0 <= one.true <= one.listed
    assert np.mean(list(one.recall.values())) > 0.6
    assert {"alignment", "contrast_image", "cosine"} <= set(one.each)
    assert one.fit_s > 0


def made_up(family: str, seed: int, severity: float, listed: int, true: int) -> Judged:
    planted = 250 if severity else 0
    recall = dict.fromkeys(CLASSES, seed / 10000) if severity else {}
    return Judged(
        family, seed, severity, 20_000, 8, "mlp", planted, recall, {"span": recall}, listed, true, 30.0, 4.0
    )


def test_tables_by_hand() -> None:
    tables = tables_of(
        [
            made_up("mixed", 7000, 0.5, 200, 190),
            made_up("mixed", 8000, 0.5, 100, 100),
            made_up("mixed", 7000, 0, 3, 0),
        ]
    )
    lists = tables["lists"][1]
    np.testing.assert_allclose(lists["false"], [0.05, 0.0, 1.0])
    np.testing.assert_allclose(lists["found"], [0.76, 0.4, 0.0])
    summary = tables["summary"][1].set_index("")
    assert summary.loc["mean", "swapped"] == pytest.approx(0.75)
    assert summary.loc["lowest", "swapped"] == pytest.approx(0.7)
    assert summary.loc["highest", "false"] == pytest.approx(0.05)
    assert summary.loc["mean", "seeds"] == 2
    assert tables["times"][1]["score [CPU ms an object]"].tolist() == [0.2]


def test_a_stopped_benchmark_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int, float]] = []

    def instead(**case: Any) -> Judged:
        calls.append((case["family"], case["seed"], case["severity"]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return made_up(case["family"], case["seed"], case["severity"], 10, 9)

    monkeypatch.setattr(report, "judge", instead)
    with pytest.raises(KeyboardInterrupt):
        embeddings_files(tmp_path, quick=False, seeds=2)
    text, paths = embeddings_files(tmp_path, quick=False, seeds=2)
    assert len(calls) == 8  # 3 planted, 2 harder, 2 without, one of them twice
    assert "mixed" in text
    assert {p.name for p in paths} >= {"embeddings.txt", "embeddings_recall.csv", "judged.jsonl"}
    embeddings_files(tmp_path, quick=False, seeds=2)
    assert len(calls) == 8
    with pytest.raises(InputError, match="no alignment by magic"):
        embeddings_files(tmp_path, quick=False, seeds=2, alignment="magic")


def test_stores_hold_two_modalities() -> None:
    made = Planted(np.zeros((2, 3), np.float32), np.ones((2, 4), np.float32), np.zeros(2, np.int8))
    from fmbdask.survey.bench.embeddings.judge import store_of

    store = store_of(made)
    assert store["image"].shape == (2, 3)
    assert store["spectrum"].shape == (2, 4)
