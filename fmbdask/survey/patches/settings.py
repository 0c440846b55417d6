"""What a U-Net for ramps is trained on, and how: the fields of its YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...cluster.config import Size
from ..bench.settings import SETTINGS

#: Seeds of exposures that judge detectors: none of them is trained on.
JUDGES = range(7001, 10_000)

Count = Annotated[int, Field(ge=0)]
Length = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A part of the configuration: fixed once made, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Exposures(Section):
    """Exposures of one kind and size."""

    setting: str = Field(description="kind of exposure: dark, drift, sky or effects")
    count: Length = Field(1, description="how many")
    frames: Annotated[int, Field(ge=8)] = Field(100, description="frames of a ramp")
    shape: tuple[Annotated[int, Field(ge=24)], Annotated[int, Field(ge=24)]] = Field(
        (256, 256), description="rows, columns [pixel]"
    )
    baseline: bool = Field(False, description="without events")
    validates: bool = Field(True, description="whether some of them validate; else all of them train")
    simulation: dict[str, Any] = Field(
        default_factory=dict, description="fields of the simulation that differ from those of the setting"
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.setting not in SETTINGS:
            raise ValueError(f"there is no setting {self.setting}: give one of {', '.join(SETTINGS)}")
        return self


class Grid(Section):
    """Patches that cover exposures, whatever is in them."""

    patch_frames: Length = Field(64, description="frames of a patch")
    patch_size: tuple[Length, Length] = Field((256, 256), description="rows, columns of a patch [pixel]")
    overlap: Count = Field(32, description="rows and columns that neighbours share [pixel]")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.overlap >= min(self.patch_size):
            raise ValueError(
                f"overlap {self.overlap} must be smaller than patch_size {list(self.patch_size)}"
            )
        return self


class PatchSettings(Section):
    """Which patches are cut out of an exposure."""

    proposals: bool = Field(True, description="around all that the rules propose")
    events: Count = Field(150, description="around so many true events an exposure, of all types")
    background: Count = Field(40, description="around so many random places an exposure")
    jitter: tuple[Count, Count, Count] = Field(
        (12, 4, 4), description="frames, rows, columns by which an event may be off the middle"
    )
    grid: Grid | None = Field(None, description="a grid over each exposure, instead of patches around places")


class NetworkSettings(Section):
    """The network."""

    widths: tuple[Length, ...] = Field((8, 16, 32), description="channels of each level")
    pool_time: tuple[Literal[1, 2], ...] = Field(
        (), description="frames pooled to one between levels, 2 by default"
    )


class TrainingSettings(Section):
    """How it is trained."""

    epochs: Length = Field(5, description="passes over the patches at most")
    batch: Length = Field(16, description="patches of a step")
    learning_rate: Positive = Field(4e-3, description="the largest one")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="how it goes down")
    patience: Length = Field(5, description="passes without a better score after which it ends")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="of AdamW")
    gradient_clip: Positive = Field(5.0, description="largest norm of the gradient")
    balance: Annotated[float, Field(ge=0, le=1)] = Field(
        0.4, description="0: equal weights of voxels, 1: equal weights of classes"
    )
    dice: Annotated[float, Field(ge=0)] = Field(0.0, description="weight of the Dice loss")
    proposals: Annotated[float, Field(ge=0)] = Field(
        1.0, description="weight of the loss of proposals beside the one of voxels"
    )
    flips: bool = Field(True, description="turn patches over in rows and columns at random")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of convolutions; auto: bfloat16 where the device has instructions for it"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the network is trained")


class UNetConfig(Section):
    """A U-Net for ramps: exposures, patches, network and training."""

    output: str = Field("runs/unet", description="folder of the model, its history and its training set")
    exposures: tuple[Annotated[Exposures, Field()], ...] = Field(
        tuple(Exposures(setting=name, count=8) for name in SETTINGS), min_length=1,
        description="what is simulated",
    )  # fmt: skip
    first_seed: Count = Field(20_001, description="seed of the first exposure; the others follow")
    validation: Share = Field(0.15, description="share of the exposures of each setting that validate")
    seed: Count = Field(1, description="of the weights and the order of patches")
    patches: PatchSettings = Field(PatchSettings(), description="which patches are cut out")
    network: NetworkSettings = Field(NetworkSettings(), description="what is trained")
    training: TrainingSettings = Field(TrainingSettings(), description="how it is trained")
    cluster: str | None = Field(
        None, description="where exposures are simulated: local, threads, tcp://..., runner, or a YAML file"
    )
    memory: Size | None = Field(None, description="anonymous memory of one worker process, such as 2GB")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        count = sum(group.count for group in self.exposures)
        if self.first_seed < JUDGES.stop and self.first_seed + count > JUDGES.start:
            raise ValueError(
                f"first_seed: seeds {JUDGES.start} to {JUDGES.stop - 1} belong to exposures that judge "
                f"detectors, so {count} exposures cannot begin at {self.first_seed}: begin at {JUDGES.stop} "
                "or later"
            )
        patches = self.patches
        if patches.grid is None and not (patches.proposals or patches.events or patches.background):
            raise ValueError("patches: nothing is cut out: give proposals, events, background or grid")
        return self

    @property
    def folder(self) -> Path:
        """Folder of everything that is made."""
        return Path(self.output)
