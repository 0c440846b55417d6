"""Training of 3D U-Nets on patches with a class in each voxel, on one process or on several in step.

After each epoch the whole state is kept, so that a training that was killed goes on as if it had not been: on
one machine and with as many threads, a CPU comes to the same bits.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoints import Checkpoint, load_last_step, save_step
from ..errors import ConfigError, InputError
from .batches import precision_of
from .feeding import Batch, LabelledPatches, Order, batches_of, count_classes
from .handles import OpenNetwork, Saved, weights_of
from .inference import device_of
from .parallel import agreed, in_step, rank_of, same_buffers, summed
from .training import Training
from .unet import Architecture, UNet3D, build_unet
from .voxels import accuracy_of, class_weights, confusion, iou_of, proposal_loss, segmentation_loss

#: What the state of a training is called in its checkpoint.
KIND = "unet3d-training"

#: Gives the score of a network; or figures by name, the first of which is the score.
Score = Callable[[OpenNetwork], float | Mapping[str, float]]


@dataclass(frozen=True)
class SegmentTraining(Training):
    """How a U-Net is trained; see :class:`fmbdask.models.training.Training` for what it shares.

    Attributes
    ----------
    batch : int
        Patches of a step, over all processes.
    patience : int
        Epochs without a better score or a lower validation loss after which it ends.
    balance : float
        How much heavier rare classes are: 0 equal weights of voxels, 1 of classes.
    dice : float
        Weight of the Dice loss against one of the cross entropy.
    proposals : float
        Weight of the loss of what is proposed of regions, see
        :func:`fmbdask.models.voxels.proposal_loss`, against one of the cross entropy of voxels.
    flips : bool
        Whether patches are turned over in rows and columns at random.
    precision : {"auto", "float32", "bfloat16", "float16"}
        Of convolutions; weights stay float32.
    """

    learning_rate: float = 3e-3
    batch: int = 8
    weight_decay: float = 1e-4
    balance: float = 0.5
    dice: float = 0.0
    proposals: float = 1.0
    flips: bool = True
    precision: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"balance of the training is {self.balance}: give 0 to 1")
        for name in ("dice", "proposals"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} of the training is {getattr(self, name)}: give 0 or more")


@dataclass
class Trained:
    """What a training made.

    Attributes
    ----------
    network : UNet3D
        With the weights of its best epoch, on the CPU.
    history : dict
        JSON values, with one number an epoch: ``train_loss``, ``train_accuracy``, ``val_loss``,
        ``val_accuracy``, ``val_iou`` (by class; None where a class is nowhere), ``val_score``,
        ``learning_rate`` and ``seconds``, and ``val_`` and its name for each further figure of the score;
        and ``best``, the number of epochs after which the score was highest.
    """

    network: UNet3D
    history: dict[str, Any]


def train_unet(
    architecture: Architecture,
    data: LabelledPatches,
    validation: LabelledPatches,
    options: SegmentTraining,
    *,
    seed: int = 0,
    device: str = "auto",
    score: Score | None = None,
    proposed: int = 1,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> Trained:
    """Train a 3D U-Net to tell the class of each voxel.

    Parameters
    ----------
    architecture : Architecture
    data, validation : LabelledPatches
        ``len()`` patches; ``[i]`` gives a :class:`fmbdask.models.feeding.LabelledPatch`, or a tuple of its
        first values: (inputs, classes), say.
    options : SegmentTraining
    seed : int
        Of the first weights, the order of patches and how they are turned.
    device : {"auto", "cpu", "cuda"}
    score : callable, optional
        Called after each epoch with the network, ready to run; the epoch of the largest score is the best.
        Of several figures by name the first is the score, and the others are kept in the history. Mean
        intersection over union of all classes but the first on the validation patches by default.
    proposed : int
        Class that the regions of patches are proposed to be of.
    folder : path, optional
        Where the state is kept after each epoch.
    resume : bool
        Whether to go on from the state in the folder, if there is one.
    progress : callable, optional
        Called with (steps done, steps, text).

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        If there are no patches, the state in the folder belongs to another training, or no epoch had a finite
        score.

    Notes
    -----
    Where torch.distributed is initialised (:func:`fmbdask.models.parallel.run_in_step`), processes share the
    patches of each step and have the same weights.

    Sources: Çiçek et al. 2016, arXiv:1606.06650; Ronneberger, Fischer & Brox 2015, arXiv:1505.04597;
    Loshchilov & Hutter 2019, arXiv:1711.05101 (AdamW).
    """
    if not len(data) or not len(validation):
        raise InputError(f"{len(data)} patches to train on and {len(validation)} to validate are too few")
    if not 0 <= proposed < len(architecture.classes):
        raise InputError(
            f"there is no class {proposed} to propose: give 0 to {len(architecture.classes) - 1}"
        )
    loop = _Loop(architecture, data, options, proposed, seed, device_of(device))
    if folder is not None and resume:
        loop.restore(load_last_step(folder, KIND))
    while not loop.ended:
        loop.epoch(data, progress)
        loop.validate(validation, score, device)
        if folder is not None and rank_of() == 0:
            save_step(folder, loop.done, loop.state())
    if not loop.best:
        raise InputError(
            f"the training diverged at a learning rate of {options.learning_rate:g}: give a lower one"
        )
    return loop.trained()


class _Loop:
    """A training between two epochs."""

    def __init__(
        self,
        architecture: Architecture,
        data: LabelledPatches,
        options: SegmentTraining,
        proposed: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.options, self.proposed, self.seed, self.device = options, proposed, seed, device
        self.order = Order(len(data), options.batch, seed)
        self.settings = {
            "architecture": architecture.as_dict(), "options": asdict(options), "seed": seed,
            "patches": len(data), "proposed": proposed,
        }  # fmt: skip
        network = build_unet(architecture, seed).to(device)
        self.network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.whole = in_step(self.network, device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.dtype = precision_of(options.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        counts = count_classes(data, architecture)
        self.balance = torch.from_numpy(class_weights(counts, options.balance)).to(device)
        self.kept: dict[str, Any] = {}
        names = ("train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_score", "learning_rate")
        self.history: dict[str, Any] = {name: [] for name in (*names, "seconds")}
        self.history |= {"val_iou": {name: [] for name in architecture.classes}, "best": 0}

    @property
    def done(self) -> int:
        """Epochs so far."""
        return len(self.history["val_score"])

    @property
    def best(self) -> int:
        return int(self.history["best"])

    @property
    def ended(self) -> bool:
        return self.done >= self.options.epochs or self.done - self._last_gain() >= self.options.patience

    def _last_gain(self) -> int:
        """Epochs after which the score or the loss was best: a score may be 0 for a while at first."""
        losses = [one if math.isfinite(one) else math.inf for one in self.history["val_loss"]]
        return max(self.best, 1 + int(np.argmin(losses)) if losses else 0)

    def epoch(self, data: LabelledPatches, progress: Callable[[int, int, str], None] | None) -> None:
        """One pass over all patches."""
        begin, steps = time.perf_counter(), self.order.steps
        losses = torch.zeros((), device=self.device, dtype=torch.float64)
        count = len(self.balance)
        table = torch.zeros((count, count), device=self.device, dtype=torch.int64)
        self.network.train()
        order = self.order.of_epoch(self.done)
        batches = batches_of(data, order, self.network.architecture, self.device, self.options.flips)
        for step, batch in enumerate(batches):
            past = self.done * steps + step
            rate = self.options.rate(past, self.options.epochs * steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.zero_grad()
            logits, loss = self._loss(self.whole, batch)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.scaler.unscale_(self.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.options.gradient_clip)
            if self.scaler.is_enabled() or torch.isfinite(norm):  # the scaler leaves such steps out itself
                self.scaler.step(self.optimizer)
            self.scaler.update()
            losses += loss.detach()
            table += confusion(logits.detach(), batch.classes, batch.weight)
            if progress is not None and rank_of() == 0:
                text = f"epoch {self.done + 1}, loss {float(losses) / (step + 1):.4g}"
                progress(past + 1, self.options.epochs * steps, text)
        total, table = summed(losses), summed(table)
        self.history["train_loss"].append(float(total) / (steps * self.order.world))
        self.history["train_accuracy"].append(accuracy_of(table.cpu().numpy()))
        self.history["learning_rate"].append(rate)
        self.history["seconds"].append(time.perf_counter() - begin)
        same_buffers(self.network)

    def _loss(self, network: torch.nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            logits: Tensor = network(batch.inputs)
        logits, own = logits.float(), self.options
        loss = segmentation_loss(logits, batch.classes, batch.weight, self.balance, own.dice)
        if own.proposals and batch.region is not None and batch.real is not None and batch.known is not None:
            proposed = proposal_loss(logits, batch.region, batch.real, batch.known, self.proposed)
            loss = loss + own.proposals * proposed
        return logits, loss

    def validate(self, validation: LabelledPatches, score: Score | None, device: str) -> None:
        """See how good the network is, and keep it if it is the best so far."""
        count = len(self.balance)
        losses = torch.zeros(2, device=self.device, dtype=torch.float64)
        table = torch.zeros((count, count), device=self.device, dtype=torch.int64)
        self.network.eval()
        with torch.inference_mode():
            order = self.order.of_validation(len(validation))
            for batch in batches_of(validation, order, self.network.architecture, self.device):
                logits, loss = self._loss(self.network, batch)
                rows = len(batch.inputs)
                losses += torch.tensor([float(loss) * rows, rows], device=self.device)
                table += confusion(logits, batch.classes, batch.weight)
        loss_sum, patches = summed(losses).tolist()
        counted = summed(table).cpu().numpy()
        each = iou_of(counted)
        past = self.history
        past["val_loss"].append(loss_sum / patches)
        past["val_accuracy"].append(accuracy_of(counted))
        for name, value in zip(self.network.architecture.classes, each, strict=True):
            past["val_iou"][name].append(value)
        figures: dict[str, float] = {}
        if rank_of() == 0:
            there = [one for one in each[1:] if one is not None]
            found: float | Mapping[str, float] = float(np.mean(there)) if there else -past["val_loss"][-1]
            if score is not None:
                found = score(OpenNetwork(Saved(self.network), device=device, precision=self._precision()))
            several = found if isinstance(found, Mapping) else {"score": found}
            figures = {name: float(one) for name, one in several.items()}
        (_, value), *more = agreed(list(figures.items()), self.device)
        for name, one in [("score", value), *more]:
            past.setdefault(f"val_{name}", []).append(one if math.isfinite(one) else None)
        before = past["val_score"][self.best - 1] if self.best else -math.inf
        if math.isfinite(value) and value > before and math.isfinite(past["val_loss"][-1]):
            past["best"], self.kept = self.done, {n: w.copy() for n, w in weights_of(self.network).items()}

    def _precision(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def trained(self) -> Trained:
        """The network of the best epoch."""
        network = build_unet(self.network.architecture)
        network.load_state_dict({name: torch.from_numpy(values) for name, values in self.kept.items()})
        return Trained(network.eval(), self.history)

    def state(self) -> Checkpoint:
        """All that decides how it goes on."""
        arrays = {f"network.{name}": values for name, values in weights_of(self.network).items()}
        arrays |= {f"best.{name}": values for name, values in self.kept.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            arrays |= {f"optimizer.{number}.{k}": v.detach().cpu().numpy() for k, v in moments.items()}
        meta = {"settings": self.settings, "history": self.history, "scaler": self.scaler.state_dict()}
        return Checkpoint(KIND, arrays, meta)

    def restore(self, saved: Checkpoint | None) -> None:
        """Go on from a state.

        Raises
        ------
        InputError
            If it belongs to another training.
        """
        if saved is None:
            return
        if saved.meta.get("settings") != self.settings:
            raise InputError(
                "the training to resume has another architecture, other settings or patches: give those it "
                "was begun with, or another folder"
            )
        arrays = {name: torch.from_numpy(values.copy()) for name, values in saved.arrays.items()}
        moments: dict[int, dict[str, Tensor]] = {}
        try:
            with torch.no_grad():
                for name, values in self.network.state_dict().items():
                    values.copy_(arrays[f"network.{name}"])
            for number, parameter in enumerate(self.network.parameters()):
                first, second = torch.empty_like(parameter), torch.empty_like(parameter)  # laid out as it is
                with torch.no_grad():
                    first.copy_(arrays[f"optimizer.{number}.exp_avg"])
                    second.copy_(arrays[f"optimizer.{number}.exp_avg_sq"])
                step = arrays[f"optimizer.{number}.step"]
                moments[number] = {"step": step, "exp_avg": first.detach(), "exp_avg_sq": second.detach()}
            self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
            self.scaler.load_state_dict(dict(saved.meta["scaler"]))
            self.history = dict(saved.meta["history"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"the training to resume is damaged ({error}): begin it anew") from None
        self.kept = {
            name.removeprefix("best."): values.numpy()
            for name, values in arrays.items()
            if name.startswith("best.")
        }
