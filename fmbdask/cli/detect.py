"""`fmbdask detect`: anomalous objects in embedding stores."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fmbdask.cli.progress import progress
from fmbdask.cli.survey import ClusterOption, SlurmOption, Workers, site
from fmbdask.cli.train import (
    BatchOption,
    ComponentsOption,
    ConfigOption,
    DeviceOption,
    EpochsOption,
    FoldsOption,
    GroupOption,
    HiddenOption,
    LayersOption,
    ModelName,
    RateOption,
    SeedOption,
    TypeOption,
    flow,
)

if TYPE_CHECKING:
    from fmbdask.survey.objects.detecting import Find

app = typer.Typer(
    no_args_is_help=True, help="Anomalous objects in embedding stores: outliers, mismatches, both."
)

Stores = Annotated[
    list[Path] | None,
    typer.Argument(help="Embedding stores, one a model, or .pt files.", metavar="[EMB.zarr...]"),
]
Out = Annotated[
    Path, typer.Option("-o", "--out", help="Folder of the lists; OUT/models holds what was trained.")
]
Models = Annotated[
    Path | None, typer.Option("--models", help="Folder of trained models to use instead of OUT/models.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace lists, and models of other settings, that are there.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")]
#: Where lists go if nothing is said.
OUT = Path("runs/outliers")


class Fusion(StrEnum):
    """How scores become one."""

    pvalue = "pvalue"
    geo = "geo"
    min = "min"
    avg = "avg"


@app.callback()
def group() -> None:
    """Anomalous objects in embedding stores: outliers, mismatches, both."""


app.command("train", epilog="Example: fmbdask detect train EMB.zarr --layers 8 --hidden 256")(flow)


@app.command(epilog="Example: fmbdask detect outliers EMB.zarr -o runs/outliers")
def outliers(
    stores: Stores = None,
    out: Out = OUT,
    model: ModelName = None,
    models: Models = None,
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
    threads: Threads = None,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
) -> None:
    """Rank the objects of each modality by how improbable a normalizing flow finds them.

    Trains the flows if OUT/models has none for this store. Writes anomaly_scores_<model>.csv: object_id,
    embedding_key, log_prob, neg_log_prob, anomaly_sigma, rank (1 = most anomalous of the key), p_value.
    """
    flags = {
        "model_type": model_type, "n_layers": layers, "hidden_dim": hidden, "learning_rate": learning_rate,
        "components": components, "epochs": epochs, "batch": batch, "device": device, "folds": folds,
        "seed": seed, "group": group_by,
    }  # fmt: skip
    search(
        "outliers",
        stores,
        model,
        out,
        config,
        flags,
        models,
        overwrite,
        threads,
        site(cluster, slurm),
        workers,
    )


@app.command(epilog="Example: fmbdask detect cosine EMB.zarr -o runs/outliers")
def cosine(
    stores: Stores = None,
    out: Out = OUT,
    model: ModelName = None,
    models: Models = None,
    config: ConfigOption = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
) -> None:
    """Rank objects by the cosine similarity of their image and their spectrum.

    Writes cosine_scores_<model>.csv: object_id, cosine_similarity, rank (1 = lowest), p_value.
    """
    search(
        "cosine", stores, model, out, config, {}, models, overwrite, threads, site(cluster, slurm), workers
    )


@app.command(epilog="Example: fmbdask detect multimodal EMB.zarr -o runs/outliers --fusion pvalue --fdr 0.1")
def multimodal(
    stores: Stores = None,
    out: Out = OUT,
    model: ModelName = None,
    models: Models = None,
    config: ConfigOption = None,
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
    t_img: Annotated[
        float | None, typer.Option("--t-img", min=0, max=1, help="Least p_img in the filtered list.")
    ] = None,
    t_spec: Annotated[
        float | None, typer.Option("--t-spec", min=0, max=1, help="Least p_spec in the filtered list.")
    ] = None,
    t_mis: Annotated[
        float | None, typer.Option("--t-mis", min=0, max=1, help="Least p_mis in the filtered list.")
    ] = None,
    folds: FoldsOption = None,
    seed: SeedOption = None,
    group_by: GroupOption = None,
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
    flags = {
        "top_k": top_k, "fusion": None if fusion is None else fusion.value, "fdr": fdr, "t_img": t_img,
        "t_spec": t_spec, "t_mis": t_mis, "folds": folds, "seed": seed, "group": group_by,
    }  # fmt: skip
    search(
        "multimodal",
        stores,
        model,
        out,
        config,
        flags,
        models,
        overwrite,
        threads,
        site(cluster, slurm),
        workers,
    )


@app.command(epilog="Example: fmbdask detect score EMB.zarr --models MODELS -o OUT")
def score(
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
    """Score a store, a new release say, with models that are trained, and warn if its scores drift.

    Writes scores_<model>.csv: object_id, detector, embedding_key, score, anomaly_sigma, rank, p_value.
    """
    where = site(cluster, slurm)
    search("scores", stores, model, out, None, {}, models, overwrite, threads, where, workers)


def search(
    find: Find,
    stores: list[Path] | None,
    model: list[str] | None,
    out: Path,
    config: Path | None,
    flags: dict[str, Any],
    models: Path | None,
    overwrite: bool,
    threads: int | None,
    cluster: str | None,
    workers: int | None,
) -> None:
    """Do a search, and say what was written and what is to be known of it."""
    from fmbdask.config import resolve
    from fmbdask.survey.objects.detecting import DetectConfig
    from fmbdask.survey.objects.searching import search as do
    from fmbdask.survey.objects.searching import stores_of

    settings = resolve(DetectConfig, "detect", config, flags)
    asked = {key: value for key, value, origin in settings.rows() if origin != "default"}
    with progress() as report:
        found = do(
            stores_of(stores or [], model or [], out if find == "multimodal" else None, report),
            out,
            find,
            settings.value,
            asked=asked,
            models=models,
            overwrite=overwrite,
            threads=threads,
            cluster=cluster,
            workers=workers,
            progress=report,
        )
    for note in found.notes:
        typer.echo(f"Note: {note}", err=True)
    for path in [*dict.fromkeys(found.models), *found.lists]:
        typer.echo(path)
