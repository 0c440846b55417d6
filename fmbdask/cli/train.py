"""`fmbdask train`: detectors of anomalous objects, fitted to embedding stores."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fmbdask.cli.elsewhere import ClusterFile, Slurm, submitted
from fmbdask.cli.progress import progress

app = typer.Typer(no_args_is_help=True, help="Fit detectors of anomalous objects to embedding stores.")


class ModelType(StrEnum):
    """Kinds of flows."""

    coupling = "coupling"
    autoregressive = "autoregressive"


class Device(StrEnum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


Stores = Annotated[
    list[Path] | None, typer.Argument(help="Embedding stores, or .pt files.", metavar="[EMB.zarr...]")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "-o", "--out", help="Folder of the models; runs/outliers/models/<model> by default.", metavar="MODELS"
    ),
]
ModelName = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model whose store paths.yaml knows by this name; may be repeated."),
]
Modality = Annotated[
    list[str] | None, typer.Option("--modality", help="Only this one; may be repeated. All by default.")
]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of settings, as configs/embeddings/anomalies.yaml."),
]
TypeOption = Annotated[ModelType | None, typer.Option("--model-type", help="Kind of the flow.")]
LayersOption = Annotated[int | None, typer.Option("--layers", min=1, help="Layers of the flow.")]
HiddenOption = Annotated[int | None, typer.Option("--hidden", min=1, help="Width of its networks.")]
RateOption = Annotated[float | None, typer.Option("--learning-rate", help="At the begin of the training.")]
ComponentsOption = Annotated[
    int | None, typer.Option("--components", min=2, help="Principal components that the flow sees.")
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", min=1, help="Most passes over the sample.")]
BatchOption = Annotated[int | None, typer.Option("--batch", min=1, help="Objects of one step.")]
DeviceOption = Annotated[Device | None, typer.Option("--device", help="Where networks run.")]
FoldsOption = Annotated[
    int | None, typer.Option("--folds", min=1, help="Models, each without the objects that it scores.")
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Same seed, same models.")]
GroupOption = Annotated[
    str | None, typer.Option("--group", help="Column whose equal values keep objects in one fold.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace models that are there.")]
Span = Annotated[int | None, typer.Option("--span", min=1, help="Principal components of the span.")]


@app.callback()
def group() -> None:
    """Fit detectors of anomalous objects to embedding stores."""


@app.command(epilog="Example: fmbdask train flow EMB.zarr -o MODELS --layers 8 --hidden 256")
def flow(
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: ConfigOption = None,
    model_type: TypeOption = None,
    layers: LayersOption = None,
    hidden: HiddenOption = None,
    learning_rate: RateOption = None,
    components: ComponentsOption = None,
    epochs: EpochsOption = None,
    batch: BatchOption = None,
    device: DeviceOption = None,
    folds: FoldsOption = None,
    seed: SeedOption = None,
    group_by: GroupOption = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Train a normalizing flow for each modality, and say how far it ranks as Mahalanobis distances do."""
    flags = {
        "model_type": model_type, "n_layers": layers, "hidden_dim": hidden, "learning_rate": learning_rate,
        "components": components, "epochs": epochs, "batch": batch, "device": device, "folds": folds,
        "seed": seed, "group": group_by,
    }  # fmt: skip
    if not submitted(cluster, slurm):
        fit("flow", stores, model, out, modality, config, flags, {}, overwrite)


@app.command(epilog="Example: fmbdask train mahalanobis EMB.zarr -o MODELS")
def mahalanobis(
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: ConfigOption = None,
    span: Span = None,
    robust: Annotated[
        bool, typer.Option("--robust", help="Fit once more without the objects that surprised.")
    ] = False,
    folds: FoldsOption = None,
    seed: SeedOption = None,
    group_by: GroupOption = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Fit distances from the mean, in the span of the first principal components, of each modality."""
    flags = {"robust": robust or None, "folds": folds, "seed": seed, "group": group_by}
    if not submitted(cluster, slurm):
        fit("mahalanobis", stores, model, out, modality, config, flags, {"span": span}, overwrite)


@app.command(epilog="Example: fmbdask train residual EMB.zarr -o MODELS --span 100")
def residual(
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    modality: Modality = None,
    config: ConfigOption = None,
    span: Span = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="The plain reconstruction error, in units of the features.")
    ] = False,
    folds: FoldsOption = None,
    seed: SeedOption = None,
    group_by: GroupOption = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Fit what the first principal components leave of each modality."""
    flags = {"folds": folds, "seed": seed, "group": group_by}
    own = {"span": span, "whiten": False if plain else None}
    if not submitted(cluster, slurm):
        fit("residual", stores, model, out, modality, config, flags, own, overwrite)


@app.command(epilog="Example: fmbdask train alignment EMB.zarr -o MODELS")
def alignment(
    stores: Stores = None,
    out: Out = None,
    model: ModelName = None,
    config: ConfigOption = None,
    folds: FoldsOption = None,
    seed: SeedOption = None,
    group_by: GroupOption = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Learn to tell spectra from images and back: what differs from that is a mismatch."""
    flags = {"folds": folds, "seed": seed, "group": group_by}
    if not submitted(cluster, slurm):
        fit("alignment", stores, model, out, None, config, flags, {}, overwrite)


def fit(
    kind: str,
    stores: list[Path] | None,
    model: list[str] | None,
    out: Path | None,
    modality: list[str] | None,
    config: Path | None,
    flags: dict[str, Any],
    own: dict[str, Any],
    overwrite: bool,
) -> None:
    """Fit detectors of one kind, and say where they are."""
    from fmbdask.config import resolve
    from fmbdask.survey.objects.detecting import DetectConfig
    from fmbdask.survey.objects.searching import stores_of
    from fmbdask.survey.objects.training import train

    settings = resolve(DetectConfig, "detect", config, flags).value
    with progress() as report:
        trained = train(
            kind,
            stores_of(stores or [], model or [], progress=report),
            out,
            settings,
            modalities=modality,
            options={key: value for key, value in own.items() if value is not None},
            overwrite=overwrite,
            progress=report,
        )
    for note in trained.notes:
        typer.echo(f"Note: {note}", err=True)
    for path in trained.models:
        typer.echo(path)
