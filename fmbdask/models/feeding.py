"""Labelled patches on their way into a training: their order, batches made ahead, and counts of classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

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


class LabelledPatch(NamedTuple):
    """A patch, what is true of its voxels, and what is proposed of some of them.

    Attributes
    ----------
    inputs : (channels, time, y, x) float32 array
    classes : (time, y, x) uint8 array
        255 where it counts nowhere.
    weight : (time, y, x) float32 array, optional
        Of each voxel.
    region : (time, y, x) bool array, optional
        Voxels that are proposed to be of one class together; none, or no voxel, where nothing is proposed.
    real : bool
        Whether they are.
    known : float
        Log-odds of that which are known without the network.
    """

    inputs: NDArray[Any]
    classes: NDArray[Any]
    weight: NDArray[Any] | None = None
    region: NDArray[Any] | None = None
    real: bool = False
    known: float = 0.0


class Batch(NamedTuple):
    """Patches of one step, as tensors with an axis before the others: see :class:`LabelledPatch`.

    ``weight`` is None where no patch has one, ``region``, ``real`` and ``known`` where nothing is proposed.
    """

    inputs: Tensor
    classes: Tensor
    weight: Tensor | None
    region: Tensor | None
    real: Tensor | None
    known: Tensor | None


class LabelledPatches(Protocol):
    """Patches with a class in each voxel: an array, a store, a simulator."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, number: int, /) -> tuple[Any, ...]:
        """A :class:`LabelledPatch`, or a tuple of its first values.

        Called from one thread beside the training.
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
        axes = [axis for bit, axis in enumerate((-2, -1)) if flips and step[1] >> bit & 1]

        def stacked(name: str, usual: float = 0) -> Tensor | None:
            given = [getattr(part, name) for part in parts]
            there = [one for one in given if one is not None]
            if not there:
                return None
            whole = [np.full_like(there[0], usual) if one is None else one for one in given]
            found = torch.from_numpy(np.stack(whole))
            return found.flip(axes) if axes else found

        inputs, classes, region = stacked("inputs"), stacked("classes"), stacked("region")
        assert inputs is not None
        assert classes is not None
        real, known = (
            None if region is None else torch.tensor([float(getattr(part, name)) for part in parts])
            for name in ("real", "known")
        )
        inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
        return _each(Batch(inputs, classes, stacked("weight", 1), region, real, known), _pinned(device))

    with ThreadPoolExecutor(1, thread_name_prefix="patches") as beside:
        waiting = [beside.submit(made, step) for step in order[:AHEAD]]
        for number in range(len(order)):
            ready = waiting.pop(0).result()
            if number + AHEAD < len(order):
                waiting.append(beside.submit(made, order[number + AHEAD]))
            yield _each(ready, lambda one: one.to(device, non_blocking=True))


def _checked(patch: tuple[Any, ...], number: int, architecture: Architecture) -> LabelledPatch:
    given = LabelledPatch(*patch)
    inputs, classes = np.asarray(given.inputs, np.float32), np.asarray(given.classes)
    weight = None if given.weight is None else np.asarray(given.weight, np.float32)
    region = None if given.region is None else np.asarray(given.region, np.bool_)
    others = [one for one in (classes, weight, region) if one is not None]
    if (
        inputs.ndim != 4
        or len(inputs) != architecture.channels
        or any(one.shape != inputs.shape[1:] for one in others)
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
    answers = classes.astype(np.uint8, copy=False)
    return LabelledPatch(inputs, answers, weight, region, bool(given.real), float(given.known))


def _pinned(device: torch.device) -> Callable[[Tensor], Tensor]:
    return torch.Tensor.pin_memory if device.type == "cuda" else lambda one: one


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    more = (None if one is None else change(one) for one in batch[2:])
    return Batch(change(batch.inputs), change(batch.classes), *more)


def count_classes(data: LabelledPatches, architecture: Architecture) -> NDArray[np.int64]:
    """Voxels of each class, in patches taken evenly over all.

    Raises
    ------
    InputError
        If a patch is none for this network.
    """
    counts = np.zeros(256, np.int64)
    for number in np.unique(np.linspace(0, len(data) - 1, MOST_COUNTED).round().astype(int)).tolist():
        classes = _checked(data[number], number, architecture).classes
        counts += np.bincount(classes.ravel(), minlength=256)
    return counts[: len(architecture.classes)]
