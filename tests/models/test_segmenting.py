"""Training of U-Nets: they learn, repeat themselves to the bit, and go on after they were killed."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fmbdask.checkpoints import ARRAYS, load_last_step, save_step  # noqa: E402
from fmbdask.errors import ConfigError, InputError  # noqa: E402
from fmbdask.models.feeding import Order, batches_of  # noqa: E402
from fmbdask.models.handles import OpenNetwork, Saved, weights_of  # noqa: E402
from fmbdask.models.patches import segment  # noqa: E402
from fmbdask.models.segmenting import SegmentTraining, Trained, train_unet  # noqa: E402
from fmbdask.models.unet import Architecture  # noqa: E402
from fmbdask.models.voxels import region_odds  # noqa: E402

from .made import Proposed, Steps  # noqa: E402

ARCHITECTURE = Architecture(classes=("background", "step"), widths=(4, 8))
SHORT = SegmentTraining(epochs=3, batch=4, precision="float32", patience=9)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(options: SegmentTraining = SHORT, **more: Any) -> Trained:
    return train_unet(ARCHITECTURE, Steps(12, 1), Steps(5, 2), options, device="cpu", **more)


def same(one: Trained, other: Trained) -> bool:
    a, b = weights_of(one.network), weights_of(other.network)
    told = [{k: v for k, v in each.history.items() if k != "seconds"} for each in (one, other)]
    return told[0] == told[1] and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_learns_what_a_step_is(precision: str) -> None:
    options = SegmentTraining(epochs=8, batch=2, precision=precision, learning_rate=3e-2, dice=0.5)
    told: list[tuple[int, int, str]] = []
    found = train_unet(
        ARCHITECTURE, Steps(40, 1), Steps(8, 2), options, device="cpu", progress=lambda *now: told.append(now)
    )
    past = json.loads(json.dumps(found.history))
    assert past["train_loss"][-1] < 0.5 * past["train_loss"][0]
    assert past["val_score"][past["best"] - 1] == max(past["val_score"]) > 0.6
    assert past["val_iou"]["step"] == past["val_score"]
    assert past["val_accuracy"][-1] > 0.95
    assert past["train_accuracy"][-1] > 0.9
    assert {len(past[k]) for k in past if k not in ("best", "val_iou")} == {8}
    assert [now[:2] for now in told] == [(k + 1, 160) for k in range(160)]
    inputs, classes = Steps(1, 3)[0]
    labels = segment(OpenNetwork(Saved(found.network), device="cpu"), inputs).argmax(axis=0)
    assert (labels == classes).mean() > 0.95


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_network_learns_what_is_proposed_of_regions(precision: str) -> None:
    options = SegmentTraining(epochs=4, batch=6, precision=precision, learning_rate=2e-2)
    asked = Proposed(30, 2)
    places = [k for k in range(30) if k % 3 < 2]
    rows = [asked[k] for k in places]
    inputs, regions = (torch.from_numpy(np.stack([row[k] for row in rows])) for k in (0, 3))

    def odds(found: Trained) -> tuple[list[float], list[float]]:
        with torch.inference_mode():
            said = region_odds(found.network(inputs), regions, 1).tolist()
        return [o for o, row in zip(said, rows, strict=True) if row[4]], [
            o for o, row in zip(said, rows, strict=True) if not row[4]
        ]

    found = train_unet(ARCHITECTURE, Proposed(60, 1), asked, options, device="cpu", score=lambda network: 1.0)
    past = found.history
    assert past["train_loss"][-1] < 0.5 * past["train_loss"][0]
    assert past["val_loss"][-1] < 0.5 * past["train_loss"][0]
    real, other = odds(train_unet(ARCHITECTURE, Proposed(60, 1), asked, options, device="cpu"))
    assert min(real) > 0 > max(other)
    options = replace(options, proposals=0.0, epochs=1)
    found = train_unet(ARCHITECTURE, Proposed(60, 1), asked, options, device="cpu")
    assert found.history["train_loss"] == found.history["val_loss"] == [0.0]  # no voxel counts


def test_resumed_proposals_come_to_the_same_bits(tmp_path: Path) -> None:
    def run(epochs: int, **more: Any) -> Trained:
        options = replace(SHORT, epochs=epochs, schedule="constant")
        return train_unet(ARCHITECTURE, Mixed(12, 1), Mixed(5, 2), options, device="cpu", score=told, **more)

    def told(network: OpenNetwork) -> dict[str, float]:
        size = float(sum(np.abs(v).sum() for v in weights_of(network.network).values()))
        return {"score": size, "area": math.nan if size < 0 else 2 * size}

    run(1, folder=tmp_path)
    state = load_last_step(tmp_path, "unet3d-training")
    assert state is not None
    settings = state.meta["settings"]
    longer = settings | {"options": settings["options"] | {"epochs": 3}}
    save_step(tmp_path, 1, replace(state, meta=dict(state.meta) | {"settings": longer}))
    resumed = run(3, folder=tmp_path, resume=True)
    assert same(resumed, run(3))
    assert resumed.history["val_area"] == [2 * one for one in resumed.history["val_score"]]
    assert len(resumed.history["val_area"]) == 3


def test_the_same_seed_gives_the_same_bits() -> None:
    assert same(trained(seed=3), trained(seed=3))
    assert not same(trained(seed=3), trained(seed=4))


KILLED = """
import os, signal, sys
import torch
from tests.models import test_segmenting as made
torch.set_num_threads(1)

class Fatal(made.Steps):
    asked = 0
    def __getitem__(self, number):
        self.asked += 1
        if self.asked == 12 + 12 * 2 + 5:  # counted once, read twice: in the middle of the third epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(number)

data = Fatal(12, 1), made.Steps(5, 2)
made.train_unet(made.ARCHITECTURE, *data, made.SHORT, device="cpu", folder=sys.argv[1])
"""


def test_a_training_that_was_killed_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "run")], cwd=Path(__file__).parents[2]
    )
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step-000002"]
    steps: list[int] = []
    resumed = trained(folder=tmp_path / "run", resume=True, progress=lambda now, *_: steps.append(now))
    assert steps == [7, 8, 9]  # the third epoch alone
    assert same(resumed, trained())
    assert same(resumed, trained(folder=tmp_path / "run", resume=True))  # it had ended


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    trained(SegmentTraining(epochs=1, batch=4), folder=tmp_path)
    for options, seed in ((SHORT, 0), (SegmentTraining(epochs=1, batch=4), 1)):
        with pytest.raises(
            InputError, match="the training to resume has another architecture, other settings"
        ):
            trained(options, seed=seed, folder=tmp_path, resume=True)
    assert trained(folder=tmp_path).history["best"]  # begun anew
    (tmp_path / "step-000003" / ARRAYS).write_bytes(b"")
    with pytest.raises(InputError, match="is damaged"):
        trained(folder=tmp_path, resume=True)


def test_a_state_without_its_arrays_is_refused(tmp_path: Path) -> None:
    trained(SegmentTraining(epochs=1, batch=4), folder=tmp_path)
    state = load_last_step(tmp_path, "unet3d-training")
    assert state is not None
    save_step(tmp_path, 2, replace(state, arrays={}))
    with pytest.raises(InputError, match="the training to resume is damaged"):
        trained(SegmentTraining(epochs=1, batch=4), folder=tmp_path, resume=True)


class Inverted(Steps):
    """The classes the other way round: the more is learnt elsewhere, the larger is the loss here."""

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        inputs, classes = super().__getitem__(number)
        return inputs, 1 - classes


def test_the_epoch_of_the_best_score_is_kept_and_patience_ends_it() -> None:
    seen: list[dict[str, np.ndarray]] = []

    def score(network: OpenNetwork) -> float:
        seen.append(weights_of(network.network))
        return (0.1, math.nan, 0.7, 0.3, 0.2, 0.9)[len(seen) - 1]

    options = SegmentTraining(epochs=9, batch=4, patience=2, precision="float32")
    found = train_unet(ARCHITECTURE, Steps(12, 1), Inverted(5, 2), options, device="cpu", score=score)
    assert np.argmin(found.history["val_loss"]) < 3
    assert found.history["best"] == 3
    assert found.history["val_score"] == [0.1, None, 0.7, 0.3, 0.2]
    kept = OpenNetwork(Saved(found.network), device="cpu")
    assert all(np.array_equal(v, seen[2][k]) for k, v in weights_of(kept.network).items())


def test_it_goes_on_while_the_loss_falls() -> None:
    options = SegmentTraining(epochs=4, batch=4, patience=1, precision="float32")
    found = trained(options, score=lambda network: 0.0)
    assert found.history["val_loss"] == sorted(found.history["val_loss"], reverse=True)
    assert (found.history["best"], len(found.history["val_loss"])) == (1, 4)


def test_a_training_that_diverges_is_refused() -> None:
    with pytest.raises(InputError, match=r"the training diverged at a learning rate of 0\.003"):
        trained(score=lambda network: math.nan)


class Mixed(Steps):
    """Patches with classes, every second of which also proposes a region."""

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        inputs, classes = super().__getitem__(number)
        if number % 2:
            return inputs, classes
        region = np.zeros(self.shape, np.bool_)
        region[4:, 2 : 2 + number % 5, 3] = True
        return inputs, classes, None, region, number % 4 == 0


class Wrong(Steps):
    """Patches that are not what a network takes."""

    def __init__(self, how: str) -> None:
        super().__init__(4, 1)
        self.how = how

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        inputs, classes = super().__getitem__(number)
        return {
            "channels": (np.repeat(inputs, 2, 0), classes),
            "shape": (inputs, classes[1:]),
            "class": (inputs, classes + 2),
            "weight": (inputs, classes, np.ones((2, 2))),
            "region": (inputs, classes, None, np.ones((8, 8), np.bool_), True),
        }[self.how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("channels", r"patch 0 has inputs of shape \(2, 8, 8, 8\)"),
        ("shape", r"classes of shape \(7, 8, 8\): give \(1, time, y, x\)"),
        ("class", "patch 0 has voxels of class [23], and the network has classes 0 to 1"),
        ("weight", "patch 0 has inputs of shape"),
        ("region", "patch 0 has inputs of shape"),
    ],
)
def test_patches_that_are_none_are_refused(how: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        train_unet(ARCHITECTURE, Wrong(how), Steps(5, 2), SHORT, device="cpu")
    with pytest.raises(InputError, match=said):
        train_unet(ARCHITECTURE, Steps(4, 1), Wrong(how), SHORT, device="cpu")


def test_no_patches_and_settings_that_cannot_be() -> None:
    with pytest.raises(InputError, match="0 patches to train on and 5 to validate are too few"):
        train_unet(ARCHITECTURE, Steps(0, 1), Steps(5, 2), SHORT)
    for name, value in (("balance", 2.0), ("dice", -1.0), ("proposals", math.nan), ("batch", 0)):
        with pytest.raises(ConfigError, match=f"{name} of the training is"):
            SegmentTraining(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no class 2 to propose: give 0 to 1"):
        trained(proposed=2)


def test_each_epoch_has_all_patches_in_another_order() -> None:
    order = Order(20, 4, seed=1)
    epochs = [[n for numbers, _ in order.of_epoch(k) for n in numbers] for k in range(2)]
    assert [sorted(one) for one in epochs] == [list(range(20))] * 2
    assert epochs[0] != epochs[1]
    assert order.of_epoch(1) == Order(20, 4, seed=1).of_epoch(1)
    assert [len(numbers) for numbers, _ in order.of_validation(9)] == [4, 4, 1]


class Weighted(Mixed):
    """The third patch has weights."""

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        found = super().__getitem__(number)
        if number != 2:
            return found
        weight = np.random.default_rng(3).random(self.shape).astype(np.float32)
        return *found[:2], weight, *found[3:]


def test_all_of_a_patch_is_turned_together() -> None:
    data, steps = Weighted(4, 1), [([2, 1], 0), ([2, 1], 1), ([2, 1], 3)]
    device = torch.device("cpu")
    turned = list(batches_of(data, steps, ARCHITECTURE, device, flips=True))
    for batch, axes in zip(turned, ([], [-2], [-2, -1]), strict=True):
        assert batch.weight is not None
        assert batch.region is not None
        assert batch.real is not None
        found = batch.inputs, batch.classes, batch.weight, batch.region
        for one, wanted in zip(found, data[2], strict=False):
            assert torch.equal(one[0], torch.from_numpy(wanted).flip(axes))
        assert (batch.weight[1] == 1).all()  # what has none counts whole, and proposes nothing
        assert not batch.region[1].any()
        assert batch.real.tolist() == [0.0, 0.0]
    (alone,) = batches_of(data, [([0, 2], 1)], ARCHITECTURE, device)
    assert alone.real is not None
    assert alone.real.tolist() == [1.0, 0.0]
    (bare,) = batches_of(Steps(4, 1), [([2, 3], 1)], ARCHITECTURE, device)
    assert bare[2:] == (None, None, None, None)
    assert torch.equal(bare.inputs[0], torch.from_numpy(Steps(4, 1)[2][0]))  # not turned unless asked
