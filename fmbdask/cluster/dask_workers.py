"""What all kinds of clusters share: the settings of Dask, and how to count, restart and ask workers."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import dask
from distributed import Client, Scheduler
from distributed.deploy.spec import SpecCluster

from ..errors import ClusterError
from .protocol import GPU, LARGE, SLOTS

#: How long a worker process may take to be killed [s].
PATIENCE = 10.0

#: Settings of the scheduler. A task whose worker died comes back at once: the coordinator, which knows what
#: it had begun, decides what becomes of it. A worker that says nothing for a minute is lost. Jobs are
#: replaced by their own rules, so Dask's are put off.
SCHEDULER_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.scheduler.work-stealing": True,
    "distributed.deploy.lost-worker-timeout": "365 days",
    "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX": 2,
    # Dask has the C library give back every 64 kB that is freed, so that each buffer of a chunk is mapped and
    # cleared anew: half as much CPU time again. These are the values glibc adapts to by itself.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2 * 2**25,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
    # it samples every thread a hundred times a second, for a page that nobody opens
    "distributed.worker.profile.enabled": False,
}


@dataclass(frozen=True)
class WorkerInfo:
    """A worker process that is connected."""

    name: str
    address: str
    host: str
    threads: int
    resources: Mapping[str, float]
    takes_tasks: bool


class DaskWorkers:
    """Base of the kinds of clusters: see :class:`fmbdask.cluster.protocol.Cluster`."""

    name = ""
    #: Threads of a worker process.
    threads = 1

    _client: Client | None = None
    _spec: SpecCluster | None = None

    @property
    def client(self) -> Client:
        """Connection to the scheduler."""
        assert self._client is not None, "the cluster is closed"
        return self._client

    def start_scheduler(
        self, options: Mapping[str, Any], workers: Mapping[str, Mapping[str, Any]]
    ) -> SpecCluster:
        """Start a scheduler in this process, workers, and a client."""
        options = {"dashboard": False, "dashboard_address": "127.0.0.1:0"} | dict(options)
        if has_dashboard():
            options |= {"dashboard": True, "dashboard_address": ":0"}
        with dask.config.set(SCHEDULER_SETTINGS):
            self._spec = SpecCluster(
                scheduler={"cls": Scheduler, "options": options},
                workers={name: dict(each) for name, each in workers.items()},
                silence_logs=logging.CRITICAL,
            )
            self._client = Client(self._spec)
        return self._spec

    def workers(self) -> list[WorkerInfo]:
        """Worker processes that are connected."""
        found = self.client.scheduler_info(n_workers=-1)["workers"]
        return [
            WorkerInfo(
                str(info["name"]),
                address,
                info["host"],
                info["nthreads"],
                dict(info.get("resources") or {}),
                info.get("status", "running") == "running",
            )
            for address, info in found.items()
        ]

    def slots(self, resources: Mapping[str, float] | None = None) -> int:
        """How many tasks can be done at once now."""
        wanted = self.resources(resources or {}, alone=False, large=False)
        return sum(
            int(min((worker.resources.get(name, 0) // amount for name, amount in wanted.items()), default=0))
            for worker in self.workers()
            if worker.takes_tasks
        )

    def wanted(self) -> int:
        """Threads that were asked for."""
        raise NotImplementedError

    def top_up(self) -> list[str]:
        """Nothing happens by itself here."""
        return []

    def restart(self, address: str) -> None:
        """Kill the worker process at an address; its nanny starts another."""
        self.kill(address)

    def kill(self, address: str) -> bool:
        """Let the nanny kill the worker process at an address; False if it did not answer, or is gone."""
        # Whatever goes wrong, the worker is gone or will be found lost.
        with suppress(Exception):
            self.client.sync(
                self.client._run,
                kill_worker_process,
                nanny=True,
                workers=[address],
                callback_timeout=PATIENCE,
            )
            return True
        return False

    def retire(self, address: str) -> None:
        """Workers here have no walltime of their own."""

    def larger(self) -> bool:
        """Whether more memory can be had."""
        return self.allowance(True) > self.allowance(False)

    def resources(self, task: Mapping[str, float], alone: bool, large: bool) -> dict[str, float]:
        """A thread, or all threads of a worker; and what the task asks for."""
        if GPU in task:
            return dict(task)
        return {SLOTS: float(self.threads if alone or large else 1), **task}

    def jobs(self) -> list[str]:
        """No jobs here."""
        return []

    def allowance(self, large: bool = False) -> int:
        """Nothing is known."""
        return 0

    def dashboard(self) -> str | None:
        """Address of the dashboard, where bokeh is installed."""
        link = str(self.client.dashboard_link or "") if has_dashboard() else ""
        return link or None

    def close(self) -> None:
        """Stop everything that was started."""
        client, spec = self._client, self._spec
        self._client = self._spec = None
        try:
            if client is not None:
                client.close(timeout=PATIENCE)
        finally:
            if spec is not None:
                with suppress(TimeoutError):  # a busy machine: they end with this process
                    spec.close(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def kill_worker_process(dask_worker: Any) -> None:
    """Kill the process of a worker; to be run by its nanny."""
    process = dask_worker.process
    if process is not None and process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)


def has_dashboard() -> bool:
    """Whether Dask's dashboard is installed."""
    try:
        import bokeh  # type: ignore[import-not-found,unused-ignore] # noqa: F401
    except ImportError:
        return False
    return True


def asked_for(resources: Sequence[Mapping[str, float]]) -> set[str]:
    """Names of the resources that some stage asks for beside a thread."""
    return {name for each in resources for name in each} - {SLOTS, LARGE}


def refuse_unknown(resources: Sequence[Mapping[str, float]], offered: set[str], where: str) -> None:
    """Refuse stages that no worker could ever serve: their tasks would wait for ever.

    Raises
    ------
    ClusterError
        With the resource and where it could be had.
    """
    missing = sorted(asked_for(resources) - offered)
    if missing:
        cure = (
            "add a gpu section to the site's file, or run where there is a GPU"
            if missing == [GPU]
            else "leave it out of the stage's resources"
        )
        raise ClusterError(f"a stage asks for {', '.join(missing)}, which {where} does not offer: {cure}")
