"""Models by handle: a path and a checksum travel with tasks, weights are opened where they are needed.

A task that held the weights would carry them through the scheduler once for each region. A handle is a
hundred bytes; each process opens its model once, and refuses one that changed since the handle was made.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..checkpoints import Checkpoint, checkpoint_digest, load_checkpoint, save_checkpoint
from ..errors import ConfigError, InputError
from .batches import Batches, precision_of
from .inference import device_of
from .unet import Architecture, UNet3D, folded, hollow

#: What a saved U-Net is called in its checkpoint.
KIND = "unet3d"
#: Models that a process keeps open.
MOST_OPEN = 4

Weights = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Saved:
    """What a checkpoint of a U-Net holds.

    Attributes
    ----------
    network : UNet3D
        On the CPU, in float32, as it was trained.
    normalisation : mapping
        How its inputs were made, as JSON values.
    provenance : mapping
        How it was trained, as JSON values.
    """

    network: UNet3D
    normalisation: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def architecture(self) -> Architecture:
        """What the network is built from."""
        return self.network.architecture


class Counted(Batches):
    """Batches that know what share of the work was rows, and what share filled them up.

    Attributes
    ----------
    rows, sent : int
        Rows that were answered, and those that went through the network.
    seconds : float
        Processor time of the threads that called the network [s].
    """

    def __init__(
        self,
        network: Callable[[Tensor], Tensor],
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        size: int | None = None,
    ) -> None:
        super().__init__(self._counting, device, dtype, size)
        self._counted = network
        self.rows, self.sent, self.seconds = 0, 0, 0.0

    def _counting(self, voxels: Tensor) -> Tensor:
        begin = time.thread_time()
        found = self._counted(voxels)
        self.seconds += time.thread_time() - begin
        self.sent += len(voxels)
        return found

    def __call__(self, rows: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[Any]]:
        """As :class:`~fmbdask.models.batches.Batches`."""
        for found in super().__call__(rows):
            self.rows += len(found)
            yield found

    @property
    def tally(self) -> tuple[int, int, float]:
        """Rows, sent and seconds until now."""
        return self.rows, self.sent, self.seconds

    def filling(self, since: tuple[int, int, float]) -> float:
        """Time that went into rows that only filled batches since a :attr:`tally` [s]."""
        rows, sent, seconds = (now - then for now, then in zip(self.tally, since, strict=True))
        return seconds * (1 - rows / sent) if sent else 0.0


class OpenNetwork:
    """A network that is ready to run: norms folded, on its device, in its precision.

    Parameters
    ----------
    saved : Saved
    device : {"auto", "cpu", "cuda"}
        ``auto`` takes a GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float16"}
        See :func:`fmbdask.models.batches.precision_of`.
    size : int, optional
        Patches of a batch; found for the device if not given.
    """

    def __init__(
        self, saved: Saved, *, device: str = "auto", precision: str = "float32", size: int | None = None
    ) -> None:
        self.architecture = saved.architecture
        self.normalisation, self.provenance = dict(saved.normalisation), dict(saved.provenance)
        self.device = device_of(device)
        dtype = precision_of(precision, self.device)
        network = folded(saved.network).to(self.device, dtype)
        self.network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.batches = Counted(self._probabilities, self.device, dtype, size)

    def _probabilities(self, voxels: Tensor) -> Tensor:
        return torch.softmax(self.network(voxels).float(), dim=1)


@dataclass(frozen=True)
class ModelHandle:
    """A saved network by its place and its checksum: all that travels with a task.

    Attributes
    ----------
    path : str
        Folder of the checkpoint, where every worker sees it.
    sha256 : str
        See :func:`fmbdask.checkpoints.checkpoint_digest`.
    """

    path: str
    sha256: str

    @classmethod
    def of(cls, folder: str | os.PathLike[str]) -> ModelHandle:
        """Name the model that a folder holds now.

        Raises
        ------
        InputError
            If it holds none.
        """
        path = os.path.abspath(os.fspath(folder))
        return cls(path, checkpoint_digest(path))

    def load(
        self, *, device: str = "auto", precision: str = "float32", size: int | None = None
    ) -> OpenNetwork:
        """Load the model, once in a process for each device and precision.

        Parameters
        ----------
        device, precision, size
            See :class:`OpenNetwork`.

        Returns
        -------
        OpenNetwork
            May be used by several threads.

        Raises
        ------
        InputError
            If the model is missing, damaged, or another one than the handle was made of.
        ConfigError
            If the device or the precision is not there.
        """
        key = (self.sha256, str(device_of(device)), precision, size)
        with _lock:
            if key not in _open:
                _open[key] = OpenNetwork(
                    load_network(self.path, digest=self.sha256), device=device, precision=precision, size=size
                )
                while len(_open) > MOST_OPEN:
                    _open.popitem(last=False)
            _open.move_to_end(key)
            return _open[key]


_lock = threading.Lock()
_open: OrderedDict[tuple[Any, ...], OpenNetwork] = OrderedDict()


def save_network(
    folder: str | os.PathLike[str],
    network: UNet3D,
    *,
    normalisation: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> ModelHandle:
    """Keep a network as safetensors and JSON.

    Parameters
    ----------
    folder : path
    network : UNet3D
    normalisation, provenance : mapping, optional
        How its inputs were made, and how it was trained: JSON values.
    overwrite : bool

    Returns
    -------
    ModelHandle

    Raises
    ------
    OutputExistsError
        If the folder exists and is not to be overwritten.
    """
    meta = {
        "architecture": network.architecture.as_dict(),
        "normalisation": dict(normalisation or {}),
        "provenance": dict(provenance or {}),
    }
    save_checkpoint(folder, Checkpoint(KIND, weights_of(network), meta), overwrite=overwrite)
    return ModelHandle.of(folder)


def load_network(
    folder: str | os.PathLike[str],
    *,
    classes: Sequence[str] | None = None,
    channels: int | None = None,
    digest: str | None = None,
) -> Saved:
    """Read a saved network.

    Parameters
    ----------
    folder : path
    classes : sequence of str, optional
        Which it must have.
    channels : int, optional
        How many values of a voxel it must take.
    digest : str, optional
        What :func:`fmbdask.checkpoints.checkpoint_digest` must say of it.

    Raises
    ------
    InputError
        If it is missing, damaged, or another one than is wanted.
    """
    saved = load_checkpoint(folder, KIND, digest=digest)
    found = restored(str(Path(folder)), saved.meta, saved.arrays)
    check_network(str(Path(folder)), found.architecture, classes=classes, channels=channels)
    return found


def check_network(
    where: str,
    architecture: Architecture,
    *,
    classes: Sequence[str] | None = None,
    channels: int | None = None,
) -> None:
    """Refuse a network that has other classes or takes other inputs than are wanted.

    Raises
    ------
    InputError
        Naming both.
    """
    if classes is not None and tuple(classes) != architecture.classes:
        raise InputError(
            f"{where} holds a network of {len(architecture.classes)} classes "
            f"({', '.join(architecture.classes)}), not of {len(classes)} ({', '.join(classes)}): "
            "give another model"
        )
    if channels is not None and channels != architecture.channels:
        raise InputError(
            f"{where} holds a network that takes {architecture.channels} values of a voxel, not {channels}: "
            "give another model"
        )


def weights_of(network: UNet3D) -> dict[str, NDArray[Any]]:
    """Everything that a network has learnt, by name."""
    return {name: values.detach().cpu().numpy() for name, values in network.state_dict().items()}


def restored(where: str, meta: Mapping[str, Any], weights: Weights) -> Saved:
    """Build a network from what was saved of it, after a look at every name and shape.

    Raises
    ------
    InputError
        If they do not belong together.
    """
    try:
        architecture = Architecture.from_dict(meta["architecture"])
        rest = [meta.get(name, {}) for name in ("normalisation", "provenance")]
        if not all(isinstance(one, dict) for one in rest):
            raise ConfigError("the normalisation or the provenance is no object: train the model again")
        network = hollow(architecture)
        _check(network.state_dict(), weights)
    except KeyError as error:
        raise InputError(f"{where} holds no network that can be used ({error} is missing)") from None
    except ConfigError as error:
        raise InputError(f"{where} holds no network that can be used ({error})") from None
    network.load_state_dict(
        {name: torch.from_numpy(np.array(values)) for name, values in weights.items()}, assign=True
    )
    return Saved(network.eval(), *rest)


def _check(wanted: Mapping[str, Tensor], weights: Weights) -> None:
    for name in sorted(set(wanted) ^ set(weights)):
        raise ConfigError(f"its weights {'lack' if name in wanted else 'have the foreign array'} {name}")
    for name, values in wanted.items():
        found = weights[name]
        if found.shape != tuple(values.shape):
            raise ConfigError(
                f"its weights {name} have shape {found.shape}, its architecture {tuple(values.shape)}"
            )
        if str(found.dtype) != str(values.dtype).removeprefix("torch."):
            raise ConfigError(f"its weights {name} are {found.dtype}, not {values.dtype}")
        if not np.isfinite(found).all() or (name.endswith("running_var") and (found < 0).any()):
            raise ConfigError(f"its weights {name} are not finite")
