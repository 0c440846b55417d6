"""What a survey run needs of the place where it runs, whatever that is."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

#: Names of the resources that workers offer and tasks ask for: a thread for ordinary tasks, the one place of
#: a worker with more memory, a GPU.
SLOTS, LARGE, GPU = "slots", "large", "GPU"


class Cluster(Protocol):
    """Workers, asked for and kept up to the number asked for. Leaving the context stops them.

    Attributes
    ----------
    client : distributed.Client
    name : str
        ``local``, ``threads``, ``slurm``, ``runner`` or the address of a scheduler.
    """

    name: str

    @property
    def client(self) -> Any: ...

    def slots(self, resources: Mapping[str, float] | None = None) -> int:
        """How many tasks can be done at once now, of those that ask these resources (of ordinary ones)."""

    def wanted(self) -> int:
        """Threads for ordinary tasks that were asked for."""

    def top_up(self) -> list[str]:
        """Replace what was lost; to be called every few seconds.

        Returns
        -------
        list of str
            Sentences of what happened since the last call: a worker lost, a job cancelled, a node down.

        Raises
        ------
        ClusterError
            If it is of no use to go on: job after job ends before its worker appears.
        """

    def restart(self, address: str) -> None:
        """Kill the worker process at this address; another one takes its place. A lost one is no error."""

    def retire(self, address: str) -> None:
        """Give the worker no more tasks and replace its job: too little of its walltime is left."""

    def larger(self) -> bool:
        """See to it that tasks can be done with more memory (a job is asked for on demand), if at all."""

    def resources(self, task: Mapping[str, float], alone: bool, large: bool) -> dict[str, float]:
        """What to submit a task with: its resources, alone in a worker process, with more memory."""

    def jobs(self) -> list[str]:
        """Ids of the Slurm jobs that run or wait."""

    def allowance(self, large: bool = False) -> int:
        """Anonymous memory that a worker process may use [byte]; 0 where there is no telling."""

    def dashboard(self) -> str | None:
        """Address of Dask's dashboard, where there is one."""

    def close(self) -> None:
        """Stop the workers."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
