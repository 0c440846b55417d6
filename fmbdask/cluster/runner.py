"""Workers inside one Slurm allocation: every task of the job runs the same command and takes a role.

`srun fmbdask survey run x.yaml --cluster runner`: task 0 becomes the scheduler, task 1 coordinates, the
others work. So nothing is asked of Slurm while the run goes on, which suits sites that allow few jobs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dask
from distributed import Client
from distributed.diagnostics.plugin import SchedulerPlugin

from ..errors import ClusterError
from .config import ClusterConfig
from .dask_workers import SCHEDULER_SETTINGS, DaskWorkers, refuse_unknown
from .jobqueue import SLURMRunner
from .local import gpus
from .protocol import GPU, SLOTS
from .scripts import DEFAULT_MEMORY
from .slurm import interface_option

#: Roles beside that of the workers: scheduler and coordinator.
OTHERS = 2
#: How long the scheduler and its workers outlive the coordinator [s].
FAREWELL = 30.0
#: How long the coordinator waits for the first worker, or for one to come back [s].
START = 180.0

_joined: SLURMRunner | None = None


class Runner(SLURMRunner):
    """The runner of dask-jobqueue; scheduler and workers end when the coordinator has died."""

    async def on_scheduler_start(self, scheduler: Any) -> None:
        """Watch the coordinator."""
        scheduler.add_plugin(EndWithCoordinator())


class EndWithCoordinator(SchedulerPlugin):
    """Closes a scheduler some time after its last client has gone."""

    def __init__(self) -> None:
        self._ending: asyncio.TimerHandle | None = None

    def add_client(self, scheduler: Any, client: str) -> None:
        """Somebody is there."""
        if self._ending is not None:
            self._ending.cancel()

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Nobody may be there."""
        loop = asyncio.get_running_loop()
        self._ending = loop.call_later(FAREWELL, lambda: asyncio.ensure_future(self._end(scheduler)))

    async def _end(self, scheduler: Any) -> None:
        if not any(name.startswith("Client-") for name in scheduler.clients):
            await scheduler.close(reason="the coordinator is gone")


def join_allocation(config: ClusterConfig) -> None:
    """Take the role of this task of the allocation; only the coordinator's call returns.

    To be called before anything else is done, because all tasks run the same command. Scheduler and workers
    find each other through a file in the working directory, which all nodes must see. Its name holds the
    number of the job, and how often Slurm has started it: a second start must not find the first's scheduler.

    Raises
    ------
    ClusterError
        If this is no task of a job, or there are too few of them.
    """
    global _joined
    if _joined is not None:
        return
    tasks = check_tasks()
    restarts = os.environ.get("SLURM_RESTART_COUNT", "0")
    scratch = os.path.expandvars(config.scratch.replace("${TMPDIR:-/tmp}", os.environ.get("TMPDIR", "/tmp")))
    cards = gpus()
    if os.environ["SLURM_PROCID"] != "1":  # the others end their life with this signal, the coordinator not
        signal.signal(signal.SIGINT, lambda *_: sys.exit())
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(SCHEDULER_SETTINGS):
        _joined = Runner(  # type: ignore[no-untyped-call]
            scheduler_file=str(Path.cwd() / f".fmbdask-scheduler-{{job_id}}-{restarts}.json"),
            scheduler_options={
                **interface_option(config),
                "dashboard": False,
                "dashboard_address": "127.0.0.1:0",
            },
            worker_class="distributed.Nanny",
            worker_options={
                "nthreads": config.threads,
                "memory_limit": 0,
                "resources": {SLOTS: config.threads} | ({GPU: len(cards)} if cards else {}),
                "local_directory": str(Path(scratch) / f"fmbdask-{os.environ['SLURM_JOB_ID']}"),
                "dashboard": False,
                "silence_logs": logging.CRITICAL,
                **({"interface": config.interface} if config.interface else {}),
            },
        )
    _joined.n_workers = tasks - OTHERS


def check_tasks() -> int:
    """Number of tasks of the step in which this process runs.

    Raises
    ------
    ClusterError
        If there are none or too few, with what to write into the job script.
    """
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "0"))
    if tasks <= OTHERS or "SLURM_PROCID" not in os.environ:
        found = f"this step has {tasks}" if tasks else "this is none (srun is missing)"
        raise ClusterError(
            f"--cluster runner wants at least {OTHERS + 1} tasks of one job: scheduler, coordinator, worker;"
            f" {found}: start it as `srun --ntasks=3 fmbdask ...`, or give --cluster local"
        )
    return tasks


class RunnerWorkers(DaskWorkers):
    """Workers that are tasks of the same job as this process.

    Parameters
    ----------
    config, memory, log_folder, resources
        As for :func:`~fmbdask.cluster.opening.open_cluster`.

    Raises
    ------
    ClusterError
        As :func:`join_allocation` says.
    """

    name = "runner"

    def __init__(
        self,
        config: ClusterConfig,
        *,
        memory: int | None = None,
        log_folder: Path,
        resources: Sequence[Mapping[str, float]] = (),
    ) -> None:
        join_allocation(config)
        assert _joined is not None
        refuse_unknown(resources, {GPU} if gpus() else set(), "this allocation")
        self.threads = config.threads
        self._runner = _joined
        self._count = int(_joined.n_workers)
        self._memory = config.memory or memory or DEFAULT_MEMORY
        self._client = Client(_joined)
        self._seen: set[str] = set()
        self._alone_since: float | None = time.monotonic()

    def wanted(self) -> int:
        """Threads of all tasks that work."""
        return self._count * self.threads

    def top_up(self) -> list[str]:
        """Say which tasks are lost; nothing can take their place."""
        now = {f"task {worker.name} of the allocation" for worker in self.workers()}
        said = [f"the worker of {task} is lost" for task in sorted(self._seen - now)]
        said += [f"the worker of {task} is there" for task in sorted(now - self._seen)]
        self._seen = now
        if now:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > START:
            raise ClusterError(
                f"no worker of the allocation has been there for {START:.0f} s: see the job's log, "
                "then `fmbdask survey resume`"
            )
        return said

    def jobs(self) -> list[str]:
        """The job in which all this runs."""
        return [os.environ["SLURM_JOB_ID"]]

    def allowance(self, large: bool = False) -> int:
        """What the file or the plan says."""
        return self._memory

    def close(self) -> None:
        """Let the other tasks end."""
        try:
            super().close()
        finally:
            self._runner.close()
            Path(self._runner.scheduler_file).unlink(missing_ok=True)
