"""Networks of long short-term memory cells for sequences: forecasts, reconstructions, and classes.

They take values (n, steps, features), standardised, and which steps are valid (n, steps). What lies at a step
that is not valid reaches nothing: there a network sees the last valid values, and a flag.

Sources: Hochreiter & Schmidhuber 1997, Neural Computation 9, 1735 (cells); Malhotra et al. 2015, ESANN, 89
(forecasts); Malhotra et al. 2016, arXiv:1607.00148 (encoder and decoder).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

#: Logarithms of error scales stay within.
LOG_SCALE = (-5.0, 3.0)
#: Sines and cosines of the place in a sequence that a decoder sees.
HARMONICS = 8


def filled(values: Tensor, valid: Tensor) -> Tensor:
    """The last valid values of each step, 0 before the first, and a flag: (n, steps, features + 1).

    Examples
    --------
    >>> filled(torch.tensor([[[7.0], [8.0], [9.0]]]), torch.tensor([[False, True, False]]))[0].tolist()
    [[0.0, 0.0], [8.0, 1.0], [8.0, 0.0]]
    """
    steps = torch.arange(values.shape[1], device=values.device)
    last = torch.where(valid, steps, -1).cummax(dim=1).values
    there = (last >= 0)[..., None]
    places = last.clamp(min=0)[..., None].expand(-1, -1, values.shape[2])
    known = torch.where(there, torch.gather(values, 1, places), 0.0)
    return torch.cat([known, valid[..., None].to(values.dtype)], dim=2)


class Cells(torch.nn.Module):
    """Layers of LSTM cells, one after the other.

    Parameters
    ----------
    inputs : int
        Features of a step.
    hidden : sequence of int
        Cells of each layer.
    memory : int
        Longest time that cells begin by remembering: each another one up to this many steps (Tallec and
        Ollivier 2018, arXiv:1804.11188); a few where it is 0.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], memory: int = 0) -> None:
        super().__init__()
        self.memory = memory
        widths = [inputs, *hidden]
        self.layers = torch.nn.ModuleList(torch.nn.LSTM(a, b) for a, b in zip(widths, hidden, strict=False))

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew; cells begin by remembering."""
        for layer in self.layers:
            cells = layer.get_parameter("weight_hh_l0").shape[1]
            for values in layer.parameters():
                values.uniform_(-(cells**-0.5), cells**-0.5, generator=generator)
            hidden = layer.get_parameter("bias_hh_l0")
            if self.memory:
                keep = (
                    torch.empty(cells).uniform_(1.0, max(2.0, self.memory - 1.0), generator=generator).log()
                )
                hidden[:cells].copy_(-keep)
                hidden[cells : 2 * cells].copy_(keep)
            else:
                hidden[cells : 2 * cells].fill_(1.0)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs of the last layer, (steps, n, hidden), for (steps, n, inputs)."""
        for layer in self.layers:
            found: tuple[Tensor, tuple[Tensor, Tensor]] = layer(inputs)
            inputs = found[0]
        return inputs


class Network(torch.nn.Module):
    """What all have: weights drawn from a generator."""

    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew."""
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, Cells):
                    module.reset(generator)
                elif isinstance(module, torch.nn.Linear):
                    bound = module.in_features**-0.5
                    module.weight.uniform_(-bound, bound, generator=generator)
                    if module.bias is not None:
                        module.bias.zero_()


class Forecaster(Network):
    """Forecasts each step, and the scale of its error, from the steps before it.

    Parameters
    ----------
    features : int
    hidden : sequence of int
        Cells of each layer.
    """

    def __init__(self, features: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.cells = Cells(features + 1, hidden)
        self.skip = torch.nn.Linear(features, features, bias=False)
        self.head = torch.nn.Linear(hidden[-1], 2 * features)

    def forward(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Forecasts and logarithms of error scales, each (n, steps, features)."""
        known = filled(values, valid).transpose(0, 1)
        before = torch.cat([torch.zeros_like(known[:1]), known[:-1]])
        mean, logs = self.head(self.cells(before)).chunk(2, dim=2)
        mean = mean + self.skip(before[..., :-1])
        return mean.transpose(0, 1), logs.clamp(*LOG_SCALE).transpose(0, 1)


class Reconstructor(Network):
    """Encodes a sequence into one vector, and decodes it from that.

    Parameters
    ----------
    steps, features : int
    hidden : sequence of int
        Cells of each layer of the encoder; the last one is the width of the code. The decoder has the same
        ones backwards.
    """

    def __init__(self, steps: int, features: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.encoder = Cells(features + 1, hidden)
        self.decoder = Cells(hidden[-1] + 2 * HARMONICS, list(hidden)[::-1])
        self.head = torch.nn.Linear(hidden[0], features)
        self.logs = torch.nn.Parameter(torch.zeros(steps, features))

    def forward(self, values: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstructions and logarithms of error scales, each (n, steps, features)."""
        steps = values.shape[1]
        code = last_valid(self.encoder(filled(values, valid).transpose(0, 1)), valid)
        phase = torch.arange(steps, device=values.device, dtype=values.dtype) * (2.0 * math.pi / steps)
        angles = phase[:, None] * torch.arange(1, HARMONICS + 1, device=values.device, dtype=values.dtype)
        places = torch.cat([angles.sin(), angles.cos()], dim=1)[:, None].expand(-1, len(values), -1)
        whole = torch.cat([code.expand(steps, -1, -1), places], dim=2)
        found = self.head(self.decoder(whole)).transpose(0, 1)
        return found, self.logs.clamp(*LOG_SCALE).expand_as(found)


class Classifier(Network):
    """Logit of a sequence to be of the class 1: cells, a dense layer with ReLU, and one output.

    Parameters
    ----------
    steps, features : int
    hidden : sequence of int
        Cells of each layer.
    dense : int
        Width of the dense layer.
    """

    def __init__(self, steps: int, features: int, hidden: Sequence[int], dense: int) -> None:
        super().__init__()
        self.cells = Cells(features + 1, hidden, memory=steps)
        self.dense = torch.nn.Linear(hidden[-1], dense)
        self.output = torch.nn.Linear(dense, 1)

    def forward(self, values: Tensor, valid: Tensor) -> Tensor:
        """(n,)"""
        code = last_valid(self.cells(filled(values, valid).transpose(0, 1)), valid)
        found: Tensor = self.output(torch.relu(self.dense(code)))[:, 0]
        return found


def last_valid(outputs: Tensor, valid: Tensor) -> Tensor:
    """Outputs (steps, n, width) at the last valid step of each sequence: (n, width)."""
    steps = torch.arange(valid.shape[1], device=valid.device)
    last = torch.where(valid, steps, 0).amax(dim=1)
    return outputs[last, torch.arange(len(valid), device=valid.device)]


def surprise(values: Tensor, valid: Tensor, mean: Tensor, logs: Tensor, linear: float = 4.0) -> Tensor:
    """-log p of valid steps under a normal law, beyond ``linear`` scales under an exponential one; (n,).

    Source: Nix & Weigend 1994, IEEE International Conference on Neural Networks 1, 55; Huber 1964, Annals of
    Mathematical Statistics 35, 73.
    """
    left = ((values - mean) * torch.exp(-logs)).abs()
    cost = torch.where(left < linear, 0.5 * left.square(), linear * (left - 0.5 * linear)) + logs
    count = valid.sum(dim=1).clamp(min=1) * values.shape[2]
    found: Tensor = torch.where(valid[..., None], cost, 0.0).sum(dim=(1, 2)) / count
    return found
