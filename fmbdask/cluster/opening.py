"""Workers by what `--cluster` names: each kind is imported when it is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from .config import ClusterConfig, read_cluster
from .protocol import Cluster


def take_role(spec: str | os.PathLike[str] | ClusterConfig | None) -> None:
    """Inside an allocation every task runs the same command: all but the coordinator take their roles here.

    To be called before a command does anything; only the coordinator's call returns. Has no effect unless
    ``spec`` is of kind ``runner``.

    Raises
    ------
    ClusterError
        If there are too few tasks.
    """
    if spec is None:
        return
    config = read_cluster(spec if isinstance(spec, ClusterConfig) else os.fspath(spec))
    if config.kind == "runner":
        from .runner import join_allocation

        join_allocation(config)


def open_cluster(
    spec: str | Path | ClusterConfig,
    *,
    slots: int | None = None,
    memory: int | None = None,
    log_folder: Path,
    resources: Sequence[Mapping[str, float]] = (),
) -> Cluster:
    """Start workers, or connect to those that are there.

    Parameters
    ----------
    spec : str, Path or ClusterConfig
        ``local``, ``threads``, ``runner``, ``tcp://HOST:PORT`` or the path of a YAML file.
    slots : int, optional
        Threads for ordinary tasks; what the file says by default.
    memory : int, optional
        Anonymous memory that a worker process needs, as planned [byte].
    log_folder : Path
        Where jobs leave their logs, and their numbers.
    resources : sequence of mapping
        What the stages will ask for beside a thread, ``{"GPU": 1}``.

    Raises
    ------
    ConfigError
        For a file that cannot be used.
    ClusterError
        If there can be no workers, or none that offer these resources.
    """
    config = read_cluster(spec)
    if config.kind in ("local", "threads"):
        from .local import LocalWorkers

        return LocalWorkers(config, slots=slots, memory=memory, resources=resources)
    if config.kind == "slurm":
        from .slurm import SlurmWorkers

        return SlurmWorkers(config, slots=slots, memory=memory, log_folder=log_folder, resources=resources)
    if config.kind == "runner":
        from .runner import RunnerWorkers

        return RunnerWorkers(config, memory=memory, log_folder=log_folder, resources=resources)
    from .existing import ExistingWorkers

    return ExistingWorkers(config, memory=memory, resources=resources)
