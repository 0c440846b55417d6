"""Training on a set: what it leaves, the same bits after a kill, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from fmbdask.checkpoints import save_step
from fmbdask.cli.app import app
from fmbdask.errors import InputError, OutputExistsError
from fmbdask.ramps.network.evidence import (
    EDGE,
    READS,
    Confidence,
    average_precision,
    best_f1,
    known_odds,
    odds,
)
from fmbdask.survey.patches.data import Judged, PatchData, rows_of
from fmbdask.survey.patches.learning import train_unet_on_ramps
from fmbdask.survey.patches.making import make_set

from .made import CONFIG, config, made_here

torch = pytest.importorskip("torch")

from fmbdask.models import segmenting  # noqa: E402
from fmbdask.models.handles import OpenNetwork, load_network  # noqa: E402
from fmbdask.models.pth import from_pth  # noqa: E402
from fmbdask.models.voxels import region_odds  # noqa: E402


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a training by the command."""
    folder = tmp_path_factory.mktemp("trained")
    made_here(config(), folder / "patches")
    (folder / "unet.yaml").write_text(yaml.safe_dump(CONFIG))
    words = [
        "train",
        "unet",
        str(folder / "unet.yaml"),
        "-o",
        str(folder),
        "--pth",
        "--learning-rate",
        "0.01",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "best after epoch" in result.output
    assert str(folder / "model") in result.output
    return folder


def test_a_training_leaves_a_model_its_history_and_curves(trained: Path) -> None:
    history = json.loads((trained / "training_history_unet3d.json").read_text())
    assert len(history["train_loss"]) == len(history["val_score"]) == 2
    assert history["train_loss"][1] < history["train_loss"][0]
    assert (trained / "training_curves_unet3d.png").read_bytes().startswith(b"\x89PNG")
    saved = load_network(trained / "model")
    assert saved.architecture.widths == (4, 8)
    assert saved.architecture.classes == ("background", "cosmic_ray", "telegraph_noise", "snowball")
    assert saved.normalisation["channels"] == ["step_significance", "level", "valid"]
    assert saved.provenance["configuration"]["training"]["learning_rate"] == 0.01
    assert saved.provenance["patches"]["validation"]["proposal"] == history["confidence"]["proposals"]
    exported = from_pth((trained / "best_model_unet3d.pth").read_bytes(), "exported")
    for name, values in saved.network.state_dict().items():
        assert torch.equal(values, exported.network.state_dict()[name])


def test_the_score_is_that_of_proposals(trained: Path) -> None:
    store = make_set(config(), trained / "patches")
    judged = Judged.of(store)
    assert judged.usable
    model = OpenNetwork(load_network(trained / "model"), device="cpu")
    found = judged.evidence(model)
    assert found.shape == judged.real.shape
    rows = np.flatnonzero((store.column("real") >= 0) & (store.column("split") == 1))
    for place in (0, len(rows) - 1):  # as it is defined
        inputs = torch.from_numpy(store.row("values", rows[place]).astype(np.float32))[None]
        said = torch.softmax(model.network(inputs), 1)[0, 1].double().numpy()
        read = int(store.row("read", rows[place]))
        own = said[read : read + 8][:, store.row("group", rows[place])].clip(EDGE, 1 - EDGE)
        ratio = np.exp(np.log(own / (1 - own)).mean())
        assert found[place] == pytest.approx(ratio / (1 + ratio), abs=1e-5)
    history = json.loads((trained / "training_history_unet3d.json").read_text())
    assert history["event_f1"] == max(history["val_score"])
    assert history["event_f1"] == best_f1(odds(found, judged.score), judged.real)[0]
    best = history["val_average_precision"][history["best"] - 1]
    assert history["average_precision"] == best == average_precision(odds(found, judged.score), judged.real)
    assert len(history["val_average_precision"]) == 2
    fitted = Confidence.fit(found, judged.score, judged.real)
    assert Confidence.from_dict(model.provenance["confidence"])(found, judged.score) == pytest.approx(
        fitted(found, judged.score), abs=1e-6
    )


@pytest.mark.parametrize("times", [1.0, 60.0])
def test_a_training_pools_as_proposals_are_judged(trained: Path, times: float) -> None:
    store = make_set(config(), trained / "patches")
    judged = Judged.of(store)
    saved = load_network(trained / "model")
    with torch.no_grad():
        for values in saved.network.head.parameters():
            values.mul_(times)  # so sure that odds are cut off
    model = OpenNetwork(saved, device="cpu")
    found = judged.evidence(model)
    patches = [judged.data[k] for k in range(len(judged.data))]
    inputs, regions = (torch.from_numpy(np.stack([one[k] for one in patches])) for k in (0, 3))
    with torch.inference_mode():
        logits = torch.cat([model.network(part) for part in inputs.split(8)])
        said = region_odds(logits, regions, 1).numpy()
    assert np.log(found / (1 - found)) == pytest.approx(said, abs=2e-3)
    assert (np.abs(logits.numpy()).max() > 20) == (times > 1)
    assert [bool(one[4]) for one in patches] == judged.real.tolist()
    assert [one[5] for one in patches] == known_odds(judged.score).tolist()
    reads = regions.any(-1).any(-1).sum(1).numpy()
    assert reads.tolist() == np.minimum(READS, inputs.shape[2] - judged.read).tolist()
    others = PatchData(store, np.flatnonzero(store.column("real") < 0))
    assert others[0][2:] == (None, None, False, 0.0)


def test_a_training_that_was_killed_ends_with_the_same_bits(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(training=CONFIG["training"] | {"learning_rate": 0.01})
    patches = trained / "patches" / "catalog" / "patches.zarr"

    def killed(*arguments: Any) -> Any:
        save_step(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(segmenting, "save_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train_unet_on_ramps(settings, out=tmp_path, patches=patches)
    monkeypatch.undo()
    with pytest.raises(OutputExistsError, match="go on with it by --resume"):
        train_unet_on_ramps(settings, out=tmp_path, patches=patches)
    other = config(training=CONFIG["training"] | {"learning_rate": 0.02})
    with pytest.raises(InputError, match="other settings or patches"):
        train_unet_on_ramps(other, out=tmp_path, patches=patches, resume=True)
    made = train_unet_on_ramps(settings, out=tmp_path, patches=patches, resume=True)
    assert made is not None
    assert made.pth is None
    name = "arrays.safetensors"
    assert (made.model / name).read_bytes() == (trained / "model" / name).read_bytes()
    one, other = (json.loads((f / made.history.name).read_text()) for f in (trained, tmp_path))
    assert one | {"seconds": 0} == other | {"seconds": 0}


def test_what_is_there_is_not_replaced(trained: Path) -> None:
    with pytest.raises(OutputExistsError, match="--overwrite"):
        train_unet_on_ramps(config(), out=trained)


def test_patches_beyond_the_memory_are_read_one_by_one(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_set(config(), trained / "patches")
    rows = rows_of(store, "train")[3::4]
    held = PatchData(store, rows)
    monkeypatch.setattr("fmbdask.survey.patches.data.HELD", 1000)
    read = PatchData(store, rows)
    for number in (0, 5, len(rows) - 1):
        for one, other in zip(held[number], read[number], strict=True):
            assert type(one) is type(other)
            assert np.array_equal(one, other)
        assert held[number][0].dtype == read[number][0].dtype == np.float32


def test_a_set_without_proposals_is_scored_by_classes(tmp_path: Path) -> None:
    patches = {"grid": {"patch_frames": 16, "patch_size": [24, 24], "overlap": 0}}
    settings = config(patches=patches, training=CONFIG["training"] | {"epochs": 1})
    made_here(settings, tmp_path / "patches")
    made = train_unet_on_ramps(settings, out=tmp_path)
    assert made is not None
    history = json.loads(made.history.read_text())
    assert history["score"] == "mean_iou"
    assert "val_average_precision" not in history
    assert "confidence" not in load_network(made.model).provenance


def test_several_processes_want_a_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fmbdask.errors import ConfigError

    monkeypatch.setattr("fmbdask.models.parallel.join", lambda: True)
    monkeypatch.setattr("torch.distributed.destroy_process_group", lambda: None)
    with pytest.raises(ConfigError, match="make it by --only-set"):
        train_unet_on_ramps(config(), out=tmp_path)
