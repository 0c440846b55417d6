"""The network of a detection, chosen once: place and checksum travel with the settings, weights never do."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from ...checkpoints import checkpoint_digest
from ...errors import InputError
from ...ramps.config import DetectionConfig
from ...ramps.network.shipped import SHIPPED, network_folder

if TYPE_CHECKING:
    from ...models.handles import OpenNetwork


def pinned(settings: DetectionConfig) -> DetectionConfig:
    """Choose the network that a folder holds now, or that a name stands for: its path absolute, its checksum.

    Parameters
    ----------
    settings : DetectionConfig
        As they are where no network is asked.

    Raises
    ------
    InputError
        If the folder holds none, or another one than the checksum of the settings says.
    """
    if settings.model is None:
        return settings
    # one that comes with fmbdask keeps its name: it lies elsewhere on another machine
    path = settings.model if settings.model in SHIPPED else os.path.abspath(settings.model)
    found = checkpoint_digest(network_folder(path))
    if settings.model_sha256 not in (None, found):
        raise InputError(
            f"{path} holds another model ({found}) than model_sha256 says ({settings.model_sha256}): give "
            "the model of that checksum, or leave model_sha256 out"
        )
    return settings.model_copy(update={"model": path, "model_sha256": found})


def open_network(settings: DetectionConfig) -> OpenNetwork | None:
    """Open the network of settings, once a process, and refuse one that cannot be asked here.

    Parameters
    ----------
    settings : DetectionConfig
        From :func:`pinned`.

    Returns
    -------
    OpenNetwork or None
        None where no network is asked.

    Raises
    ------
    InputError
        If torch is not installed, or the model is missing, damaged, another one than was chosen, or trained
        for something else.
    ConfigError
        If the device or the precision is not there.
    """
    if settings.model is None:
        return None
    from ...models import need

    need("networks", "torch")
    from ...models.handles import ModelHandle
    from ...models.inference import one_torch_thread
    from ...ramps.network.hybrid import check_network

    handle = ModelHandle.of(network_folder(settings.model))
    if settings.model_sha256 not in (None, handle.sha256):
        raise InputError(
            f"{settings.model} holds another model on {socket.gethostname()} than when it was chosen: "
            "restore it, or resume the run with --accept-changes"
        )
    with one_torch_thread():
        network = handle.load(device=settings.model_device, precision=settings.model_precision)
    check_network(network, settings.model)
    return network
