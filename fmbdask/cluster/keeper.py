"""Which jobs are lost, and how many to ask for: decisions only, without Slurm, Dask or a clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .jobs import JobState
from .scripts import Pool

#: How long the worker of a running job may be away before the job is given up: its nanny starts a process
#: that ended again within seconds [s].
LOST = 30.0
#: How long a job may be ending until its place is given to another; then Slurm says why it ended [s].
ENDING = 10.0
#: How long a running job may take until its worker appears [s].
START = 180.0
#: How long a node is avoided on which a worker was lost or did not start [s].
AVOID = 600.0
#: So many jobs in a row that ended before their worker appeared, while no other worker is there, are enough.
HOPELESS = 3
#: How a job that is over ended, in the words of a sentence about it.
ENDS = {
    "CANCELLED": "was cancelled",
    "COMPLETED": "ended by itself",
    "COMPLETING": "is ending",
    "FAILED": "failed",
    "NODE_FAIL": "ended because its node went down",
    "OUT_OF_MEMORY": "was ended by Slurm for taking more memory than it had asked for",
    "PREEMPTED": "was preempted",
    "TIMEOUT": "reached its walltime",
}


@dataclass
class Job:
    """A job of workers that was asked for and has not been seen to end."""

    id: str
    pool: str
    workers: frozenset[str]
    node: str = ""
    began: float | None = None
    appeared: bool = False
    lost: float | None = None
    ending: float | None = None
    retired: bool = False
    hangs: bool = False

    def __str__(self) -> str:
        return f"job {self.id}" + (f" on {self.node}" if self.node else "")


@dataclass
class Decisions:
    """What to do: jobs that are over, those of them to cancel, and pools to ask for a job."""

    over: list[Job] = field(default_factory=list)
    cancel: list[Job] = field(default_factory=list)
    ask: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


class Keeper:
    """Keeps up the number of jobs of each pool.

    Attributes
    ----------
    jobs : dict
        Jobs that were asked for and are not over.
    wanted : dict
        Number of jobs of each pool.
    hopeless : str
        A sentence, when it is of no use to go on.
    """

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self.jobs: dict[str, Job] = {}
        self.wanted = {name: 0 if name == "large" else pool.jobs for name, pool in pools.items()}
        self.hopeless = ""
        self._vacant: dict[str, list[str]] = defaultdict(list)
        self._failed: dict[str, int] = defaultdict(int)
        self._not_before: dict[str, float] = defaultdict(float)
        self._avoided: dict[str, float] = {}

    def placed(self, job: Job) -> str | None:
        """Note a job that was asked for; a sentence if it takes the place of another one."""
        self.jobs[job.id] = job
        vacant = self._vacant[job.pool]
        return f"{vacant.pop(0)}: job {job.id} takes its place" if vacant else None

    def postpone(self, pool: str, until: float) -> None:
        """Ask for no job of a pool before a time."""
        self._not_before[pool] = until

    def avoided(self, now: float) -> list[str]:
        """Nodes to keep away from."""
        self._avoided = {node: time for node, time in self._avoided.items() if now - time < AVOID}
        return sorted(self._avoided)

    def step(
        self,
        states: Mapping[str, JobState],
        connected: Collection[str],
        now: float,
        seen: Collection[str] = (),
    ) -> Decisions:
        """Decide.

        Parameters
        ----------
        states : mapping
            Slurm's word on each job.
        connected : collection of str
            Names of the workers that Dask's scheduler sees.
        now : float
            Monotonic time [s].
        seen : collection of str
            Names of the workers that ever were connected.
        """
        decisions = Decisions()
        for job in list(self.jobs.values()):
            state = states.get(job.id)
            job.appeared = job.appeared or not job.workers.isdisjoint({*connected, *seen})
            verdict = self._verdict(job, state, connected, now) if state else None
            if state is None or verdict is None:
                continue
            del self.jobs[job.id]
            decisions.over.append(job)
            if not state.is_over:
                decisions.cancel.append(job)
            if not job.appeared:
                self._start_failed(job, verdict, connected, now)
            if not job.retired:
                self._vacant[job.pool].append(verdict)
        for pool, wanted in self.wanted.items():
            active = [job for job in self.jobs.values() if job.pool == pool and not job.retired]
            for job in active[wanted:]:
                del self.jobs[job.id]
                decisions.over.append(job)
                decisions.cancel.append(job)
                decisions.said.append(f"{job} is not needed any more")
            missing = wanted - len(active)
            for verdict in self._vacant[pool][max(0, missing) :]:
                decisions.said.append(verdict)
            del self._vacant[pool][max(0, missing) :]
            if now >= self._not_before[pool]:
                decisions.ask += [pool] * missing
        return decisions

    def retire(self, worker: str) -> Job | None:
        """Replace the job of a worker; it is cancelled when its workers have nothing more to do."""
        for job in self.jobs.values():
            if worker in job.workers and not job.retired:
                job.retired = True
                self._vacant[job.pool].append(f"{job} nears its walltime")
                return job
        return None

    def hangs(self, worker: str) -> None:
        """Give up the job of a worker that does not even let itself be killed."""
        for job in self.jobs.values():
            job.hangs = job.hangs or worker in job.workers

    def _verdict(self, job: Job, state: JobState, connected: Collection[str], now: float) -> str | None:
        """Why a job is over; None while it is not."""
        job.node = state.node or job.node
        here = not job.workers.isdisjoint(connected)
        if state.state == "COMPLETING":
            job.ending = now if job.ending is None else job.ending
            if now - job.ending < ENDING:
                return None
        if state.is_over or job.ending is not None:
            how = ENDS.get(state.state, f"ended ({state.state})")
            return f"{job} {how}" + ("" if job.appeared else " before its worker appeared")
        if job.hangs:
            self._avoid(job, now)
            return f"the worker of {job} does not answer"
        if here:
            job.lost = None
            self._failed[job.pool] = 0
        if state.state in ("PENDING", "CONFIGURING") or here:
            return None
        if job.began is None:
            job.began = now
        if not job.appeared:
            late = now - job.began > START
            return f"the worker of {job} did not appear within {START:.0f} s" if late else None
        job.lost = now if job.lost is None else job.lost
        if now - job.lost < LOST:
            return None
        self._avoid(job, now)
        return f"the worker of {job} is lost, though the job is {state.state}: its node or network hangs"

    def _start_failed(self, job: Job, verdict: str, connected: Collection[str], now: float) -> None:
        self._failed[job.pool] += 1
        self._avoid(job, now)
        failed = self._failed[job.pool]
        self._not_before[job.pool] = now + min(60.0, 2.0**failed)
        others = any(not other.workers.isdisjoint(connected) for other in self.jobs.values())
        if failed >= HOPELESS and not others:
            self.hopeless = f"{failed} jobs in a row ended before their worker appeared; the last: {verdict}"

    def _avoid(self, job: Job, now: float) -> None:
        if job.node:
            self._avoided[job.node] = now
