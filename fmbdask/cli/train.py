"""`fmbdask train`: detectors of anomalous objects, fitted to tables, embedding stores and sequences."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fmbdask.cli.elsewhere import ClusterFile, Slurm, submitted
from fmbdask.cli.options import (
    Batch,
    Components,
    Config,
    DeviceOption,
    Epochs,
    FlowHidden,
    FlowLayers,
    FlowType,
    Folds,
    Group,
    Labels,
    Modality,
    ModelName,
    Overwrite,
    Rate,
    Seed,
    Stores,
    given,
    listed,
)
from fmbdask.cli.progress import progress
from fmbdask.cli.unet import unet

app = typer.Typer(no_args_is_help=True, help="Fit detectors of anomalous objects, one family a command.")
app.command(epilog="Example: fmbdask train unet configs/ramps/unet.yaml -o runs/unet")(unet)

Out = Annotated[
    Path | None,
    typer.Option(
        "-o", "--out", help="Folder of the models; runs/outliers/models/<model> by default.", metavar="MODELS"
    ),
]
Span = Annotated[int | None, typer.Option("--span", min=1, help="Principal components of the span.")]
Percentile = Annotated[
    float | None,
    typer.Option(min=0, max=99.999, help="Of ordinary scores, above which objects are labelled; 95."),
]


class Method(StrEnum):
    """Which distances to neighbours count."""

    largest = "largest"
    mean = "mean"


class LstmModel(StrEnum):
    """What an LSTM learns."""

    forecast = "forecast"
    reconstruction = "reconstruction"
    supervised = "supervised"


@app.callback()
def about() -> None:
    """Fit detectors of anomalous objects, one family a command."""


@app.command(epilog="Example: fmbdask train autoencoder TABLE.parquet -o MODELS --layers 64,32,8")
def autoencoder(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: Config = None,
    layers: Annotated[
        str | None,
        typer.Option(help="Widths down to the code, and back up; 128,64,32,16.", metavar="WIDTH,..."),
    ] = None,
    percentile: Percentile = None,
    epochs: Epochs = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    device: DeviceOption = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Train a network to reconstruct ordinary objects: what it fails to reconstruct is anomalous."""
    fit("autoencoder", ctx)


@app.command(
    "isolation_forest", epilog="Example: fmbdask train isolation_forest TABLE.csv -o MODELS --labels label"
)
def isolation_forest(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: Config = None,
    trees: Annotated[int | None, typer.Option(min=1, help="Trees of each forest; 100.")] = None,
    samples: Annotated[int | None, typer.Option(min=2, help="Objects that a tree is grown on; 256.")] = None,
    contamination: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of objects that are labelled; 0.1.")
    ] = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Grow random trees: objects that few cuts isolate are anomalous."""
    fit("isolation_forest", ctx)


@app.command(epilog="Example: fmbdask train neighbours TABLE.parquet -o MODELS --k 10")
def neighbours(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: Config = None,
    k: Annotated[int | None, typer.Option("--k", min=1, help="Neighbours; 5.")] = None,
    method: Annotated[
        Method | None, typer.Option(help="The distance to the k-th (largest, the default), or their mean.")
    ] = None,
    approximate: Annotated[
        bool | None, typer.Option("--approximate/--exact", help="How neighbours are looked for.")
    ] = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Keep reference objects: those far from their nearest neighbours among them are anomalous."""
    fit("neighbours", ctx)


@app.command(epilog="Example: fmbdask train lstm WINDOWS.zarr -o MODELS --model-type reconstruction")
def lstm(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: Config = None,
    learns: Annotated[
        LstmModel | None,
        typer.Option("--model-type", help="What is learnt: to forecast (by default), reconstruct, or tell."),
    ] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Units of each layer; 64,32.", metavar="UNITS,...")
    ] = None,
    epochs: Epochs = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    device: DeviceOption = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Train a recurrent network on sequences: what it does not foresee, or reconstruct, is anomalous.

    The supervised one learns from --labels which sequences are anomalous.
    """
    fit("lstm", ctx)


@app.command(epilog="Example: fmbdask train flow EMB.zarr -o MODELS --layers 8 --hidden 256")
def flow(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: Config = None,
    model_type: FlowType = None,
    n_layers: FlowLayers = None,
    hidden_dim: FlowHidden = None,
    learning_rate: Rate = None,
    components: Components = None,
    epochs: Epochs = None,
    batch: Batch = None,
    device: DeviceOption = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Train a normalizing flow for each modality, and say how far it ranks as Mahalanobis distances do."""
    fit("flow", ctx)


@app.command(epilog="Example: fmbdask train mahalanobis EMB.zarr -o MODELS")
def mahalanobis(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: Config = None,
    span: Span = None,
    robust: Annotated[
        bool | None, typer.Option("--robust", help="Fit once more without the objects that surprised.")
    ] = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Fit distances from the mean, in the span of the first principal components, of each modality."""
    fit("mahalanobis", ctx)


@app.command(epilog="Example: fmbdask train residual EMB.zarr -o MODELS --span 100")
def residual(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: Config = None,
    span: Span = None,
    whiten: Annotated[
        bool | None,
        typer.Option("--whiten/--plain", help="Plain: the reconstruction error, in units of the features."),
    ] = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Fit what the first principal components leave of each modality."""
    fit("residual", ctx)


@app.command(epilog="Example: fmbdask train alignment EMB.zarr -o MODELS")
def alignment(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    config: Config = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Learn to tell spectra from images and back: what differs from that is a mismatch."""
    fit("alignment", ctx)


def fit(kind: str, ctx: typer.Context) -> None:
    """Fit detectors of one kind as the options of a command say, and say where they are."""
    asked = ctx.params
    if submitted(asked["cluster"], asked["slurm"]):
        return
    from fmbdask.config import resolve
    from fmbdask.survey.objects.making import settings_of
    from fmbdask.survey.objects.searching import stores_of
    from fmbdask.survey.objects.settings import DetectConfig
    from fmbdask.survey.objects.training import train

    options = given(asked, "stores", "out", "model", "modality", "config", "overwrite", "cluster", "slurm")
    if "learns" in options:
        options["model"] = str(options.pop("learns"))
    for name in ("layers", "hidden"):
        if name in options:
            options[name] = widths(name, options[name])
    flags = {name: options.pop(name) for name in settings_of(kind) if name in options}
    with progress() as report:
        trained = train(
            kind,
            stores_of(asked["stores"] or [], asked.get("model") or [], progress=report),
            asked["out"],
            resolve(DetectConfig, "detect", asked["config"], flags).value,
            modalities=asked.get("modality") or None,
            options=options,
            overwrite=asked["overwrite"],
            progress=report,
        )
    for note in trained.notes:
        typer.echo(f"Note: {note}", err=True)
    for path in trained.models:
        typer.echo(path)


def widths(name: str, text: str) -> tuple[int, ...]:
    """Numbers between commas.

    >>> widths("layers", "64,8")
    (64, 8)
    """
    words = listed(text) or []
    if not words or not all(word.isdecimal() and int(word) for word in words):
        raise typer.BadParameter(f"--{name} takes widths between commas, 64,32 say, not {text}")
    return tuple(int(word) for word in words)
