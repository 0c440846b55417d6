"""Labelled patches on their way into a training: their order, batches made ahead, and counts of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError
from .parallel import rank_of, world_of
from .unet import Architecture
from .voxels import IGNORED

#: Patches whose classes are counted, evenly over all.
MOST_COUNTED = 512
#: Batches that are made ahead.
AHEAD = 2

Batch = tuple[Tensor, Tensor, Tensor | None]


class LabelledPatches(Protocol):
    """Patches with a class in each voxel: an array, a store, a simulator."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, number: int, /) -> tuple[NDArray[Any], ...]:
        """(inputs, classes) or (inputs, classes, weight) of one.

        (channels, time, y, x) float32, (time, y, x) uint8 with 255 where it counts nowhere, and (time, y, x)
        float32. Called from one thread beside the training.
        """


class Order:
    """Which patches make each step, the same in all processes of a training.

    Parameters
    ----------
    patches : int
    batch : int
        Of all processes together.
    seed : int
    """

    def __init__(self, patches: int, batch: int, seed: int) -> None:
        self.patches, self.seed, self.world = patches, seed, world_of()
        self.batch = max(1, min(batch, patches) // self.world)
        self.steps = patches // (self.batch * self.world)
        if not self.steps:
            raise InputError(
                f"{patches} patches are too few for {self.world} processes: give more, or fewer processes"
            )

    def of_epoch(self, epoch: int) -> list[tuple[list[int], int]]:
        """Patches of each step of this process, and a seed for how they are turned."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(self.patches).tolist()
        each = self.batch * self.world
        turns = random.integers(0, 4, self.steps).tolist()
        first = rank_of() * self.batch
        return [
            (order[k * each + first : k * each + first + self.batch], turn) for k, turn in enumerate(turns)
        ]

    def of_validation(self, patches: int) -> list[tuple[list[int], int]]:
        """Validation patches of this process, in batches."""
        own = list(range(rank_of(), patches, self.world))
        return [(own[i : i + self.batch], 0) for i in range(0, len(own), self.batch)]


def batches_of(
    data: LabelledPatches,
    order: Sequence[tuple[list[int], int]],
    architecture: Architecture,
    device: torch.device,
    flips: bool = False,
) -> Iterator[Batch]:
    """Make batches, a few ahead of those that are used.

    Parameters
    ----------
    data : LabelledPatches
    order : sequence
        Patches of each batch, and which of rows and columns are turned over (bits 0 and 1).
    architecture : Architecture
        Of the network that takes them.
    device : torch.device
    flips : bool
        Whether they are turned over at all.

    Raises
    ------
    InputError
        If a patch is none for this network.
    """

    def made(step: tuple[list[int], int]) -> Batch:
        parts = [_checked(data[number], number, architecture) for number in step[0]]
        weighted = len(parts[0]) > 2
        tensors = [_stacked([part[k] for part in parts], device) for k in range(3 if weighted else 2)]
        if flips:
            axes = [axis for bit, axis in enumerate((-2, -1)) if step[1] >> bit & 1]
            tensors = [tensor.flip(axes) for tensor in tensors]
        inputs = tensors[0].contiguous(memory_format=torch.channels_last_3d)
        return inputs, tensors[1], tensors[2] if weighted else None

    with ThreadPoolExecutor(1, thread_name_prefix="patches") as beside:
        waiting = [beside.submit(made, step) for step in order[:AHEAD]]
        for number in range(len(order)):
            ready = waiting.pop(0).result()
            if number + AHEAD < len(order):
                waiting.append(beside.submit(made, order[number + AHEAD]))
            inputs, classes, weight = ready
            yield (
                inputs.to(device, non_blocking=True),
                classes.to(device, non_blocking=True),
                None if weight is None else weight.to(device, non_blocking=True),
            )


def _checked(
    patch: tuple[NDArray[Any], ...], number: int, architecture: Architecture
) -> tuple[NDArray[Any], ...]:
    inputs, classes = np.asarray(patch[0], np.float32), np.asarray(patch[1])
    weights = tuple(np.asarray(weight, np.float32) for weight in patch[2:3])
    if (
        inputs.ndim != 4
        or len(inputs) != architecture.channels
        or any(one.shape != inputs.shape[1:] for one in (classes, *weights))
    ):
        raise InputError(
            f"patch {number} has inputs of shape {inputs.shape} and classes of shape {classes.shape}: give "
            f"({architecture.channels}, time, y, x) and (time, y, x)"
        )
    most = len(architecture.classes)
    foreign = (classes >= most) & (classes != IGNORED)
    if foreign.any():
        raise InputError(
            f"patch {number} has voxels of class {classes[foreign][0]}, and the network has classes 0 to "
            f"{most - 1}: give a network of more classes"
        )
    return inputs, classes.astype(np.uint8, copy=False), *weights


def _stacked(arrays: list[NDArray[Any]], device: torch.device) -> Tensor:
    found = torch.from_numpy(np.stack(arrays))
    return found.pin_memory() if device.type == "cuda" else found


def count_classes(data: LabelledPatches, architecture: Architecture) -> NDArray[np.int64]:
    """Voxels of each class, in patches taken evenly over all.

    Raises
    ------
    InputError
        If a patch is none for this network.
    """
    counts = np.zeros(256, np.int64)
    for number in np.unique(np.linspace(0, len(data) - 1, MOST_COUNTED).round().astype(int)).tolist():
        classes = _checked(data[number], number, architecture)[1]
        counts += np.bincount(classes.ravel(), minlength=256)
    return counts[: len(architecture.classes)]
