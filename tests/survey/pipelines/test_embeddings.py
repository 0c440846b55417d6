"""Surveys of embedding stores: the same bits for any order, workers and interruption; failures stay alone."""

from __future__ import annotations

import filecmp
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from fmbdask.anomaly import Ensemble, class_of
from fmbdask.anomaly.mahalanobis import Mahalanobis
from fmbdask.anomaly.search import CrossModalSearch
from fmbdask.errors import ChangedError, ConfigError, RefusedError
from fmbdask.store.embeddings import open_embeddings
from fmbdask.survey.config import SurveyConfig
from fmbdask.survey.objects.inline import run_inline
from fmbdask.survey.pipelines import make
from fmbdask.survey.pipelines.embeddings import EmbeddingPipeline
from fmbdask.survey.planning.calibrate import Calibration
from fmbdask.survey.planning.plan import plan
from fmbdask.survey.reporting.failures import failures
from fmbdask.survey.running.run import resume, run

from ..objects.made import FAMILIES, MEMBERS, QUICK, store
from .runner import run_all

pytest.importorskip("torch")
pytest.importorskip("zuko")
COMMAND = [sys.executable, "-c", "from fmbdask.cli.app import main; main()", "survey"]
#: Longest time of one process of a test [s].
PATIENCE = 600.0
#: More than one span.
OBJECTS = 66_000
WIDTHS = {"image": 3, "spectrum": 3}
OPTIONS: dict[str, Any] = {"find": "multimodal", "fusion": "geo", **QUICK}
ENSEMBLE: dict[str, Any] = {
    "find": "ensemble", "modality": ["image"], "members": MEMBERS, "detectors": FAMILIES, "labels": "label",
}  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two spans, some objects of which are labelled anomalous."""
    path = tmp_path_factory.mktemp("large") / "aion.zarr"
    return store(path, OBJECTS, WIDTHS, missing=0.01, columns={"label": np.arange(OBJECTS) // 5 % 100 // 99})


@pytest.fixture(scope="module")
def whole(large: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lists of that store, made in this process."""
    return run_inline(config([large]), tmp_path_factory.mktemp("whole"), threads=2).lists


def config(stores: list[Path], output: Path | None = None, **options: Any) -> SurveyConfig:
    return SurveyConfig(
        pipeline="embeddings", inputs=tuple(map(str, stores)), options=OPTIONS | options,
        output=None if output is None else str(output), memory="3GB", span_seconds=0.2,
    )  # fmt: skip


def same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same files."""
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert names == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    return all(filecmp.cmp(one / name, other / name, shallow=False) for name in names)


@pytest.mark.parametrize("find", ["multimodal", "ensemble"])
def test_killed_and_resumed(find: str, large: Path, whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    options = ENSEMBLE if find == "ensemble" else {}
    plan(config([large], path, **options), cluster="threads", workers=2, calibration=Calibration()).save()
    process = subprocess.Popen([*COMMAND, "resume", str(path), "--cluster", "threads", "--workers", "2"])
    until = time.monotonic() + PATIENCE
    models = path / "products" / "learn.run"
    while not models.exists() and process.poll() is None:  # trained, and about to score
        assert time.monotonic() < until
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = {p: p.stat().st_mtime_ns for p in models.rglob("*.safetensors")}
    assert before
    assert resume(path, cluster="threads", workers=1).complete
    assert {p: p.stat().st_mtime_ns for p in models.rglob("*.safetensors")} == before  # not trained again
    if find == "ensemble":
        whole = run_inline(config([large], **options), tmp_path / "here", threads=2).lists
        own = Ensemble({kind: class_of(kind)(**FAMILIES.get(kind, {})) for kind in MEMBERS})
        data = open_embeddings(large)
        own.fit(data, modalities=["image"], labels="label")
        listed = pd.read_parquet(whole / "ensemble_scores_aion.parquet").set_index("object_id")
        np.testing.assert_array_equal(listed.ensemble_score[data["object_id"].values], own.score(data))
    assert same(path / "catalog", whole)


def test_any_order_of_regions(large: Path, whole: Path, tmp_path: Path) -> None:
    settings = config([large])
    pipeline = make(settings)
    items = pipeline.items(settings.inputs, 0)
    assert items[0].regions == (2, 2)
    items = [replace(item, name=Path(item.path).stem) for item in items]
    run_all(pipeline, items, tmp_path, seed=3)
    assert same(tmp_path / "catalog", whole)


def test_all_scores_are_those_of_the_python_interface(tmp_path: Path) -> None:
    path = store(tmp_path / "aion.zarr", 1500, {"image": 8, "spectrum": 6}, missing=0.02)
    options = {"fusion": "pvalue", "alignment": "ridge", "fdr": 0.5, "top_k": 30}
    made = run_inline(config([path], **options), tmp_path / "work")
    own = CrossModalSearch(alignment="ridge", cosine=False).fit(open_embeddings(path))
    table = own.score(open_embeddings(path)).to_dataframe().set_index("object_id")
    scores = pd.read_parquet(tmp_path / "work" / "score" / "aion" / "scores.parquet").set_index("object_id")
    for name in own.detectors:
        np.testing.assert_array_equal(scores[name], table[f"score_{name}"])
        np.testing.assert_array_equal(scores[f"{name}_p"], table[f"p_{name}"])
    ranked = pd.read_csv(made.lists / "multimodal" / "ranked" / "top30_aion_pvalue.csv").set_index(
        "object_id"
    )
    np.testing.assert_allclose(ranked.p_value, table.loc[ranked.index, "p_value"], rtol=1e-12)
    assert ranked.reason.tolist() == table.loc[ranked.index, "reason"].tolist()
    assert ranked.p_value.is_monotonic_increasing
    assert (ranked.family >= 1).all()
    for near in ranked.nearest_image:
        ids = [int(word) for word in near.split()]
        assert len(ids) == 3
        assert (table.loc[ids, "p_value"] > 0.1).all()


def test_a_plan_measures_spans_of_any_order(tmp_path: Path) -> None:
    path = store(tmp_path / "aion.zarr", 3 * 65_536 + 100, {"image": 2, "spectrum": 2})
    made = plan(config([path], tmp_path / "run", find="cosine"), cluster="threads", workers=1)
    assert made.calibration.problems == ()
    assert {sample.stage for sample in made.calibration.samples} == {0, 1}


def test_moments_once_more(tmp_path: Path) -> None:
    path = store(tmp_path / "aion.zarr", 5000, {"image": 4, "spectrum": 4})
    settings = config([path], fusion="pvalue", alignment="ridge", robust=True)
    assert [s.name for s in make(settings).stages] == ["learn", "reweigh1", "score"]
    run_inline(settings, tmp_path / "work")
    own = Mahalanobis(span=None, robust=True).fit(open_embeddings(path), modalities=["image"])
    scores = pd.read_parquet(tmp_path / "work" / "score" / "aion" / "scores.parquet")
    np.testing.assert_array_equal(scores["full_image"], own.score(open_embeddings(path)))


def test_broken_stores_stay_alone(tmp_path: Path) -> None:
    good = [store(tmp_path / f"{n}.zarr", 300, seed=n) for n in (0, 1)]
    broken = store(tmp_path / "broken.zarr", 300)
    (broken / "image" / "c" / "0" / "0").write_bytes(b"short")
    (tmp_path / "nothing.zarr").mkdir()
    paths = [good[0], broken, tmp_path / "nothing.zarr", good[1]]
    made = plan(config(paths, tmp_path / "run", find="cosine"), cluster="threads", workers=1)
    for sample in made.calibration.samples:  # declared is more than measured
        declared = [
            stage.memory(item).largest for stage in make(made.config).stages for item in made.items[:1]
        ]
        assert sample.memory <= max(declared)
    done = run(made, cluster="threads", workers=1)
    assert (done.done, done.failed, done.complete) == (2, 2, True)
    said = failures(tmp_path / "run")
    assert said["error"].str.contains("truncated or damaged: write the store again").any()
    assert said["error"].str.contains("is no embedding store").any()
    table = pd.read_csv(tmp_path / "run" / "catalog" / "cosine_scores_aion.csv")
    assert table.groupby("store").size().to_dict() == {0: 300, 1: 300}


def test_a_store_that_changed_is_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "a.zarr", 300)
    plan(config([path], tmp_path / "run", find="cosine"), cluster="threads", calibration=Calibration()).save()
    shutil.rmtree(path)
    store(path, 310, seed=5)
    with pytest.raises(ChangedError, match=r"1 change since .* began: .*a.zarr"):
        resume(tmp_path / "run", cluster="threads", workers=1)


def test_stores_that_do_not_go_together(tmp_path: Path) -> None:
    a = store(tmp_path / "a.zarr", 300)
    b = store(tmp_path / "b.zarr", 300, {"image": 7, "spectrum": 6})
    c = store(tmp_path / "c.zarr", 300, model="astropt")
    known = Calibration()
    with pytest.raises(RefusedError, match=r"image have 7 features in .*b.zarr, 6 in .*a.zarr"):
        plan(config([a, b], tmp_path / "run"), cluster="threads", calibration=known).check()
    with pytest.raises(RefusedError, match=r"have model astropt in .*c.zarr and aion in"):
        plan(config([a, c], tmp_path / "run"), cluster="threads", calibration=known).check()


def test_options(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"options.layers of the embeddings pipeline cannot be used .*n_layers"
    ):
        EmbeddingPipeline(SurveyConfig(pipeline="embeddings", options={"layers": 3}))
    template = Path(__file__).resolve().parents[3] / "configs" / "survey" / "embeddings.yaml"
    settings = SurveyConfig.model_validate(yaml.safe_load(template.read_text()))
    assert EmbeddingPipeline(settings).search.find == "multimodal"
