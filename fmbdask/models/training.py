"""Training of networks: minibatches, a learning rate that rises and falls, and the best weights kept.

The same seed gives the same bits on one machine: batches are drawn from a generator of their own, and torch
is held to one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, InputError
from .inference import one_torch_thread

#: Rows of a batch in which the validation loss is taken.
VALIDATION_BATCH = 4096

Loss = Callable[..., Tensor]


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes
    ----------
    learning_rate : float
        The largest one, of AdamW.
    schedule : {"cosine", "constant"}
        ``cosine`` rises over the first tenth of all steps and falls to zero along half a cosine.
    batch : int
        Rows of a step.
    epochs : int
        Passes over the rows, at most.
    patience : int
        Passes without a better validation loss after which it ends.
    weight_decay : float
    gradient_clip : float
        Largest norm of the gradient.
    """

    learning_rate: float = 2e-3
    schedule: str = "cosine"
    batch: int = 512
    epochs: int = 20
    patience: int = 5
    weight_decay: float = 1e-5
    gradient_clip: float = 5.0

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "constant"):
            raise ConfigError(f"there is no learning-rate schedule {self.schedule}: give cosine or constant")
        for name in ("learning_rate", "batch", "epochs", "patience", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} of the training is {getattr(self, name)}: give more than 0")
        if self.weight_decay < 0:
            raise ConfigError(f"weight_decay of the training is {self.weight_decay}: give 0 or more")

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of one step of all."""
        if self.schedule == "constant":
            return self.learning_rate
        rise = max(1, steps // 10)
        if step < rise:
            return self.learning_rate * (step + 1) / rise
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


@dataclass
class History:
    """What happened in a training.

    Attributes
    ----------
    training : list of float
        Mean loss of the batches of each epoch.
    validation : list of float
        Loss of the validation rows, before the first epoch and after each.
    best : int
        Epochs after which it was lowest: the weights that were kept; 0 for none.
    """

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"training": self.training, "validation": self.validation, "best": self.best}


def train(
    network: torch.nn.Module,
    data: Sequence[Tensor],
    validation: Sequence[Tensor],
    loss: Loss,
    options: Training,
    *,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> History:
    """Train a network in place, and leave it with the weights of its lowest validation loss.

    Parameters
    ----------
    network : torch.nn.Module
        On the device that it is to be trained on.
    data, validation : sequence of (n, ...) tensors
        What the loss takes, on any device; rows of one number belong together.
    loss : callable
        Called with a batch of each tensor; returns the loss of each of its rows, (batch,).
    options : Training
    seed : int
        Of the order of the rows.
    progress : callable, optional
        Called with (epochs done, epochs, text).

    Returns
    -------
    History

    Raises
    ------
    InputError
        If there are no rows, or the validation loss was never finite.
    """
    rows = len(data[0])
    if not rows or not len(validation[0]):
        raise InputError(f"{rows} rows to train on and {len(validation[0])} to validate are too few")
    device = next(network.parameters()).device
    batch = min(options.batch, rows)
    steps_of_epoch = rows // batch
    steps = steps_of_epoch * options.epochs
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, fused=True
    )
    with one_torch_thread():
        history = History(validation=[_validate(validation, loss, device)])
        kept = _copy(network)
        for epoch in range(options.epochs):
            order = torch.randperm(rows, generator=generator)
            total = 0.0
            for step in range(steps_of_epoch):
                which = order[step * batch : (step + 1) * batch]
                for group in optimizer.param_groups:
                    group["lr"] = options.rate(epoch * steps_of_epoch + step, steps)
                optimizer.zero_grad()
                value = loss(*(tensor[which].to(device) for tensor in data)).mean()
                torch.autograd.backward(value)
                norm = torch.nn.utils.clip_grad_norm_(network.parameters(), options.gradient_clip)
                if torch.isfinite(norm):  # a step along a gradient that is not finite ends every training
                    optimizer.step()
                total += float(value.detach())
            history.training.append(total / steps_of_epoch)
            history.validation.append(_validate(validation, loss, device))
            if history.validation[-1] < _or_infinity(history.validation[history.best]):
                history.best, kept = epoch + 1, _copy(network)
            if progress is not None:
                progress(epoch + 1, options.epochs, f"validation loss {history.validation[-1]:.4g}")
            if epoch + 1 - history.best >= options.patience:
                break
    if not math.isfinite(history.validation[history.best]):
        raise InputError(
            f"the training diverged at a learning rate of {options.learning_rate:g}: give a lower one"
        )
    network.load_state_dict(kept)
    return history


def _validate(validation: Sequence[Tensor], loss: Loss, device: torch.device) -> float:
    rows = len(validation[0])
    with torch.inference_mode():
        total = sum(
            float(loss(*(t[i : i + VALIDATION_BATCH].to(device) for t in validation)).double().sum())
            for i in range(0, rows, VALIDATION_BATCH)
        )
    return total / rows


def _copy(network: torch.nn.Module) -> dict[str, Tensor]:
    return {name: values.detach().clone() for name, values in network.state_dict().items()}


def _or_infinity(value: float) -> float:
    return value if math.isfinite(value) else math.inf
