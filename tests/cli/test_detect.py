"""`fmbdask detect` and `fmbdask train`, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from fmbdask.cli.app import main
from fmbdask.survey.objects.settings import DetectConfig

from ..survey.objects.made import store


def status(*words: str | Path) -> int | str | None:
    """Exit status of a call."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return caught.value.code


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


def test_a_store_by_the_name_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    store(tmp_path / "stores" / "x.zarr", 300, missing=0.1)
    Path("paths.yaml").write_text("aion: stores/x.zarr\n")
    assert status("detect", "cosine", "--model", "aion") == 0
    told = capsys.readouterr()
    assert "objects of x.zarr have no usable vector of spectrum: left out" in told.err
    assert told.out.splitlines() == [
        "runs/outliers/models/aion",
        "runs/outliers/cosine_scores_aion.csv",
        "runs/outliers/rates_cosine_aion.csv",
    ]
    assert Path("runs/outliers/cosine_scores_aion.parquet").is_file()
    assert status("detect", "cosine", "--model", "aion") == 1
    assert "already there: give another folder, or --overwrite" in said(capsys)
    assert status("detect", "cosine", "--model", "aion", "--overwrite") == 0
    assert "models of runs/outliers/models/aion are used: cosine" in said(capsys)
    assert status("detect", "cosine", "--model", "astropt") == 1
    assert "names a place, but" in said(capsys)


def test_what_is_given_by_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fmbdask.store.writer import RampWriter

    ramp = tmp_path / "ramp.fits"
    with RampWriter(ramp, (1, 6, 40, 50), np.uint16, {}, file_format="fits") as writer:
        writer.write_rows(0, 0, np.zeros((6, 40, 50), np.uint16))
    for command in ("outliers", "cosine", "multimodal"):
        assert status("detect", command, ramp, "-o", tmp_path / "out") == 1
        assert "use `fmbdask ramps detect" in said(capsys)
    assert status("detect", "cosine", tmp_path / "nothing.pt", "-o", tmp_path / "out") == 1
    assert "check the path or the name" in said(capsys)
    assert status("detect", "multimodal", "-o", tmp_path / "out") == 1
    assert "no store is named: give one, a .pt file, a table, or --model NAME" in said(capsys)
    assert status("detect", "cosine", "--colour", "red") == 2
    assert status("detect", "multimodal", tmp_path, "--fusion", "mean") == 2
    assert not (tmp_path / "out").exists()


def test_training_without_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = store(tmp_path / "x.zarr", 400)
    models = tmp_path / "models"
    assert status("train", "mahalanobis", path, "-o", models, "--span", "4", "--robust") == 0
    assert status("train", "residual", path, "-o", models, "--span", "3", "--modality", "image") == 0
    capsys.readouterr()
    assert sorted(p.name for p in models.iterdir()) == [
        "residual_image", "span_image", "span_spectrum", "store.json",
    ]  # fmt: skip
    assert status("train", "residual", path, "-o", models, "--modality", "radio") == 1
    assert "has no modality radio: it has image, spectrum" in said(capsys)
    assert status("detect", "score", path, "--models", models, "-o", tmp_path / "out") == 0
    table = pd.read_csv(tmp_path / "out" / "scores_aion.csv")
    assert table.groupby("detector").size().to_dict() == {
        "residual_image": 400, "span_image": 400, "span_spectrum": 400,
    }  # fmt: skip


def test_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.normal(size=(300, 3)), columns=["volt", "amp", "rpm"])
    frame["anomaly"] = (np.arange(300) % 30 == 0).astype(int)
    table = tmp_path / "table.csv"
    frame.to_csv(table, index=False)
    models = tmp_path / "models"
    assert status("train", "isolation_forest", table, "-o", models, "--trees", "5", "--labels", "label") == 0
    assert capsys.readouterr().out.split() == [str(models / "isolation_forest_features")]
    words = ("detect", "ensemble", table, "-o", tmp_path / "out", "--labels", "label")
    weights = ("--weights", "isolation_forest=1,mahalanobis=3")
    assert status(*words, *weights) == 0
    found = pd.read_csv(tmp_path / "out" / "ensemble_scores_table.csv")
    assert len(found) == 300
    assert list(found)[-4::2] == ["isolation_forest_score", "mahalanobis_score"]
    assert status(*words, "--members", "mahalanobis,neighbours", "--overwrite") == 0  # trained again
    assert "neighbours_score" in pd.read_csv(tmp_path / "out" / "ensemble_scores_table.csv")
    capsys.readouterr()
    for extra, sentence in (
        (("--members", "forest"), "forest cannot be a member of an ensemble: known are autoencoder"),
        (("--weights", "mahalanobis=0"), "all weights are 0"),
        (("--labels", "anomaly"), "has no column anomaly to take labels from: it has object_id, label"),
        (("--members", "mahalanobis,residual"), "was trained with members mahalanobis, neighbours, not"),
    ):
        assert status(*words, *extra) == 1
        assert sentence in said(capsys)
    assert status(*words, "--weights", "mahalanobis") == 2
    assert status("train", "autoencoder", table, "-o", models, "--layers", "8,x") == 2
    assert "--layers takes widths between commas, 64,32 say, not 8,x" in said(capsys)
    other = tmp_path / "other.csv"
    frame.rename(columns={"amp": "torque"}).to_csv(other, index=False)
    trained = ("--models", tmp_path / "out" / "models" / "table")
    assert status("detect", "ensemble", other, "-o", tmp_path / "other", *trained) == 1
    assert "have torque as feature 2, the ensemble model was fitted to amp: give the store" in said(capsys)
    text = tmp_path / "text.csv"
    text.write_text("name,colour\n" + "".join(f"n{k},red\n" for k in range(300)))
    assert status("detect", "ensemble", text, "-o", tmp_path / "out") == 1
    assert "has no column of numbers that can be a feature" in said(capsys)


def test_as_a_survey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = store(tmp_path / "x.zarr", 300, missing=0.1)
    words = ("detect", "cosine", path, "-o")
    assert status(*words, tmp_path / "here") == 0
    assert status(*words, tmp_path / "there", "--cluster", "threads", "--workers", "1") == 0
    assert "have no usable vector of spectrum: left out" in said(capsys)
    name = "cosine_scores_aion.csv"
    assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert (tmp_path / "there" / "survey" / "cosine-aion" / "report.html").is_file()
    models = [tmp_path / where / "models" / "aion" / "cosine" for where in ("here", "there")]
    assert len({(m / "arrays.safetensors").read_bytes() for m in models}) == 1


def test_the_template_names_every_setting() -> None:
    template = Path(__file__).resolve().parents[2] / "configs" / "embeddings" / "anomalies.yaml"
    values = yaml.safe_load(template.read_text())
    assert set(values) == set(DetectConfig.model_fields)
    assert DetectConfig(**values) == DetectConfig()
