"""Processes that train in step end with the same weights, and learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fmbdask.errors import ConfigError, InputError  # noqa: E402
from fmbdask.models import feeding, parallel  # noqa: E402
from fmbdask.models.handles import OpenNetwork, load_network, save_network, weights_of  # noqa: E402
from fmbdask.models.segmenting import SegmentTraining, train_unet  # noqa: E402
from fmbdask.models.unet import Architecture  # noqa: E402

from .made import Proposed, Steps  # noqa: E402


class Both(Steps):
    """Patches with classes, and others that propose regions."""

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        return Proposed(self.count, self.seed)[number] if number % 2 else super().__getitem__(number)


def figures(network: OpenNetwork) -> dict[str, float]:
    """A score, and another figure."""
    assert parallel.rank_of() == 0
    return {"score": -float(np.abs(weights_of(network.network)["head.bias"]).sum()), "other": math.pi}


def together(folder: Path, resume: bool) -> None:
    """Train; each process keeps what it came to."""
    found = train_unet(
        Architecture(classes=("background", "step"), widths=(4, 8)), Both(25, 1), Both(5, 2),
        SegmentTraining(epochs=4, batch=4, learning_rate=3e-2, precision="float32", patience=9),
        device="cpu", folder=folder / "state", resume=resume, score=figures,
    )  # fmt: skip
    name = f"{parallel.rank_of()}{'-resumed' if resume else ''}"
    save_network(folder / name, found.network, provenance=found.history)


@pytest.mark.long
def test_two_processes_learn_in_step(tmp_path: Path) -> None:
    parallel.run_in_step(together, (tmp_path, False), 2)
    one, other = (load_network(tmp_path / name) for name in "01")
    first, second = weights_of(one.network), weights_of(other.network)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    past = one.provenance
    assert past["train_loss"] == other.provenance["train_loss"]
    assert past["val_score"] == other.provenance["val_score"]
    assert past["val_other"] == other.provenance["val_other"] == [math.pi] * 4
    assert past["train_loss"][-1] < 0.7 * past["train_loss"][0]
    parallel.run_in_step(together, (tmp_path, True), 2)  # nothing is left to do: the state says all
    resumed = weights_of(load_network(tmp_path / "1-resumed").network)
    assert all(np.array_equal(first[name], resumed[name]) for name in first)


def test_processes_share_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    for rank in range(2):
        monkeypatch.setattr(feeding, "world_of", lambda: 2)
        monkeypatch.setattr(feeding, "rank_of", lambda rank=rank: rank)
        parts.append((feeding.Order(11, 4, 1).of_epoch(3), feeding.Order(11, 4, 1).of_validation(5)))
    alone = [numbers for numbers, _ in parts[0][0]]
    assert [len(numbers) for numbers in alone] == [2, 2]
    monkeypatch.undo()
    whole = [numbers for numbers, _ in feeding.Order(11, 4, 1).of_epoch(3)]
    assert [a + b for (a, _), (b, _) in zip(parts[0][0], parts[1][0], strict=True)] == whole
    assert sorted(n for _, one in parts for numbers, _ in one for n in numbers) == [0, 1, 2, 3, 4]
    monkeypatch.setattr(feeding, "world_of", lambda: 3)
    with pytest.raises(InputError, match="2 patches are too few for 3 processes"):
        feeding.Order(2, 4, 1)


def test_one_process_is_in_step_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert (parallel.rank_of(), parallel.world_of(), parallel.join()) == (0, 1, False)
    network = torch.nn.Linear(2, 2)
    assert parallel.in_step(network, torch.device("cpu")) is network
    assert parallel.agreed(0.5, torch.device("cpu")) == 0.5
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="2 processes want a GPU each and there are 1"):
        parallel.run_in_step(print, (), 2)
