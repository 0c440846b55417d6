"""`fmbdask detect`: anomalous objects in tables, embedding stores and sequences."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    Threads,
    given,
    listed,
)
from fmbdask.cli.progress import progress
from fmbdask.cli.survey import ClusterOption, SlurmOption, Workers, site
from fmbdask.cli.train import flow

if TYPE_CHECKING:
    from fmbdask.survey.objects.detecting import Find

app = typer.Typer(
    no_args_is_help=True,
    help="Anomalous objects in tables, embeddings and sequences: outliers, mismatches, both.",
)

Out = Annotated[
    Path, typer.Option("-o", "--out", help="Folder of the lists; OUT/models holds what was trained.")
]
Models = Annotated[
    Path | None, typer.Option("--models", help="Folder of trained models to use instead of OUT/models.")
]
Share = Annotated[
    float | None, typer.Option(min=0, max=1, help="Least share of its rank in the filtered list.")
]
#: Where lists go if nothing is said.
OUT = Path("runs/outliers")


class Fusion(StrEnum):
    """How scores become one."""

    pvalue = "pvalue"
    geo = "geo"
    min = "min"
    avg = "avg"


@app.callback()
def about() -> None:
    """Anomalous objects in tables, embeddings and sequences: outliers, mismatches, both."""


app.command("train", epilog="Example: fmbdask detect train EMB.zarr --layers 8 --hidden 256")(flow)


@app.command(
    epilog="Example: fmbdask detect ensemble TABLE.parquet -o OUT --weights autoencoder=2,neighbours=1"
)
def ensemble(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = OUT,
    model: ModelName = None,
    modality: Modality = None,
    models: Models = None,
    config: Config = None,
    members: Annotated[
        str | None,
        typer.Option(
            help="Families of detectors that vote: autoencoder, isolation_forest, ...", metavar="A,B,..."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="How much each of them says.", metavar="A=WEIGHT,B=WEIGHT,...")
    ] = None,
    device: DeviceOption = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
) -> None:
    """Rank objects by several detectors together, and say how alarming each of them is.

    Trains the detectors if OUT/models has none of this table or store. Writes ensemble_scores_<model>.csv:
    object_id, ensemble_score, level (0 to 1), alert (normal, warning, critical), label (1 anomalous, 0 not,
    -1 no score), p_value, rank, and the score and p-value of each detector.
    """
    search("ensemble", ctx)


@app.command(epilog="Example: fmbdask detect outliers EMB.zarr -o runs/outliers")
def outliers(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = OUT,
    model: ModelName = None,
    modality: Modality = None,
    models: Models = None,
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
    threads: Threads = None,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
) -> None:
    """Rank the objects of each modality by how improbable a normalizing flow finds them.

    Trains the flows if OUT/models has none for this store. Writes anomaly_scores_<model>.csv: object_id,
    embedding_key, log_prob, neg_log_prob, anomaly_sigma, rank (1 = most anomalous of the key), p_value.
    """
    search("outliers", ctx)


@app.command(epilog="Example: fmbdask detect cosine EMB.zarr -o runs/outliers")
def cosine(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = OUT,
    model: ModelName = None,
    models: Models = None,
    config: Config = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
) -> None:
    """Rank objects by the cosine similarity of their image and their spectrum.

    Writes cosine_scores_<model>.csv: object_id, cosine_similarity, rank (1 = lowest), p_value.
    """
    search("cosine", ctx)


@app.command(epilog="Example: fmbdask detect multimodal EMB.zarr -o runs/outliers --fusion pvalue --fdr 0.1")
def multimodal(
    ctx: typer.Context,
    stores: Stores = None,
    out: Out = OUT,
    model: ModelName = None,
    models: Models = None,
    config: Config = None,
    top_k: Annotated[
        int | None, typer.Option(min=1, help="Objects of the ranked lists; 200 by default.")
    ] = None,
    fusion: Annotated[
        Fusion | None, typer.Option(help="How scores become one; p-values combined by default.")
    ] = None,
    fdr: Annotated[
        float | None,
        typer.Option(help="False discovery rate of the filtered list of p-values; 0.1 by default."),
    ] = None,
    t_img: Share = None,
    t_spec: Share = None,
    t_mis: Share = None,
    folds: Folds = None,
    seed: Seed = None,
    group: Group = None,
    labels: Labels = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
) -> None:
    """Make one list of what images, spectra and their mismatch say.

    Flows and cosines that earlier commands left in OUT/models are used if they are of these stores, others
    are trained. Without a store, those of OUT/models are meant. Writes multimodal/all_scores.csv,
    multimodal/ranked/top<K>_<model>_<fusion>.csv and multimodal/filtered/.
    """
    search("multimodal", ctx)


@app.command(epilog="Example: fmbdask detect score EMB.zarr --models MODELS -o OUT")
def score(
    ctx: typer.Context,
    models: Annotated[Path, typer.Option("--models", help="Folder of trained models.")],
    stores: Stores = None,
    out: Out = OUT,
    model: ModelName = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
) -> None:
    """Score a table or a store, a new release say, with models that are trained, and warn if scores drift.

    Writes scores_<model>.csv: object_id, detector, embedding_key, score, anomaly_sigma, rank, p_value.
    """
    search("scores", ctx)


def search(find: Find, ctx: typer.Context) -> None:
    """Do a search as the options of a command say; say what was written and what is to be known of it."""
    from fmbdask.config import resolve
    from fmbdask.survey.objects.searching import search as do
    from fmbdask.survey.objects.searching import stores_of
    from fmbdask.survey.objects.settings import DetectConfig

    asked = ctx.params
    flags = {name: value for name, value in given(asked).items() if name in DetectConfig.model_fields}
    if "members" in flags:
        flags["members"] = listed(flags["members"])
    if "weights" in flags:
        flags["weights"] = weights_of(flags["weights"])
    settings = resolve(DetectConfig, "detect", asked.get("config"), flags)
    named = {key: value for key, value, origin in settings.rows() if origin != "default"}
    out = Path(asked["out"])
    with progress() as report:
        found = do(
            stores_of(
                asked["stores"] or [], asked["model"] or [], out if find == "multimodal" else None, report
            ),
            out,
            find,
            settings.value,
            asked=named,
            models=asked["models"],
            overwrite=asked["overwrite"],
            threads=asked["threads"],
            cluster=site(asked["cluster"], asked["slurm"]),
            workers=asked["workers"],
            progress=report,
        )
    for note in found.notes:
        typer.echo(f"Note: {note}", err=True)
    for path in [*dict.fromkeys(found.models), *found.lists]:
        typer.echo(path)


def weights_of(text: str) -> dict[str, float]:
    """Weights by name.

    >>> weights_of("autoencoder=.4,lstm=.6")
    {'autoencoder': 0.4, 'lstm': 0.6}
    """
    found = {}
    for word in listed(text) or []:
        name, _, value = word.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"--weights takes NAME=WEIGHT between commas, autoencoder=.5,lstm=.5 say, not {word}"
            ) from None
    return found
