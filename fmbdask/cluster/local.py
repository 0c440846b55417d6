"""A Dask cluster on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Client, LocalCluster


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
