"""Surveys that ask a network: it is chosen once, what it costs is planned, and a kill loses nothing."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="networks need torch")

import pyarrow.parquet as pq  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from fmbdask.cli.app import app  # noqa: E402
from fmbdask.errors import ChangedError, ClusterError, ConfigError, InputError  # noqa: E402
from fmbdask.models import handles  # noqa: E402
from fmbdask.models.handles import ModelHandle, OpenNetwork  # noqa: E402
from fmbdask.ramps.config import DetectionConfig  # noqa: E402
from fmbdask.store.catalog import read_table  # noqa: E402
from fmbdask.survey.config import read_config  # noqa: E402
from fmbdask.survey.exposures.work import detect_exposures  # noqa: E402
from fmbdask.survey.pipelines import make  # noqa: E402
from fmbdask.survey.pipelines.protocol import Context  # noqa: E402
from fmbdask.survey.planning import changes  # noqa: E402
from fmbdask.survey.planning.inputs import find, make_items  # noqa: E402
from fmbdask.survey.planning.measure import Measurer, timed  # noqa: E402
from fmbdask.survey.planning.plan import Plan  # noqa: E402
from fmbdask.survey.running import making, working  # noqa: E402
from fmbdask.survey.running.run import resume, run  # noqa: E402

from .asked import exposures, network  # noqa: E402
from .whole import ROOT, elsewhere, files, nothing_done_again, planned, records  # noqa: E402

#: Longest time of one process of a test [s].
PATIENCE = 300.0
CUDA = torch.cuda.is_available()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return exposures(tmp_path_factory.mktemp("data"), 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelHandle:
    return network(tmp_path_factory.mktemp("unet") / "model")


def plan_of(data: list[Path], output: Path, model: str | None, /, **detection: Any) -> Plan:
    """A plan of made-up costs."""
    asked = {"model": model, "model_confidence": 0.6} if model else {}
    return planned(data, output, pipeline="ramps", edge=64, detection=asked | detection, memory="4GB")


@pytest.fixture(scope="module")
def whole(data: list[Path], model: ModelHandle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run on threads, with what was seen of it: how large tasks were, and where the network ran."""
    seen: dict[str, Any] = {"path": tmp_path_factory.mktemp("whole") / "run", "opened": [], "threads": set()}
    load, answer, task = handles.load_network, OpenNetwork._probabilities, making.Maker.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handles, "_open", type(handles._open)())
        patch.setattr(handles, "load_network", lambda *a, **k: seen["opened"].append(a) or load(*a, **k))

        def asked(self: OpenNetwork, voxels: Any) -> Any:
            seen["threads"].add(torch.get_num_threads())
            return answer(self, voxels)

        def made(sizes: list[int]) -> Any:
            def wrapper(*given: Any) -> Any:
                found = task(*given)
                sizes.append(len(pickle.dumps(found, protocol=5)))
                return found

            return wrapper

        patch.setattr(OpenNetwork, "_probabilities", asked)
        for name, path in (("with", model.path), ("without", None)):
            seen[name] = []
            patch.setattr(making.Maker, "__call__", made(seen[name]))
            output = seen["path"] if path else seen["path"].with_name("rul")
            assert run(plan_of(data, output, path), cluster="threads", workers=2).complete
    return seen


def test_results_say_which_network_was_asked(
    data: list[Path], model: ModelHandle, whole: dict[str, Any], tmp_path: Path
) -> None:
    [catalog] = (whole["path"] / "catalog").glob("*.parquet")
    events = read_table(catalog)
    assert (events["found_by"] == "network").any()
    about = {key: events.attrs[key] for key in ("model", "model_sha256", "model_confidence")}
    assert about == {"model": model.path, "model_sha256": model.sha256, "model_confidence": 0.6}
    settings = DetectionConfig(model=os.path.relpath(model.path), model_confidence=0.6)
    [done] = detect_exposures(data[:1], tmp_path, config=settings, threads=1)
    assert done.result is not None
    for folder in (done.result, whole["path"] / "products" / data[0].stem):
        content = json.loads((folder / "detections.json").read_text())
        detection = content["configuration"]["detection"]
        assert (detection["model"], detection["model_sha256"]) == (model.path, model.sha256)
    tables = [pq.read_table(f / "detections.parquet") for f in (done.result, folder)]
    assert tables[0].equals(tables[1])


def test_tasks_hold_no_weights_and_a_process_opens_a_network_once(whole: dict[str, Any]) -> None:
    assert len(whole["opened"]) == 1
    assert whole["threads"] == {1}
    assert len(whole["with"]) == len(whole["without"])
    assert max(whole["with"]) - max(whole["without"]) < 64


def test_another_network_of_the_same_path_is_a_change(data: list[Path], tmp_path: Path) -> None:
    first = network(tmp_path / "model")
    folder = plan_of(data, tmp_path / "run", first.path).save()
    assert Plan.load(folder.path).config.detection.model_sha256 == first.sha256
    assert changes.compare(folder) == []
    second = network(tmp_path / "model", seed=2)
    assert [str(change) for change in changes.compare(folder)] == [
        f"detection.model_sha256: {first.sha256} -> {second.sha256}"
    ]
    with pytest.raises(ChangedError, match="model_sha256"):
        resume(folder.path, cluster="threads", workers=1)
    # a worker on which the path holds another one does nothing
    done = working.work(folder, cluster="threads", workers=1, report=False)
    assert not done.complete
    assert "holds another model on" in str(done.stopped)
    assert "--accept-changes" in str(done.stopped)
    assert resume(folder.path, cluster="threads", workers=1, accept_changes=True).complete
    assert Plan.load(folder.path).config.detection.model_sha256 == second.sha256
    assert changes.compare(folder) == []
    [catalog] = folder.catalog.glob("*.parquet")
    assert read_table(catalog).attrs["model_sha256"] == second.sha256


def test_a_network_is_looked_for_where_the_run_was_begun(
    data: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handle = network(tmp_path / "unet" / "model")
    (tmp_path / "survey.yaml").write_text(
        json.dumps(
            {"inputs": [str(data[0])], "output": "run", "detection": {"model": "unet/model"}, "edge": 64}
        )
    )
    made = replace(plan_of(data, tmp_path / "run", "unet/model"), config_file=str(tmp_path / "survey.yaml"))
    assert made.config.detection.model == handle.path
    folder = made.save()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [c.what for c in changes.compare(folder)] == ["detection.model_confidence"]


@pytest.mark.parametrize("given", [{"model_sha256": "0" * 64}, {"model": "nowhere"}])
def test_a_network_that_cannot_be_asked_is_refused_before_anything_is_done(
    data: list[Path], model: ModelHandle, tmp_path: Path, given: dict[str, str]
) -> None:
    says = "than model_sha256 says" if "model_sha256" in given else "holds no saved model"
    with pytest.raises(InputError, match=says):
        plan_of(data, tmp_path / "run", model.path, **given)
    with pytest.raises(InputError, match=says):
        detect_exposures(data, tmp_path, config=DetectionConfig(**{"model": model.path} | given))
    assert not (tmp_path / "run").exists()


def test_a_gpu_is_asked_for_where_the_network_must_have_one(
    data: list[Path], model: ModelHandle, tmp_path: Path
) -> None:
    def resources(**detection: Any) -> Any:
        return make(read_config({"output": "x", "detection": detection})).stages[0].resources

    assert resources(model=model.path) == resources(model_device="cuda") == {}
    assert resources(model=model.path, model_device="cuda") == {"GPU": 1}
    if CUDA:
        pytest.skip("there is a GPU")
    made = plan_of(data, tmp_path / "run", model.path, model_device="cuda")
    with pytest.raises(ClusterError, match="a stage asks for GPU, which this machine does not offer"):
        run(made, cluster="local", workers=1)
    assert not [record for record in records(tmp_path / "run") if record.kind == "started"]
    words = ["ramps", "detect", str(data[0]), "-o", str(tmp_path), "--model", model.path]
    done = CliRunner().invoke(app, [*words, "--model-device", "cuda"])
    assert isinstance(done.exception, ConfigError)
    assert "torch sees no GPU here" in str(done.exception)
    assert not (tmp_path / data[0].stem).exists()


def test_a_plan_knows_what_the_network_costs(tmp_path: Path) -> None:
    config = read_config(
        {
            "inputs": [str(exposures(tmp_path, 1, frames=60, edge=384)[0])],
            "edge": 128,
            "detection": {"model": network(tmp_path / "model", widths=(8, 16)).path},
        }
    )
    pipeline = make(config)
    items = make_items(pipeline, find(config.inputs)[0])
    measurer = Measurer(pipeline, 0.0)
    measurer.warm(items[0])
    [few] = measurer.measure(items[0])
    assert few["measured"] == 2  # of 9 regions
    stage: Any = pipeline.stages[0]
    context = Context(measurer.meter)  # type: ignore[arg-type]
    prepared = stage.prepare(items[0], context)
    results = [stage.map(items[0], region, prepared, context) for region in range(9)]
    seconds: list[float] = []
    for own, name in ((stage.light, "light"), (stage, "whole")):
        (tmp_path / name).mkdir()
        with timed(seconds):
            own.reduce(items[0], prepared, iter(results), tmp_path / name, context)
    light, whole = seconds
    assert whole > 1.5 * light  # the network takes its time
    assert max(light, whole / 2.5) < few["reduce"] < 2.5 * whole


KILLER = """
import os, signal, traceback
from fmbdask.models.handles import OpenNetwork

answer = OpenNetwork._probabilities

def once(self, voxels, answer=answer):
    found = answer(self, voxels)
    if any(frame.filename.endswith("doing.py") for frame in traceback.extract_stack()):  # in a unit
        try:
            os.close(os.open(os.environ["KILLED"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return found
        os.kill(os.getpid(), signal.SIGKILL)
    return found

if answer.__name__ != "once":  # Dask does this more than once in a process
    OpenNetwork._probabilities = once
"""


def test_a_worker_that_is_killed_while_it_asks(
    data: list[Path], model: ModelHandle, whole: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    elsewhere(plan_of(data, path, model.path), path).save()
    (tmp_path / "killer.py").write_text(KILLER)
    environment = os.environ | {
        "DASK_DISTRIBUTED__WORKER__PRELOAD": str(tmp_path / "killer.py"),
        "KILLED": str(tmp_path / "killed"),
    }
    command = [sys.executable, "-m", "fmbdask", "survey", "resume", str(path), "--workers", "2"]
    first = subprocess.Popen(
        [*command, "--cluster", "local"], cwd=ROOT, env=environment, text=True, stderr=subprocess.PIPE
    )
    try:
        _, said = first.communicate(timeout=PATIENCE)
    finally:
        first.kill()
    assert first.returncode == 0, said
    assert (tmp_path / "killed").exists()
    lost = [record for record in records(path) if record.kind == "lost"]
    assert [record.unit.kind for record in lost] == ["reduce"]
    nothing_done_again(path)
    assert files(path) == files(whole["path"])


def test_a_process_that_is_killed_while_it_asks_is_resumed(
    data: list[Path], model: ModelHandle, whole: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "run"
    elsewhere(plan_of(data, path, model.path), path).save()
    code = f"{KILLER}\nfrom fmbdask.survey.running.array import work\nwork({str(path)!r}, 1, 1, threads=1)"
    part = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"KILLED": str(tmp_path / "killed")}, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert part.returncode == -signal.SIGKILL
    [hand] = [r.unit for r in records(path) if r.kind == "started"][-1:]
    assert hand.kind == "reduce"
    assert resume(path, cluster="local", workers=2).complete
    nothing_done_again(path)
    assert files(path) == files(whole["path"])
