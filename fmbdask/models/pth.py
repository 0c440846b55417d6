"""Networks as one file of torch, ``best_model_unet3d.pth``, for programs that read nothing else.

Such a file is a pickle inside of a zip. It is read by ``torch.load(weights_only=True)`` alone, which
calls nothing that a file names.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from ..errors import InputError
from .handles import Saved, restored
from .unet import Architecture

#: The usual name of such a file.
PTH_NAME = "best_model_unet3d.pth"
#: Where the weights are, and everything else.
STATE, META = "model_state_dict", "meta"


def to_pth(saved: Saved) -> bytes:
    """Content of a ``.pth`` file of a network.

    Parameters
    ----------
    saved : Saved

    Returns
    -------
    bytes
        What ``torch.load(weights_only=True)`` reads as ``{"model_state_dict": tensors, "meta": values}``.
    """
    content = io.BytesIO()
    meta = {
        "architecture": saved.architecture.as_dict(),
        "normalisation": dict(saved.normalisation),
        "provenance": dict(saved.provenance),
    }
    torch.save({STATE: dict(saved.network.state_dict()), META: meta}, content)
    return content.getvalue()


def from_pth(content: bytes, where: str, architecture: Architecture | None = None) -> Saved:
    """Read the content of a ``.pth`` file of a network; nothing in it is run.

    Parameters
    ----------
    content : bytes
    where : str
        Its name, for errors.
    architecture : Architecture, optional
        Of files that hold the weights alone.

    Raises
    ------
    InputError
        If it is damaged, holds anything but weights and plain values, or weights of another network.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what is refused a line later
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what is damaged or made to harm fails anywhere in the reader
        reason = next(iter(str(error).splitlines()), "").split(". ")[0][:100] or type(error).__name__
        raise InputError(
            f"{where} cannot be read as weights of a network ({reason}): export it again"
        ) from None
    whole = isinstance(found, Mapping) and STATE in found
    state, meta = (found[STATE], found.get(META, {})) if whole else (found, {})
    if not isinstance(state, Mapping) or not isinstance(meta, Mapping):
        raise InputError(f"{where} holds no weights of a network by name: export it again")
    if not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise InputError(f"{where} holds weights that are no tensors: export it again")
    known: dict[str, Any] = dict(meta)
    if architecture is not None:
        known["architecture"] = architecture.as_dict()
    try:
        weights = {name: values.numpy() for name, values in state.items()}
    except (TypeError, RuntimeError) as error:  # a type that NumPy does not have, a sparse tensor
        raise InputError(
            f"{where} holds weights that are no plain arrays ({error}): export it again"
        ) from None
    return restored(where, known, weights)
