"""Models travel as a path and a checksum, are opened once, and refused when they are not what they were."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

torch = pytest.importorskip("torch")

from fmbdask.checkpoints import ARRAYS, META, Checkpoint, checkpoint_digest, save_checkpoint  # noqa: E402
from fmbdask.errors import ConfigError, InputError, OutputExistsError  # noqa: E402
from fmbdask.models import handles  # noqa: E402
from fmbdask.models.handles import ModelHandle, OpenNetwork, load_network, save_network  # noqa: E402
from fmbdask.models.patches import classify_patches  # noqa: E402
from fmbdask.models.unet import CLASSES  # noqa: E402

from ..test_checkpoints import Harm, sealed  # noqa: E402
from .made import network  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "unet"
    save_network(path, network(), normalisation={"noise": "pixel"}, provenance={"seed": 1})
    return path


@pytest.fixture(autouse=True)
def nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handles, "_open", type(handles._open)())


def test_a_network_is_read_back(folder: Path) -> None:
    found = load_network(folder, classes=CLASSES, channels=2)
    wanted = network()
    assert found.architecture == wanted.architecture
    assert (found.normalisation, found.provenance) == ({"noise": "pixel"}, {"seed": 1})
    own = found.network.state_dict()
    assert all(torch.equal(values, own[name]) for name, values in wanted.state_dict().items())
    assert not found.network.training
    with pytest.raises(OutputExistsError):
        save_network(folder, wanted)


def test_a_handle_carries_no_weights(folder: Path) -> None:
    handle = ModelHandle.of(folder)
    handle.load(device="cpu")
    sent = pickle.dumps(handle)
    assert pickle.loads(sent) == handle
    assert len(sent) < len(handle.path) + 64 + 120
    assert (folder / ARRAYS).stat().st_size > 300_000


def test_a_graph_carries_no_weights(folder: Path) -> None:
    import dask
    from distributed.protocol import serialize_bytes

    def classified(handle: ModelHandle, patch: np.ndarray) -> np.ndarray:
        found: np.ndarray = classify_patches(handle.load(device="cpu"), [patch])[0]
        return found

    handle, patches = ModelHandle.of(folder), np.zeros((6, 2, 4, 4, 4), np.float32)
    tasks = [dask.delayed(classified)(handle, patch) for patch in patches]
    graph = dict(tasks[0].__dask_graph__())
    assert len(serialize_bytes(graph)) < 8_000
    found = dask.compute(*tasks, scheduler="threads", num_workers=2)
    assert all(np.array_equal(one, found[0]) for one in found)
    assert len(handles._open) == 1


def test_a_process_opens_a_model_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    load = handles.load_network

    def counted(path: Any, **options: Any) -> Any:
        opened.append(str(path))
        return load(path, **options)

    monkeypatch.setattr(handles, "load_network", counted)
    found: list[OpenNetwork] = []
    threads = [
        threading.Thread(target=lambda: found.append(ModelHandle.of(folder).load(device="cpu")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert len({id(one) for one in found}) == 1
    assert ModelHandle.of(folder).load(device="cpu", precision="bfloat16") is not found[0]
    for size in range(2, 9):
        ModelHandle.of(folder).load(device="cpu", size=size)
    assert len(handles._open) == handles.MOST_OPEN


def test_what_only_fills_a_batch_is_told(folder: Path) -> None:
    batches = ModelHandle.of(folder).load(device="cpu", size=4).batches
    channels = load_network(folder).architecture.channels
    rows = [np.zeros((channels, 8, 8, 8), np.float32)] * 6
    assert sum(map(len, batches(rows[:4]))) == 4
    before = batches.tally
    assert before[:2] == (4, 4)
    assert batches.filling((0, 0, 0.0)) == batches.filling(before) == 0
    assert sum(map(len, batches(rows[:1]))) == 1
    assert batches.tally[:2] == (5, 8)
    assert batches.filling(before) == pytest.approx(0.75 * (batches.tally[2] - before[2]))


def test_a_model_that_changed_is_refused(tmp_path: Path) -> None:
    handle = save_network(tmp_path / "unet", network(seed=1))
    save_network(tmp_path / "unet", network(seed=2), overwrite=True)
    with pytest.raises(InputError, match="holds another model than it did when it was chosen"):
        handle.load(device="cpu")
    assert ModelHandle.of(tmp_path / "unet") != handle
    with pytest.raises(InputError, match="holds no saved model"):
        ModelHandle.of(tmp_path / "absent")
    with pytest.raises(InputError, match="holds no saved model"):
        ModelHandle(str(tmp_path / "absent"), "0" * 64).load(device="cpu")


def test_only_auto_falls_back_to_the_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    handle = ModelHandle.of(folder)
    assert handle.load(device="auto").device.type == "cpu"
    with pytest.raises(ConfigError, match="device cuda was asked for and torch sees no GPU here"):
        handle.load(device="cuda")


def test_a_network_of_other_classes_or_inputs_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"a network of 4 classes \(background, .*\), not of 2 \(a, b\)"):
        load_network(folder, classes=("a", "b"))
    with pytest.raises(InputError, match="takes 2 values of a voxel, not 5: give another model"):
        load_network(folder, channels=5)


def with_meta(folder: Path, **meta: Any) -> None:
    sealed(folder, meta=json.loads((folder / META).read_text())["meta"] | meta)


def with_array(folder: Path, name: str, values: np.ndarray | None) -> None:
    arrays = dict(load_arrays((folder / ARRAYS).read_bytes()))
    arrays.pop(name, None)
    sealed(folder, save_arrays(arrays if values is None else {**arrays, name: values}))


ARCHITECTURE = network().architecture.as_dict()
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (lambda f: (f / ARRAYS).write_bytes((f / ARRAYS).read_bytes()[:-1]), "is damaged"),
    "pickle": (lambda f: sealed(f, pickle.dumps(Harm())), "is damaged"),
    "another kind": (lambda f: sealed(f, kind="flow"), "holds a model of kind flow, not unet3d"),
    "more classes": (
        lambda f: with_meta(f, architecture=ARCHITECTURE | {"classes": ["a", "b"]}),
        r"head\.weight have shape \(4, 8, 1, 1, 1\), its architecture \(2, 8, 1, 1, 1\)",
    ),
    "two dimensions": (
        lambda f: with_array(f, "head.weight", np.zeros((4, 8, 1, 1), np.float32)),
        r"head\.weight have shape \(4, 8, 1, 1\)",
    ),
    "more levels": (
        lambda f: with_meta(f, architecture=ARCHITECTURE | {"widths": [8, 16, 32, 64], "pool_time": []}),
        "its weights lack down.3",
    ),
    "huge": (
        lambda f: with_meta(f, architecture=ARCHITECTURE | {"widths": [4096] * 8, "pool_time": []}),
        "holds no network that can be used",
    ),
    "lacks": (lambda f: with_array(f, "head.bias", None), r"its weights lack head\.bias"),
    "foreign": (lambda f: with_array(f, "x", np.zeros(3)), "have the foreign array x"),
    "type": (lambda f: with_array(f, "head.bias", np.zeros(4)), r"head\.bias are float64"),
    "NaN": (lambda f: with_array(f, "head.bias", np.full(4, np.nan, np.float32)), "are not finite"),
    "no architecture": (lambda f: sealed(f, meta={}), "'architecture' is missing"),
    "architecture": (lambda f: with_meta(f, architecture=[1]), "holds no network that can be used"),
    "normalisation": (lambda f: with_meta(f, normalisation=3), "holds no network that can be used"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_networks_are_refused(how: str, folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "unet"
    save_network(damaged, network())
    damage, words = DAMAGE[how]
    damage(damaged)
    with pytest.raises(InputError, match=words) as caught:
        ModelHandle.of(damaged).load(device="cpu")
    assert str(damaged) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_digest_says_what_is_in_a_checkpoint(tmp_path: Path) -> None:
    one = save_checkpoint(tmp_path / "one", Checkpoint("kind", {"a": np.zeros(3)}))
    same = save_checkpoint(tmp_path / "same", Checkpoint("kind", {"a": np.zeros(3)}))
    other = save_checkpoint(tmp_path / "other", Checkpoint("kind", {"a": np.ones(3)}))
    assert checkpoint_digest(one) == checkpoint_digest(same) != checkpoint_digest(other)
