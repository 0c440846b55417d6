"""Trainings on several processes in step, by torch's own means: gradients are averaged after each batch.

Several GPUs: one process for each, with NCCL; CPUs: Gloo. Under ``torchrun`` the processes are there already
(:func:`join`); without it :func:`run_in_step` starts them on this machine.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from ..errors import ConfigError

Value = TypeVar("Value")


def rank_of() -> int:
    """Number of this process among those in step."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def world_of() -> int:
    """How many processes are in step."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def join() -> bool:
    """Join the processes that ``torchrun`` started, if it did.

    Returns
    -------
    bool
        Whether there are any; the one that joins leaves with ``torch.distributed.destroy_process_group()``.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return False
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return True


def run_in_step(work: Callable[..., Any], arguments: tuple[Any, ...], processes: int) -> None:
    """Run a function in several processes on this machine that train in step.

    Parameters
    ----------
    work : callable
        Of a module, so that it can be sent; what it makes it keeps in files.
    arguments : tuple
    processes : int
        With GPUs, at most as many as there are.

    Raises
    ------
    ConfigError
        If there are fewer GPUs.
    """
    gpus = torch.cuda.device_count()
    if gpus and processes > gpus:
        raise ConfigError(f"{processes} processes want a GPU each and there are {gpus}: give {gpus} or fewer")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
        _entry, (work, arguments, processes, port), nprocs=processes
    )


def _entry(
    rank: int, work: Callable[..., Any], arguments: tuple[Any, ...], processes: int, port: int
) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    if not torch.cuda.is_available():
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    join()
    try:
        work(*arguments)
    finally:
        distributed.destroy_process_group()


def in_step(network: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a network so that gradients are averaged over all processes; itself where there is one."""
    if world_of() == 1:
        return network
    return nn.parallel.DistributedDataParallel(
        network, device_ids=[torch.cuda.current_device()] if device.type == "cuda" else None
    )


def summed(values: Tensor) -> Tensor:
    """Sum of a tensor over all processes."""
    if world_of() > 1:
        distributed.all_reduce(values)
    return values


def agreed(value: Value, device: torch.device) -> Value:
    """What the first process has found: numbers, or lists and mappings of them."""
    if world_of() == 1:
        return value
    shared = [value]
    distributed.broadcast_object_list(shared, 0, device=device)
    return shared[0]


def same_buffers(network: nn.Module) -> None:
    """Give all processes the buffers (statistics of norms) of the first."""
    if world_of() > 1:
        for buffer in network.buffers():
            distributed.broadcast(buffer, 0)
