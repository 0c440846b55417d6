"""Workers of a benchmark: opened once for a number of them, ready before anything is timed, and asked."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmbdask.cluster.config import ClusterConfig, read_cluster
from fmbdask.cluster.local import cores
from fmbdask.cluster.opening import open_cluster
from fmbdask.cluster.protocol import Cluster
from fmbdask.errors import ClusterError, ConfigError

#: How long workers may take to be there [s]; a cluster's queue may be long.
PATIENCE = 900.0
#: How often they are counted [s].
INTERVAL = 0.2


@dataclass(frozen=True)
class Workers:
    """Workers that are ready.

    Attributes
    ----------
    cluster : Cluster
    kind : str
        ``local``, ``threads`` or ``slurm``.
    workers, threads, slots : int
        Processes that were asked for (threads where all are of one process), threads of each, and of all.
    cores : int
        Cores of all the machines that they are on.
    start : float
        Time until all were there and had loaded what they need [s].
    """

    cluster: Cluster
    kind: str
    workers: int
    threads: int
    slots: int
    cores: int
    start: float

    def cpu(self) -> float:
        """CPU time of all worker processes so far [s]."""
        return float(sum(self.cluster.client.run(time.process_time).values()))


def site_of(spec: str, threads: int | None = None) -> ClusterConfig:
    """What `--cluster` names, if the number of workers can be chosen there.

    Raises
    ------
    ConfigError
        If it cannot.
    """
    site = read_cluster(spec)
    if site.kind not in ("local", "threads", "slurm"):
        raise ConfigError(
            f"the number of workers of {spec} cannot be chosen: give local, threads or a Slurm file"
        )
    return site if threads is None else site.model_copy(update={"threads": threads})


@contextmanager
def opened(site: ClusterConfig, workers: int, logs: Path) -> Iterator[Workers]:
    """Open workers and wait until all of them are ready.

    Raises
    ------
    ClusterError
        If they do not appear.
    """
    begin = time.perf_counter()
    site = site.model_copy(update={"workers": None if site.kind == "threads" else workers})
    slots = workers * site.threads
    with open_cluster(site, slots=slots, log_folder=logs) as cluster:
        until = time.monotonic() + PATIENCE
        while (there := cluster.slots()) < slots:
            cluster.top_up()
            if time.monotonic() > until:
                raise ClusterError(
                    f"only {there} of {slots} threads appeared within {PATIENCE / 60:.0f} minutes: ask for "
                    f"fewer workers, or see {logs}"
                )
            time.sleep(INTERVAL)
        machines = dict(cluster.client.run(make_ready).values())
        start = time.perf_counter() - begin
        yield Workers(cluster, site.kind, workers, site.threads, slots, sum(machines.values()), start)


def make_ready() -> tuple[str, int]:
    """Load in a worker what its first task would wait for; which machine it is on, and the cores of that."""
    import fmbdask.survey.pipelines.ramps
    import fmbdask.survey.pipelines.synthetic
    import fmbdask.survey.worker.task  # noqa: F401

    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # no Linux
        machine = platform.node()
    return machine, max(cores(), 1 if "SLURM_JOB_ID" not in os.environ else os.cpu_count() or 1)


def machine() -> dict[str, Any]:
    """Host, processor and cores of this machine, as columns."""
    from fmbdask.survey.planning.calibrate import _cpu

    return {"host": platform.node(), "cpu": _cpu(), "cores": cores()}
