"""A small network that predicts vectors from vectors, each element with a deviation of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .training import History, Training, train

#: Logarithms of the predicted deviations stay within.
LOG_DEVIATION = (-5.0, 3.0)

Floats = NDArray[np.float32]


def train_mlp(
    inputs: Floats,
    targets: Floats,
    held: NDArray[np.bool_],
    *,
    hidden: int,
    options: Training,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[list[Floats], History]:
    """Train two hidden layers of SiLU by the likelihood of normal laws (mean and deviation of each target).

    Parameters
    ----------
    inputs : (n, I) float32
    targets : (n, O) float32
    held : (n,) bool
        Rows that validate.
    hidden : int
        Width of both hidden layers.
    options : Training
    seed : int
    progress : callable, optional

    Returns
    -------
    weights : list of arrays
        What :func:`predict_mlp` takes.
    history : History

    Notes
    -----
    Source: Nix & Weigend 1994, IEEE International Conference on Neural Networks 1, 55.
    """
    generator = torch.Generator().manual_seed(seed)
    width, outputs = inputs.shape[1], targets.shape[1]
    with torch.random.fork_rng(devices=[]):  # what layers draw for themselves is replaced
        layers = [
            torch.nn.Linear(a, b) for a, b in ((width, hidden), (hidden, hidden), (hidden, 2 * outputs))
        ]
    spread = torch.from_numpy(np.log(np.maximum(targets[~held].std(axis=0), 1e-6)))
    with torch.no_grad():
        for layer in layers:
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.uniform_(-bound, bound, generator=generator)
        layers[-1].weight.mul_(0.1)
        layers[-1].bias[:outputs].zero_()
        layers[-1].bias[outputs:].copy_(spread)
    network = torch.nn.Sequential(layers[0], torch.nn.SiLU(), layers[1], torch.nn.SiLU(), layers[2])

    def loss(given: Tensor, wanted: Tensor) -> Tensor:
        found = network(given)
        logs = found[:, outputs:].clamp(*LOG_DEVIATION)
        left = (wanted - found[:, :outputs]) * torch.exp(-logs)
        rows: Tensor = (logs + 0.5 * left.square()).mean(dim=1)
        return rows

    data = [[torch.from_numpy(np.ascontiguousarray(a[w])) for a in (inputs, targets)] for w in (~held, held)]
    history = train(network, data[0], data[1], loss, options, seed=seed, progress=progress)
    weights = [
        np.ascontiguousarray(values.detach().numpy())
        for layer in layers
        for values in (layer.weight.T, layer.bias)
    ]
    return weights, history
