"""Workers of a Dask scheduler that is there already: somebody else starts and stops them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distributed import Client

from ..errors import ClusterError
from .config import ClusterConfig
from .dask_workers import PATIENCE, DaskWorkers, WorkerInfo, refuse_unknown
from .protocol import SLOTS


class ExistingWorkers(DaskWorkers):
    """Workers that are connected to a scheduler.

    Workers that were started with ``--resources "slots=N"`` can also do tasks alone; others do ordinary ones.

    Parameters
    ----------
    config : ClusterConfig
        Of kind ``tcp``.
    memory, resources
        As for :func:`~fmbdask.cluster.opening.open_cluster`.

    Raises
    ------
    ClusterError
        If nobody answers, no worker is there, or one lacks this version of the package.
    """

    def __init__(
        self,
        config: ClusterConfig,
        *,
        memory: int | None = None,
        resources: Sequence[Mapping[str, float]] = (),
    ) -> None:
        address = str(config.address)
        self.name = address
        self._memory = config.memory or memory or 0
        try:
            self._client = Client(address, timeout=PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            raise ClusterError(
                f"no Dask scheduler answers at {address} ({error}): start one with `dask scheduler`, "
                "or correct the address"
            ) from None
        try:
            self._failures_allowed = self.client.run_on_scheduler(_allow_failures, 0)
            found = self._check(address, resources)
        except BaseException:
            self.close()
            raise
        self._has_slots = all(SLOTS in worker.resources for worker in found)
        self.threads = min(worker.threads for worker in found)
        self._wanted = sum(worker.threads for worker in found)
        self._seen = {worker.address for worker in found}

    def _check(self, address: str, resources: Sequence[Mapping[str, float]]) -> list[WorkerInfo]:
        found = self.workers()
        if not found:
            raise ClusterError(f"the scheduler at {address} has no workers: start some with `dask worker`")
        refuse_unknown(
            resources, {name for worker in found for name in worker.resources}, f"a worker of {address}"
        )
        here = installed_version()
        for worker, version in self.client.run(installed_version, on_error="return").items():
            if version != here:
                problem = "lacks fmbdask" if not isinstance(version, str) else f"has fmbdask {version}"
                raise ClusterError(f"the worker {worker} {problem}: install fmbdask {here} there")
        return found

    def slots(self, resources: Mapping[str, float] | None = None) -> int:
        """Threads that are connected."""
        if resources or self._has_slots:
            return super().slots(resources)
        return sum(worker.threads for worker in self.workers())

    def wanted(self) -> int:
        """Threads that were there at the beginning."""
        return self._wanted

    def top_up(self) -> list[str]:
        """Say who came and went."""
        now = {worker.address for worker in self.workers()}
        said = [f"the worker {address} is gone" for address in sorted(self._seen - now)]
        said += [f"the worker {address} has joined" for address in sorted(now - self._seen)]
        self._seen = now
        return said

    def resources(self, task: Mapping[str, float], alone: bool, large: bool) -> dict[str, float]:
        """A thread where workers count them."""
        return super().resources(task, alone, large) if self._has_slots else dict(task)

    def allowance(self, large: bool = False) -> int:
        """What the file or the plan says."""
        return self._memory

    def close(self) -> None:
        """Leave scheduler and workers as they were."""
        try:
            if self._client is not None and hasattr(self, "_failures_allowed"):
                self._client.run_on_scheduler(_allow_failures, self._failures_allowed)
        finally:
            super().close()


def installed_version() -> str:
    """Version of the package in the process that runs this."""
    from importlib.metadata import version

    return version("fmbdask")


def _allow_failures(number: int, dask_scheduler: Any = None) -> int:
    """Set how many deaths of workers a task outlives by Dask's own rules; returns the number before."""
    before = int(dask_scheduler.allowed_failures)
    dask_scheduler.allowed_failures = number
    return before
