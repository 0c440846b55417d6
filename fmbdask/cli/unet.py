"""`fmbdask train unet`: a 3D U-Net for ramps, from simulated exposures to a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fmbdask.cli.elsewhere import ClusterFile, Slurm, submitted
from fmbdask.cli.options import DeviceOption, Overwrite, Seed
from fmbdask.cli.progress import progress


class Precision(StrEnum):
    """Types that convolutions may be computed in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def unet(
    config: Annotated[
        Path,
        typer.Argument(
            help="YAML file of exposures, patches and training, as configs/ramps/unet.yaml.", metavar="CONFIG"
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="Folder of the model, its history and its training set.", metavar="FOLDER"
        ),
    ] = None,
    patches: Annotated[
        Path | None,
        typer.Option(
            "--set", help="Training set: folder of a run, made if absent, or a store that is there.",
            metavar="SET",
        ),
    ] = None,
    only_set: Annotated[bool, typer.Option("--only-set", help="Make the training set, and stop.")] = False,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Most passes over patches.")] = None,
    batch: Annotated[int | None, typer.Option("--batch", min=1, help="Patches of one step.")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="The largest one.")] = None,
    device: DeviceOption = None,
    precision: Annotated[
        Precision | None, typer.Option("--precision", help="What convolutions are computed in.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", min=1, help="GPUs of this machine that train in step.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes that simulate exposures.")
    ] = None,
    seed: Seed = None,
    pth: Annotated[bool, typer.Option("--pth", help="Write best_model_unet3d.pth as well.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped.")] = False,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:  # fmt: skip
    """Train a 3D U-Net to tell, in every voxel of a ramp, what the rules only suspect."""
    if submitted(cluster, slurm):
        return
    from fmbdask.config import resolve
    from fmbdask.survey.patches.settings import UNetConfig

    flags = {
        "training.epochs": epochs, "training.batch": batch, "training.learning_rate": learning_rate,
        "training.device": device and str(device), "training.precision": precision and str(precision),
        "seed": seed,
    }  # fmt: skip
    chosen = resolve(UNetConfig, "train.unet", config, flags).value
    with progress() as report:
        if only_set:
            from fmbdask.survey.patches.learning import SET
            from fmbdask.survey.patches.making import make_set

            made = make_set(chosen, patches or (out or chosen.folder) / SET, workers=workers, progress=report)
            typer.echo(made.path)
            return
        from fmbdask.survey.patches.learning import train_unet_on_ramps

        trained = train_unet_on_ramps(
            chosen, out=out, patches=patches, resume=resume, overwrite=overwrite, pth=pth, gpus=gpus,
            workers=workers, progress=report,
        )  # fmt: skip
    if trained is not None:
        typer.echo(trained.summary)
        for path in (trained.model, trained.history, trained.curves, trained.pth):
            if path is not None:
                typer.echo(path)
