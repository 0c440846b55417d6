"""Workers on this machine and at a scheduler that is there: asked for, counted, killed, replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import KilledWorker, LocalCluster

from fmbdask.cluster.config import ClusterConfig
from fmbdask.cluster.existing import ExistingWorkers
from fmbdask.cluster.local import gpus
from fmbdask.cluster.opening import open_cluster
from fmbdask.cluster.runner import check_tasks
from fmbdask.errors import ClusterError


def wait_for(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def hang(path: str) -> None:
    Path(path).touch()
    time.sleep(1000)


def test_a_killed_process_costs_its_task_and_is_replaced(tmp_path: Path) -> None:
    with open_cluster("local", slots=2, memory=10**8, log_folder=tmp_path) as cluster:
        assert (cluster.slots(), cluster.wanted(), cluster.jobs()) == (2, 2, [])
        assert cluster.allowance() == 10**8
        assert cluster.larger() == (cluster.allowance(True) > 10**8)
        ask = cluster.resources({}, alone=False, large=False)
        before = {cluster.client.submit(os.getpid, resources=ask, pure=False).result() for _ in range(4)}
        assert os.getpid() not in before
        future = cluster.client.submit(hang, str(tmp_path / "begun"), resources=ask)
        wait_for((tmp_path / "begun").exists)
        [address] = [a for a, keys in cluster.client.processing().items() if future.key in keys]
        cluster.restart(address)
        with pytest.raises(KilledWorker):
            future.result(timeout=30)
        said: list[str] = []
        wait_for(lambda: said.extend(cluster.top_up()) or (cluster.slots() == 2 and said))
        assert f"the worker process at {address} ended" in said[0]
        cluster.restart(address)  # is gone: no error
        assert cluster.client.submit(sum, (1, 2), resources=ask).result(timeout=30) == 3


def test_threads_share_this_process(tmp_path: Path) -> None:
    with open_cluster("threads", slots=3, log_folder=tmp_path) as cluster:
        assert cluster.slots() == 3
        assert cluster.allowance() == 0  # the guard would end the coordinator
        alone = cluster.resources({}, alone=True, large=False)
        assert alone == {"slots": 3.0}
        assert cluster.client.submit(os.getpid, resources=alone).result(timeout=30) == os.getpid()


def test_a_stage_that_nobody_could_serve_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
    with pytest.raises(ClusterError, match="asks for GPU, which this machine does not offer"):
        open_cluster("local", slots=1, log_folder=tmp_path, resources=[{"GPU": 1}])
    with pytest.raises(ClusterError, match="asks for tape, which this machine does not offer"):
        open_cluster("threads", slots=1, log_folder=tmp_path, resources=[{}, {"tape": 1}])


def test_gpus_are_dealt_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with open_cluster("local", slots=2, log_folder=tmp_path, resources=[{"GPU": 1}]) as cluster:
        assert (cluster.slots(), cluster.slots({"GPU": 1})) == (2, 1)
        ask = cluster.resources({"GPU": 1}, alone=False, large=False)
        assert cluster.client.submit(os.getenv, "CUDA_VISIBLE_DEVICES", resources=ask).result() == "3"


def test_a_scheduler_that_is_there_is_left_as_it_was(tmp_path: Path) -> None:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as there:
        allowed = there.scheduler.allowed_failures
        with open_cluster(there.scheduler_address, log_folder=tmp_path) as cluster:
            assert isinstance(cluster, ExistingWorkers)
            assert (cluster.slots(), cluster.wanted()) == (2, 2)
            assert there.scheduler.allowed_failures == 0
            ask = cluster.resources({}, alone=True, large=False)
            assert cluster.client.submit(sum, (1, 2), resources=ask).result() == 3
        assert there.scheduler.allowed_failures == allowed
        assert len(there.scheduler.workers) == 2


def test_a_scheduler_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fmbdask.cluster.existing.PATIENCE", 0.5)
    with pytest.raises(ClusterError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        ExistingWorkers(ClusterConfig(kind="tcp", address="tcp://127.0.0.1:1"))


def test_the_runner_wants_enough_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ClusterError, match="srun is missing"):
        check_tasks()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "0")
    with pytest.raises(ClusterError, match="this step has 2: start it as"):
        check_tasks()
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    assert check_tasks() == 3


@pytest.mark.parametrize("module", ["slurm", "runner"])
def test_ctrl_c_stays_as_it_was(module: str) -> None:
    code = (
        "import signal\nbefore = signal.getsignal(signal.SIGINT)\n"
        f"import fmbdask.cluster.{module}\nassert signal.getsignal(signal.SIGINT) is before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert signal.getsignal(signal.SIGINT) is not None
