"""Small networks and labelled patches that tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fmbdask.models.unet import Architecture, UNet3D, build_unet
from fmbdask.models.voxels import IGNORED


def network(channels: int = 2, seed: int = 1, **options: Any) -> UNet3D:
    """A network whose norms have seen data, so that folding them changes what it computes."""
    made = build_unet(Architecture(channels=channels, **options), seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.head.weight.mul_(10.0)
        for name, values in made.named_buffers():
            if name.endswith("running_mean"):
                values.normal_(0.0, 0.1, generator=generator)
            elif name.endswith("running_var"):
                values.uniform_(0.5, 1.5, generator=generator)
    return made.eval()


class Steps:
    """Patches of noise in which some pixels step up at a frame: class 1 from there on."""

    def __init__(self, count: int, seed: int, shape: tuple[int, int, int] = (8, 8, 8)) -> None:
        self.count, self.seed, self.shape = count, seed, shape

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[NDArray[Any], ...]:
        random = np.random.default_rng([self.seed, number])
        inputs = random.normal(0.0, 1.0, (1, *self.shape)).astype(np.float32)
        classes = np.zeros(self.shape, np.uint8)
        for _ in range(6):
            frame, y, x = (int(random.integers(1, n)) for n in self.shape)
            inputs[0, frame:, y, x] += 8.0
            classes[frame:, y, x] = 1
        return inputs, classes


class Proposed(Steps):
    """Patches of noise without classes: half of the regions that are proposed step up, the others do not.

    Every third patch proposes nothing.
    """

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        random = np.random.default_rng([self.seed, number])
        inputs = random.normal(0.0, 1.0, (1, *self.shape)).astype(np.float32)
        nowhere = np.full(self.shape, IGNORED, np.uint8)
        if number % 3 == 2:
            return inputs, nowhere
        region = np.zeros(self.shape, np.bool_)
        frame, y, x = (int(random.integers(1, n - 3)) for n in self.shape)
        region[frame : frame + 3, y : y + 2, x : x + 3] = True
        real = number % 3 == 0
        inputs[0][region] += 3.0 * real
        return inputs, nowhere, None, region, real
