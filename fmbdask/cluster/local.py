"""Workers on this machine: processes, or threads of this process."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
from distributed import Client, LocalCluster, Nanny, Worker
from distributed.system import MEMORY_LIMIT

from .config import ClusterConfig
from .dask_workers import DaskWorkers, asked_for, refuse_unknown
from .protocol import GPU, SLOTS

#: Share of the free memory of this machine that workers may use.
SHARE = 0.8


def cores() -> int:
    """Cores that this process may use (a batch job may have fewer than the machine)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def local_cluster(workers: int | None = None) -> Iterator[Client]:
    """Start worker processes of one thread each, connect to them, and stop them at the end.

    Parameters
    ----------
    workers
        Number of processes; one a core by default.

    Yields
    ------
    distributed.Client
        Connected to a cluster without a dashboard, which needs no open port but its own.
    """
    cluster = LocalCluster(
        n_workers=workers or cores(),
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    )
    with cluster, Client(cluster) as client:
        yield client


class LocalWorkers(DaskWorkers):
    """Workers on this machine.

    Parameters
    ----------
    config : ClusterConfig
        Of kind ``local`` or ``threads``.
    slots, memory, resources
        As for :func:`~fmbdask.cluster.opening.open_cluster`.

    Raises
    ------
    ClusterError
        If a stage asks for a GPU and there is none.
    """

    def __init__(
        self,
        config: ClusterConfig,
        *,
        slots: int | None = None,
        memory: int | None = None,
        resources: Sequence[Mapping[str, float]] = (),
    ) -> None:
        self.name = config.kind
        count = config.workers or cores()
        if config.kind == "threads":
            self.threads, count = slots or config.threads * count, 1
        else:
            self.threads = config.threads
            count = -(-slots // self.threads) if slots else count
        self._count = count
        cards = gpus() if GPU in asked_for(resources) else []
        refuse_unknown(resources, {GPU} if cards else set(), "this machine")
        free = int(SHARE * min(MEMORY_LIMIT, psutil.virtual_memory().available))
        self._memory = config.memory or memory or free // count
        self._spare = max(0, free - count * self._memory)
        self._seen: dict[str, str] = {}
        workers = {str(index): self._worker(str(index), cards[index : index + 1]) for index in range(count)}
        processes = config.kind == "local"
        self.start_scheduler({"host": "127.0.0.1"} if processes else {"protocol": "inproc"}, workers)
        self.top_up()

    def _worker(self, name: str, card: Sequence[str]) -> dict[str, Any]:
        """How to start one worker process. Dask's own memory limit is off: it counts mapped files, too."""
        options: dict[str, Any] = {
            "name": name,
            "nthreads": self.threads,
            "memory_limit": 0,
            "resources": {SLOTS: self.threads} | ({GPU: 1} if card else {}),
            "dashboard": False,
        }
        if self.name == "threads":
            return {"cls": Worker, "options": options | {"protocol": "inproc"}}
        options |= {"host": "127.0.0.1", "silence_logs": logging.CRITICAL}
        options |= {"env": {"CUDA_VISIBLE_DEVICES": card[0]}} if card else {}
        return {"cls": Nanny, "options": options}

    def wanted(self) -> int:
        """Threads of all workers."""
        return self._count * self.threads

    def top_up(self) -> list[str]:
        """Nannies start lost processes again by themselves: say that they did."""
        said = []
        for worker in self.workers():
            before = self._seen.get(worker.name)
            if before not in (None, worker.address):
                said.append(f"the worker process at {before} ended, another has taken its place")
            self._seen[worker.name] = worker.address
        return said

    def restart(self, address: str) -> None:
        """Kill a worker process; a thread of this process cannot be killed."""
        if self.name == "local":
            super().restart(address)

    def allowance(self, large: bool = False) -> int:
        """Memory of a worker process; a task that runs alone with more may use all that is spare.

        No limit holds for threads: they share a process with the coordinator, which must not be ended.
        """
        if self.name == "threads":
            return 0
        return self._memory + (self._spare if large else 0)


def gpus() -> list[str]:
    """Numbers of the GPUs that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [card for card in visible.split(",") if card.strip() not in ("", "-1", "NoDevFiles")]
    return [str(index) for index in range(len(glob.glob("/dev/nvidia[0-9]*")))]
