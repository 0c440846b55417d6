"""Workers in Slurm jobs that the coordinator asks for: several kinds under one scheduler, kept in number."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from distributed import metrics
from distributed.diagnostics.plugin import SchedulerPlugin

from ..errors import ClusterError
from .config import ClusterConfig
from .dask_workers import DaskWorkers, refuse_unknown
from .jobqueue import SLURMJob
from .jobs import cancel, cancel_recorded, environment, forget_jobs, job_states, record_job
from .keeper import Job, Keeper
from .protocol import GPU, LARGE
from .scripts import DEFAULT_MEMORY, DEFAULT_WORKERS, Pool, pools, worker_script

#: Time between two looks at the jobs [s].
INTERVAL = 2.0
#: Time between two attempts to ask for a job where Slurm refuses it [s].
RETRY = 15.0
#: Between two words of a worker to the scheduler, at most [s]: what it said after so long is about now.
HEARTBEAT = 1.0
#: How long a job with more memory may have nothing to do [s].
IDLE = 120.0


class WorkerJob(SLURMJob):
    """A job of dask-jobqueue whose script is ours, quoted throughout."""

    def __init__(self, scheduler: str, name: str, *, text: str, pool: Pool) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            scheduler=scheduler,
            name=name,
            cores=pool.processes * pool.threads,
            processes=pool.processes,
            memory=str(pool.memory),
            log_directory=None,
        )
        self._text = text

    def job_script(self) -> str:
        """The script."""
        return self._text

    async def _submit_job(self, script_filename: str) -> Any:
        return await self._call(["sbatch", script_filename], env=environment())  # type: ignore[no-untyped-call]


class Seen(SchedulerPlugin):
    """Names of all workers that ever connected to a scheduler."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """A worker has connected."""
        self.names.add(str(scheduler.workers[worker].name))


class SlurmWorkers(DaskWorkers):
    """Workers in Slurm jobs.

    A thread of its own looks at the jobs every two seconds. One that ended is replaced; one whose worker is
    lost though Slurm has not noticed is cancelled and replaced, and its node avoided for a while. When this
    process dies its workers lose their scheduler and end, and jobs that start later find none and end too.

    Parameters
    ----------
    config, slots, memory, log_folder, resources
        As for :func:`~fmbdask.cluster.opening.open_cluster`.

    Raises
    ------
    ClusterError
        If Slurm refuses the jobs or is not there, or the file grants less memory than the plan needs.
    """

    name = "slurm"

    def __init__(
        self,
        config: ClusterConfig,
        *,
        slots: int | None = None,
        memory: int | None = None,
        log_folder: Path,
        resources: Sequence[Mapping[str, float]] = (),
    ) -> None:
        if memory and config.memory and memory > config.memory:
            raise ClusterError(
                f"a worker needs {memory / 1e9:.2f} GB, the site's file grants {config.memory / 1e9:.2f} GB: "
                "raise memory there"
            )
        refuse_unknown(resources, {GPU} if config.gpu else set(), "the site's file")
        self.threads = config.threads
        workers = DEFAULT_WORKERS if config.workers is None else config.workers
        workers = -(-slots // self.threads) if slots else workers
        if not workers and config.gpu is None:
            raise ClusterError("workers: 0 in the site's file leaves nobody to work: ask for at least 1")
        self._config = config
        self._pools = pools(config, workers, config.memory or memory or DEFAULT_MEMORY)
        self._ordinary = "cpu" if workers else "gpu"
        self.threads = self._pools[self._ordinary].threads
        self._logs = log_folder
        self.job_name = job_name(log_folder)
        self._keeper = Keeper(self._pools)
        self._lock = threading.RLock()
        self._said: deque[str] = deque()
        self._last_refusal = ""
        self._serial = 0
        self._busy = 0.0
        self._problem: ClusterError | None = None
        self._stopped = threading.Event()
        self._seen = Seen()
        self._closing: dict[str, float] = {}
        log_folder.mkdir(parents=True, exist_ok=True)
        cancel_recorded(log_folder)  # of a coordinator before this one
        forget_jobs(log_folder)
        host = interface_option(config)
        try:
            self._address = str(self.start_scheduler(host, {}).scheduler_address)
            self._scheduler.add_plugin(self._seen)
            for pool in self._pools.values():
                for _ in range(self._keeper.wanted[pool.name]):
                    self._ask(pool)
        except BaseException:
            self.close()
            raise
        self._thread = threading.Thread(target=self._watch, name="slurm", daemon=True)
        self._thread.start()

    # ---- what the coordinator asks

    def wanted(self) -> int:
        """Threads for ordinary tasks that were asked for."""
        pool = self._pools[self._ordinary]
        return pool.jobs * pool.processes * pool.threads

    def top_up(self) -> list[str]:
        """What has happened since the last call; the work is done by a thread."""
        if self._problem is not None:
            raise self._problem
        return [self._said.popleft() for _ in range(len(self._said))]

    def restart(self, address: str) -> None:
        """Kill the worker process; where not even its nanny answers, replace the job."""
        if not self.kill(address):
            with self._lock:
                for worker in self.workers():
                    if worker.address == address:
                        self._keeper.hangs(worker.name)

    def retire(self, address: str) -> None:
        """Give a worker no more tasks and ask for another job in time."""
        with self._lock:
            for worker in self.workers():
                if worker.address == address and (job := self._keeper.retire(worker.name)):
                    self._sync(self._close_gracefully, job)

    def larger(self) -> bool:
        """Ask for a job with more memory, where the site's file has a section for it."""
        if LARGE not in self._pools:
            return False
        with self._lock:
            self._keeper.wanted[LARGE] = self._pools[LARGE].jobs
            self._busy = time.monotonic()
        return True

    def resources(self, task: Mapping[str, float], alone: bool, large: bool) -> dict[str, float]:
        """With more memory: the one place of such a worker."""
        if large and LARGE in self._pools and GPU not in task:
            return {LARGE: 1.0, **task}
        return super().resources(task, alone, large)

    def jobs(self) -> list[str]:
        """Ids of the jobs that run or wait."""
        with self._lock:
            return list(self._keeper.jobs)

    def allowance(self, large: bool = False) -> int:
        """Memory of an ordinary worker, or of one with more."""
        return self._pools[LARGE if large and LARGE in self._pools else self._ordinary].memory

    def close(self) -> None:
        """Cancel the jobs and stop the scheduler."""
        self._stopped.set()
        thread = getattr(self, "_thread", None)
        if thread is not None:
            thread.join()
        try:
            cancel(self.jobs(), self.job_name)
        finally:
            super().close()

    # ---- the thread

    def _watch(self) -> None:
        while self._problem is None and not self._stopped.wait(INTERVAL):
            try:
                self._step()
            except ClusterError as error:  # Slurm does not answer: workers go on without it
                self._say_once(str(error))
            except Exception as error:  # the run goes on with the workers there are, and says what is wrong
                if not self._stopped.is_set():
                    self._say_once(f"looking after the jobs failed: {error!r}")

    def _step(self) -> None:
        """Look at jobs and workers, and do what the keeper decides."""
        with self._lock:
            ids = list(self._keeper.jobs)
        states = job_states(ids)
        connected, idle, large_tasks = self._sync(self._look)
        now = time.monotonic()
        with self._lock:
            if large_tasks:
                self._busy = now
            elif LARGE in self._pools and now - self._busy > IDLE:
                self._keeper.wanted[LARGE] = 0
            retired = [job for job in self._keeper.jobs.values() if job.retired]
            decisions = self._keeper.step(states, connected, now, self._seen.names)
        for job in decisions.over:
            self._sync(self._remove, job)
        done = [job for job in retired if job.workers & set(connected) <= idle]
        for job in done:
            self._sync(self._remove, job, True)
        cancel([job.id for job in decisions.cancel + done], self.job_name)
        for job in retired:
            self._sync(self._close_gracefully, job)
        self._said.extend(decisions.said)
        if self._keeper.hopeless:
            self._problem = ClusterError(
                f"{self._keeper.hopeless}{self._last_words(decisions.over)}; "
                "let `fmbdask cluster check` look at the site's file"
            )
            return
        for name in decisions.ask:
            try:
                self._ask(self._pools[name])
            except ClusterError as error:
                self._say_once(f"no {name} job can be asked for now, the next attempt is soon: {error}")
                self._keeper.postpone(name, now + RETRY)
                break
        else:
            self._last_refusal = ""

    def _ask(self, pool: Pool) -> None:
        """Ask for one job."""
        with self._lock:
            self._serial += 1
            worker = f"{pool.name}-{self._serial}"
            avoided = self._keeper.avoided(time.monotonic())
        try:
            job_id = self._submit(pool, worker, avoided)
        except ClusterError:
            if not avoided:  # a small cluster may have no other node left
                raise
            job_id = self._submit(pool, worker, ())
        record_job(self._logs, job_id, self.job_name)
        names = {worker} if pool.processes == 1 else {f"{worker}-{i}" for i in range(pool.processes)}
        with self._lock:
            said = self._keeper.placed(Job(job_id, pool.name, frozenset(names)))
        if said:
            self._said.append(said)

    def _submit(self, pool: Pool, worker: str, avoided: Sequence[str]) -> str:
        text = worker_script(
            self._config,
            pool,
            name=self.job_name,
            worker=worker,
            scheduler=self._address,
            log_folder=self._logs,
            exclude=avoided,
        )
        job = WorkerJob(self._address, worker, text=text, pool=pool)
        try:
            self._sync(job.start)
        except FileNotFoundError:
            raise ClusterError(
                "sbatch is not on this machine: run this where Slurm's commands are, on a login node say"
            ) from None
        except RuntimeError as error:
            raise ClusterError(refusal(str(error))) from None
        return str(job.job_id)

    def _say_once(self, sentence: str) -> None:
        if sentence != self._last_refusal:
            self._said.append(sentence)
        self._last_refusal = sentence

    def _last_words(self, over: Iterable[Job]) -> str:
        """Last line of the log of a job that ended, for the sentence about it."""
        for job in over:
            path = self._logs / f"worker-{job.id}.log"
            try:
                lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
            except OSError:
                continue
            if lines:
                return f"; its log {path} ends with: {lines[-1].strip()}"
        return ""

    # ---- on the event loop of the scheduler

    def _sync(self, function: Any, *arguments: Any) -> Any:
        assert self._spec is not None
        return self._spec.sync(function, *arguments)

    async def _look(self) -> tuple[list[str], set[str], bool]:
        """Names of the workers, and of retired ones with nothing in hand; whether tasks want more memory."""
        scheduler = self._scheduler
        workers = list(scheduler.workers.values())
        large = any(
            LARGE in (task.resource_restrictions or {}) and task.state not in ("memory", "erred", "forgotten")
            for task in scheduler.tasks.values()
        )
        idle = {
            str(worker.name)
            for worker in workers
            if worker.last_seen > self._closing.get(worker.address, float("inf")) + HEARTBEAT
            and not worker.metrics.get("task_counts", {}).get("executing")
        }
        return [str(worker.name) for worker in workers], idle, large

    async def _remove(self, job: Job, expected: bool = False) -> None:
        """Let the scheduler know at once that workers are gone: their tasks come back, or go elsewhere."""
        for worker in list(self._scheduler.workers.values()):
            if str(worker.name) in job.workers:
                await self._scheduler.remove_worker(
                    worker.address, stimulus_id=f"job-over-{time.time()}", expected=expected
                )

    async def _close_gracefully(self, job: Job) -> None:
        """Let the workers of a job take no more tasks."""
        addresses = [
            worker.address
            for worker in self._scheduler.workers.values()
            if str(worker.name) in job.workers and worker.status.name == "running"
        ]
        if addresses:
            await self._scheduler.retire_workers(workers=addresses, close_workers=False, remove=False)
            self._closing |= dict.fromkeys(addresses, metrics.time())

    @property
    def _scheduler(self) -> Any:
        assert self._spec is not None
        return self._spec.scheduler


def job_name(log_folder: Path) -> str:
    """Name of the jobs of a run: that of its folder, and a few digits that tell runs of one name apart."""
    run = log_folder.absolute().parent
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", run.name)[:40].strip("-.") or "run"
    return f"fmbdask-{plain}-{hashlib.sha256(str(run).encode()).hexdigest()[:6]}"


def interface_option(config: ClusterConfig) -> dict[str, str]:
    """Where the scheduler listens.

    Raises
    ------
    ClusterError
        If this machine has no such interface; says which it has.
    """
    inside = "SLURM_JOB_ID" in os.environ  # a coordinator in a job has the network of the nodes
    name = config.interface if inside else config.scheduler_interface or config.interface
    if name is None:
        return {}
    found = psutil.net_if_addrs()
    if name not in found:
        setting = "interface" if inside or not config.scheduler_interface else "scheduler_interface"
        raise ClusterError(
            f"this machine has no network interface {name}, only {', '.join(sorted(found))}: correct "
            f"{setting} in the site's file (scheduler_interface is for where the coordinator runs)"
        )
    return {"interface": name}


def refusal(text: str) -> str:
    """The words of sbatch in what dask-jobqueue reports."""
    words = text.partition("stderr:")[2].strip() or text
    return "sbatch refuses the job: " + " ".join(words.replace("sbatch: error: ", "").split())
