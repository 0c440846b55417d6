"""Classes of voxels, and regions of them: losses, weights of rare classes, and how good a segmentation is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

#: Class of voxels that count nowhere.
IGNORED = 255
#: Voxels that a class counts as having at least, so that one that is absent has a weight.
FEWEST_VOXELS = 100
#: Log-odds of a voxel count in a region up to this, whatever their sign: those of a probability of 1e-4.
MOST_ODDS = math.log((1 - 1e-4) / 1e-4)


def class_weights(counts: Sequence[int] | NDArray[np.int64], balance: float = 0.5) -> NDArray[np.float32]:
    """Weights of classes in a loss: the rarer, the heavier.

    Parameters
    ----------
    counts : (classes,) int
        Voxels of each class.
    balance : float
        0 for equal weights of voxels, 1 for equal weights of classes.

    Returns
    -------
    (classes,) float32
        One on average over the voxels.

    Examples
    --------
    >>> class_weights([10_000, 100], balance=1.0)
    array([ 0.505, 50.5  ], dtype=float32)
    """
    shares = np.maximum(np.asarray(counts, np.float64), FEWEST_VOXELS)
    shares /= shares.sum()
    weights = shares**-balance
    found: NDArray[np.float32] = (weights / (weights * shares).sum()).astype(np.float32)
    return found


def segmentation_loss(
    logits: Tensor, classes: Tensor, weight: Tensor | None, balance: Tensor, dice: float
) -> Tensor:
    """Class-balanced cross entropy, and soft Dice of all classes but the background.

    Parameters
    ----------
    logits : (batch, classes, time, y, x) float32 tensor
    classes : (batch, time, y, x) uint8 tensor
        255 is left out.
    weight : (batch, time, y, x) float32 tensor, optional
        Of each voxel; 0 is left out.
    balance : (classes,) float32 tensor
        Weight of each class.
    dice : float
        Weight of the Dice loss, against one of the cross entropy.

    Returns
    -------
    scalar tensor
        0 where all is left out.

    Notes
    -----
    Source of the Dice loss: Milletari, Navab & Ahmadi 2016, arXiv:1606.04797.
    """
    wanted = classes.long()
    counted = (wanted != IGNORED).float() if weight is None else weight * (wanted != IGNORED)
    each = cross_entropy(logits, wanted, weight=balance, ignore_index=IGNORED, reduction="none")
    heavy = balance[wanted.clamp(max=len(balance) - 1)] * counted
    loss: Tensor = (each * counted).sum() / heavy.sum().clamp(min=1e-6)
    if dice:
        shares = torch.softmax(logits, dim=1) * counted[:, None]
        both, either = [], []
        for code in range(1, len(balance)):
            truth = (wanted == code) * counted
            both.append((shares[:, code] * truth).sum())
            either.append(shares[:, code].sum() + truth.sum())
        overlap = 2.0 * torch.stack(both) / torch.stack(either).clamp(min=1.0)
        there = torch.stack(either) > 1.0
        loss = loss + dice * ((1.0 - overlap) * there).sum() / there.sum().clamp(min=1)
    return loss


def region_odds(logits: Tensor, region: Tensor, code: int) -> Tensor:
    """Log-odds that a network gives to a region of each patch being of a class: the mean over its voxels.

    Parameters
    ----------
    logits : (batch, classes, time, y, x) float32 tensor
    region : (batch, time, y, x) bool tensor
    code : int
        The class.

    Returns
    -------
    (batch,) float32 tensor
        0 where a region is empty. The log-odds of each voxel are cut off at :data:`MOST_ODDS`, and their
        gradient is not: a voxel beyond it comes back.
    """
    others = torch.cat([logits[:, :code], logits[:, code + 1 :]], dim=1)
    odds = logits[:, code] - torch.logsumexp(others, dim=1)
    odds = odds + (odds.clamp(-MOST_ODDS, MOST_ODDS) - odds).detach()
    axes = (1, 2, 3)
    found: Tensor = (odds * region).sum(axes) / region.sum(axes).clamp(min=1)
    return found


def proposal_loss(logits: Tensor, region: Tensor, real: Tensor, known: Tensor, code: int) -> Tensor:
    """Cross entropy of what a network says of the proposed region of each patch, and what is true.

    Parameters
    ----------
    logits, region, code
        As in :func:`region_odds`; patches whose region is empty propose nothing.
    real : (batch,) float32 tensor
        1 where the region is of the class, 0 where not.
    known : (batch,) float32 tensor
        Log-odds of that which are known without the network: it learns what they leave open.

    Returns
    -------
    scalar tensor
        The sum over the proposals, over the number of patches: so its mean over equal parts of a batch is
        that of the whole batch, however many proposals each part has.
    """
    odds = region_odds(logits, region, code) + known
    each = binary_cross_entropy_with_logits(odds, real, reduction="none")
    loss: Tensor = (each * region.flatten(1).any(1)).sum() / len(logits)
    return loss


def confusion(logits: Tensor, classes: Tensor, weight: Tensor | None) -> Tensor:
    """How many voxels of each class (rows) are taken for which (columns).

    Parameters
    ----------
    logits, classes, weight
        As in :func:`segmentation_loss`; voxels of weight 0 are left out.

    Returns
    -------
    (classes, classes) int64 tensor
    """
    number = logits.shape[1]
    counted = classes != IGNORED
    if weight is not None:
        counted &= weight > 0
    pairs = classes[counted].long() * number + logits.argmax(dim=1)[counted]
    return torch.bincount(pairs, minlength=number**2).reshape(number, number)


def accuracy_of(table: NDArray[np.int64]) -> float:
    """Share of voxels that are taken for what they are."""
    return float(np.trace(table) / max(1, table.sum()))


def iou_of(table: NDArray[np.int64]) -> list[float | None]:
    """Intersection over union of each class; None for one that neither is there nor was found."""
    inside = np.diag(table)
    union = table.sum(axis=0) + table.sum(axis=1) - inside
    return [float(i / u) if u else None for i, u in zip(inside, union, strict=True)]
