"""Autoencoders: networks that pass vectors through a narrow layer and give them back.

Sources: Rumelhart, Hinton & Williams 1986, Nature 323, 533; Hinton & Salakhutdinov 2006, Science 313, 504.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

#: The last weights begin this much smaller, so that a network begins with what is close to the mean.
FIRST_STEP = 0.1
#: Products of matrices narrower than this go other ways for some rows than for others in the MKL of torch.
NARROW = 16


class DenseAutoencoder(torch.nn.Module):
    """Dense layers with ReLU after each but the narrowest and the last, there and back in the same widths.

    The narrowest one has none: it would cut half of each of the few directions that are left.

    Parameters
    ----------
    width : int
        Features of a vector.
    layers : sequence of int
        Widths from the first layer to the narrowest: 128, 64, 32, 16 is width-128-64-32-16-32-64-128-width.

    Examples
    --------
    >>> network = DenseAutoencoder(5, (8, 2))
    >>> [tuple(m.weight.shape) for m in network.maps]
    [(8, 5), (2, 8), (8, 2), (5, 8)]
    """

    def __init__(self, width: int, layers: Sequence[int]) -> None:
        super().__init__()
        widths = [width, *layers, *list(layers)[-2::-1], width]
        self.maps: list[torch.nn.Linear] = [torch.nn.Linear(a, b) for a, b in pairwise(widths)]
        self.layers = torch.nn.ModuleList(self.maps)  # holds their weights

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew (He et al. 2015, arXiv:1502.01852)."""
        with torch.no_grad():
            for layer in self.maps:
                bound = (6.0 / layer.weight.shape[1]) ** 0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.zero_()
            self.maps[-1].weight.mul_(FIRST_STEP)

    def forward(self, vectors: Tensor) -> Tensor:
        """Reconstruct vectors (n, width)."""
        straight = (len(self.maps) // 2 - 1, len(self.maps) - 1)
        for number, layer in enumerate(self.maps):
            vectors = _mapped(layer, vectors)
            if number not in straight:
                vectors = torch.relu(vectors)
        return vectors


def _mapped(layer: torch.nn.Linear, vectors: Tensor) -> Tensor:
    """Apply a layer, so that a row has the same bits at every place: with zeros beside few features."""
    lacking = -layer.in_features % NARROW
    if layer.out_features >= NARROW or not lacking:
        return layer(vectors)  # type: ignore[no-any-return]
    weight = torch.nn.functional.pad(layer.weight, (0, lacking))
    return torch.nn.functional.linear(torch.nn.functional.pad(vectors, (0, lacking)), weight, layer.bias)
