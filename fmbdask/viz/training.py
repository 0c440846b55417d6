"""Curves of the training of a network: losses, scores, and overlap by class, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fmbdask.viz.style import FAINT, INK, KINDS, styled

#: What the score of an epoch is called.
SCORES = {"event_f1": "F1 of proposals", "mean_iou": "mean overlap"}


@styled
def training_curves(history: Mapping[str, Any]) -> Figure:
    """Draw the history of a training.

    Parameters
    ----------
    history : mapping
        ``train_loss``, ``val_loss``, ``val_score`` and ``val_iou`` (by class), one number an epoch, None
        where there is none; ``best``, the number of epochs after which the score was highest; ``score``, a
        key of :data:`SCORES`.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(10.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = np.arange(1, len(history["val_score"]) + 1)
    _line(left, epochs, history["train_loss"], FAINT, "training")
    _line(left, epochs, history["val_loss"], INK, "validation")
    left.set(title="Loss", xlabel="epoch", ylabel="loss")
    _line(right, epochs, history["val_score"], INK, SCORES[history.get("score", "mean_iou")])
    for kind in KINDS:
        if kind.name in history["val_iou"]:
            _line(right, epochs, history["val_iou"][kind.name], kind.colour, f"overlap, {kind.label}")
    right.set(title="Validation exposures", xlabel="epoch", ylim=(0.0, 1.0))
    for axes in (left, right):
        if history["best"]:
            axes.axvline(history["best"], color=FAINT, linewidth=0.8, linestyle=":")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return figure


def _line(axes: Axes, epochs: Any, values: Any, colour: str, label: str) -> None:
    numbers = np.array([np.nan if v is None else v for v in values], np.float64)
    axes.plot(epochs, numbers, color=colour, label=label, marker="o", markersize=3.5)
