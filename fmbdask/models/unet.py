"""A 3D U-Net: every voxel of a block in time, row and column gets a score for each class.

Each level has two convolutions of 3 x 3 x 3, each followed by a batch norm and a ReLU; levels are joined by
pooling on the way down, by transposed convolutions and by what the same level found on the way up. Batch
norms, because at inference they are folded into the convolutions (:func:`folded`) and cost nothing, and the
result of a patch does not depend on its own statistics; a group norm is two more passes over memory for each
convolution.

Sources: Çiçek et al. 2016, arXiv:1606.06650 (3D U-Net); Ronneberger, Fischer & Brox 2015, arXiv:1505.04597.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import ConfigError

#: Widths of a network of about 85 000 parameters, for CPUs, and of one of 22.6 million, for GPUs.
SMALL, LARGE = (8, 16, 32), (32, 64, 128, 256, 512)
CLASSES = ("background", "cosmic_ray", "telegraph_noise", "snowball")
#: Levels with fewer voxels along a side are trained in float32 on a CPU: in bfloat16 oneDNN 3.12 leaves parts
#: of the gradient of the weights as memory was, where a side has two voxels (seen with 32 channels and more).
LEAST_SIDE = 4
#: What a saved model may ask for: what is beyond was not written by this package.
MOST_LEVELS, MOST_WIDTH, MOST_CHANNELS, MOST_CLASSES = 8, 4096, 1024, 255


@dataclass(frozen=True)
class Architecture:
    """What a 3D U-Net is built from.

    Attributes
    ----------
    channels : int
        Values of a voxel that go in.
    classes : tuple of str
        Names of the classes, in the order of their codes.
    widths : tuple of int
        Channels of each level, from the finest on.
    pool_time : tuple of int
        1 or 2 for each step between levels: how many frames are pooled to one (rows and columns: 2). Empty
        for 2 everywhere.

    Raises
    ------
    ConfigError
        If there is no such network.
    """

    channels: int = 1
    classes: tuple[str, ...] = CLASSES
    widths: tuple[int, ...] = SMALL
    pool_time: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("classes", "widths", "pool_time"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.pool_time:
            object.__setattr__(self, "pool_time", (2,) * (len(self.widths) - 1))
        if not 1 <= self.channels <= MOST_CHANNELS:
            raise ConfigError(
                f"channels of a U-Net cannot be {self.channels}: give a number from 1 to {MOST_CHANNELS}"
            )
        if not 2 <= len(self.classes) <= MOST_CLASSES or len(set(self.classes)) < len(self.classes):
            raise ConfigError(
                f"classes of a U-Net cannot be {list(self.classes)}: give 2 to {MOST_CLASSES} different names"
            )
        if not 1 <= len(self.widths) <= MOST_LEVELS or not all(1 <= w <= MOST_WIDTH for w in self.widths):
            raise ConfigError(
                f"widths of a U-Net cannot be {list(self.widths)}: give 1 to {MOST_LEVELS} numbers from 1 "
                f"to {MOST_WIDTH}"
            )
        if len(self.pool_time) != len(self.widths) - 1 or not set(self.pool_time) <= {1, 2}:
            raise ConfigError(
                f"pool_time of a U-Net of {len(self.widths)} levels cannot be {list(self.pool_time)}: give "
                f"{len(self.widths) - 1} times 1 or 2"
            )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Architecture:
        """Inverse of :meth:`as_dict`.

        Raises
        ------
        ConfigError
            If a value is missing, of another type, or cannot be.
        """
        try:
            channels, lists = values["channels"], [values[k] for k in ("classes", "widths", "pool_time")]
        except (KeyError, TypeError) as error:
            raise ConfigError(f"{error} is missing from the architecture: train the model again") from None
        kinds = (str, int, int)
        if type(channels) is not int or not all(
            isinstance(found, list | tuple) and all(type(one) is kind for one in found)
            for found, kind in zip(lists, kinds, strict=True)
        ):
            raise ConfigError("the architecture has values of another type: train the model again")
        return cls(channels, *(tuple(found) for found in lists))


class Block(nn.Sequential):
    """Two convolutions, each with its norm and a ReLU."""

    def __init__(self, given: int, width: int) -> None:
        layers: list[nn.Module] = []
        for before in (given, width):
            layers += [
                nn.Conv3d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm3d(width),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)

    def forward(self, voxels: Tensor) -> Tensor:
        """Send (batch, given, time, y, x) on as (batch, width, time, y, x)."""
        tiny = min(voxels.shape[2:]) < LEAST_SIDE and voxels.device.type == "cpu"
        if tiny and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                exact: Tensor = super().forward(voxels.float())  # type: ignore[no-untyped-call]
            return exact
        found: Tensor = super().forward(voxels)  # type: ignore[no-untyped-call]
        return found


class UNet3D(nn.Module):
    """The network of an :class:`Architecture`.

    Parameters
    ----------
    architecture : Architecture

    Notes
    -----
    A patch may have any size: pooling takes what is left over at the far edges into a voxel of its own, and
    what comes up again is cut to the size it had.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = architecture.widths
        factors = [(time, 2, 2) for time in architecture.pool_time]
        given = (architecture.channels, *widths)
        self.down = nn.ModuleList(Block(*pair) for pair in zip(given, widths, strict=False))
        self.pool = nn.ModuleList(nn.MaxPool3d(factor, ceil_mode=True) for factor in factors)
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(deep, width, factor, factor)
            for width, deep, factor in zip(widths, widths[1:], factors, strict=False)
        )
        self.merge = nn.ModuleList(Block(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv3d(widths[0], len(architecture.classes), 1)

    def reset(self, generator: torch.Generator) -> None:
        """Draw all parameters anew: He et al. 2015, arXiv:1502.01852; classes begin equal."""
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
                    transposed = isinstance(layer, nn.ConvTranspose3d)
                    fan = layer.in_channels * (1 if transposed else layer.weight[0, 0].numel())
                    layer.weight.normal_(0.0, (2.0 / fan) ** 0.5, generator=generator)
                    if layer.bias is not None:
                        layer.bias.zero_()
            self.head.weight.mul_(0.1)

    def forward(self, voxels: Tensor) -> Tensor:
        """Scores (logits) of all classes.

        Parameters
        ----------
        voxels : (batch, channels, time, y, x) tensor

        Returns
        -------
        (batch, classes, time, y, x) tensor
        """
        kept: list[Tensor] = []
        for level, block in enumerate(self.down):
            voxels = block(voxels if not level else self.pool[level - 1](voxels))
            kept.append(voxels)
        for level in reversed(range(len(self.up))):
            beside = kept[level]
            time, rows, columns = beside.shape[2:]
            voxels = self.up[level](voxels)[:, :, :time, :rows, :columns]
            voxels = self.merge[level](torch.cat([beside, voxels], dim=1))
        logits: Tensor = self.head(voxels)
        return logits


def build_unet(architecture: Architecture, seed: int = 0) -> UNet3D:
    """Build a 3D U-Net with weights drawn from a seed.

    Parameters
    ----------
    architecture : Architecture
    seed : int

    Returns
    -------
    UNet3D

    Notes
    -----
    Sources: Çiçek et al. 2016, arXiv:1606.06650; Ronneberger, Fischer & Brox 2015, arXiv:1505.04597.

    Examples
    --------
    >>> build_unet(Architecture())(torch.zeros(2, 1, 10, 9, 7)).shape
    torch.Size([2, 4, 10, 9, 7])
    """
    network = hollow(architecture).to_empty(device="cpu")
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.reset_parameters()
    network.reset(torch.Generator().manual_seed(seed))
    return network


def hollow(architecture: Architecture) -> UNet3D:
    """Build the network without any memory for its weights: names and shapes only."""
    with torch.device("meta"):
        return UNet3D(architecture)


def folded(network: UNet3D) -> UNet3D:
    """Copy a network for inference: norms become part of the convolutions before them.

    Parameters
    ----------
    network : UNet3D
        Is left as it is.
    """
    made = copy.deepcopy(network).eval().requires_grad_(False)
    for block in made.modules():
        if isinstance(block, Block):
            for place in range(0, len(block), 3):
                convolution, norm = block[place], block[place + 1]
                assert isinstance(convolution, nn.Conv3d)
                assert isinstance(norm, nn.BatchNorm3d)
                block[place], block[place + 1] = fuse_conv_bn_eval(convolution, norm), nn.Identity()
    return made
