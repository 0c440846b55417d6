"""`fmbdask embeddings`: stores of foundation-model embeddings."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fmbdask.cli.elsewhere import ClusterFile, Slurm, submitted
from fmbdask.cli.progress import progress

app = typer.Typer(no_args_is_help=True, help="Stores of embeddings: import, export, join, select, describe.")

Store = Annotated[Path, typer.Argument(help="An embedding store, a .pt file or a table.", metavar="EMB.zarr")]
NewStore = Annotated[Path, typer.Option("-o", "--out", help="The store to write.", metavar="EMB.zarr")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]
IdFile = Annotated[
    Path | None,
    typer.Option("--ids", help="File of object ids: one a line, CSV or Parquet with object_id, .npy."),
]


class On(StrEnum):
    """What makes objects of two stores the same."""

    object_id = "object_id"
    position = "position"


@app.callback()
def group() -> None:
    """Stores of embeddings: import, export, join, select, describe."""


@app.command(
    "import",
    epilog="Example: fmbdask embeddings import astropt_embeddings.pt --model astropt -o EMB.zarr, or "
    "fmbdask embeddings import telemetry.csv --window 100 --stride 10 -o WINDOWS.zarr",
)
def import_(
    file: Annotated[
        Path,
        typer.Argument(
            help="Embeddings or a table: .pt, .npy, .npz, .csv, .parquet, .h5; with --window also a target "
            "pixel file (.fits).",
            metavar="EMBEDDINGS",
        ),
    ],
    out: NewStore,
    model: Annotated[str, typer.Option(help="The model that made them.")] = "",
    version: Annotated[str, typer.Option(help="Its version.")] = "",
    weights: Annotated[Path | None, typer.Option(help="Its weights; their sha256 is kept.")] = None,
    preprocessing: Annotated[str, typer.Option(help="What was done to the data before.")] = "",
    modality: Annotated[
        list[str] | None,
        typer.Option(
            help="What the file calls the vectors of a modality (or the prefix of numbered columns, or names "
            "of columns: features=A,B,C): only those that are named are taken. Of a .npy the name is enough.",
            metavar="NAME=KEY",
        ),
    ] = None,
    ids: IdFile = None,
    window: Annotated[
        int | None, typer.Option(help="Make an object of so many steps of a time series.", min=1)
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Steps from one window to the next; 1.", min=1)] = None,
    time: Annotated[str | None, typer.Option(help="Column that puts steps in order.")] = None,
    series: Annotated[str | None, typer.Option(help="Column that says which series a row is of.")] = None,
    blocks: Annotated[
        int | None,
        typer.Option(help="Parts of each series that share no step, for --group block of detectors.", min=1),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Go on after the last object of a store.")] = False,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Copy embeddings into a store that is read chunk by chunk.

    Vectors that are missing, not finite or all zero are marked as not valid, and counted. The numbers of a
    table are one modality, features. With --window rows are steps of time series, and objects their windows.
    """
    if submitted(cluster, slurm):
        return
    from fmbdask.store.embeddings import import_embeddings, import_windows

    chosen = named(modality or [])
    cut = {"stride": stride, "time": time, "series": series, "blocks": blocks}
    kept = {"model": model, "version": version, "preprocessing": preprocessing}
    if window is None and any(value is not None for value in cut.values()):
        raise typer.BadParameter("--stride, --time, --series and --blocks go with --window")
    if window is not None and (len(chosen) > 1 or ids is not None or weights is not None):
        raise typer.BadParameter("--window goes with one --modality, and neither with --ids nor --weights")
    with progress() as report:
        if window is None:
            done = import_embeddings(
                file, out, weights=weights, modalities=chosen, ids=ids, append=append, overwrite=overwrite,
                progress=report, **kept,
            )  # fmt: skip
        else:
            done = import_windows(
                file, out, window=window, stride=stride or 1, time=time, series=series, blocks=blocks,
                columns=next(iter(chosen.values()), None), append=append, overwrite=overwrite,
                progress=report, **kept,
            )  # fmt: skip
    for note in done.notes:
        typer.echo(f"Note: {note}", err=True)
    typer.echo(f"{done.path}: {done.added} objects added, {done.objects} in all")
    for name, tally in done.modalities.items():
        typer.echo(f"  {name}: {tally}")


@app.command(epilog="Example: fmbdask embeddings export EMB.zarr -o EMB.parquet")
def export(
    store: Store,
    out: Annotated[Path, typer.Option("-o", "--out", help="The file: .pt (of the benchmark) or .parquet.")],
    ids: IdFile = None,
    overwrite: Overwrite = False,
) -> None:
    """Write embeddings for other tools: a list of dictionaries in a .pt file, or Parquet."""
    from fmbdask.store.embeddings import (
        export_embeddings,
        find_store,
        open_embeddings,
        read_ids,
        select_objects,
    )

    with progress() as report:
        dataset = open_embeddings(find_store(store, progress=report))
        if ids is not None:
            dataset = select_objects(dataset, read_ids(ids))
        export_embeddings(dataset, out, overwrite=overwrite, progress=report)
    typer.echo(f"{out}: {dataset.sizes['object']} objects")


@app.command(epilog="Example: fmbdask embeddings info EMB.zarr --json")
def info(
    store: Store,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is in a store: objects, modalities, valid vectors, provenance, sizes."""
    from fmbdask.store.embeddings import describe_store, find_store
    from fmbdask.store.embeddings.describing import as_text

    with progress() as report:
        found = describe_store(find_store(store, progress=report))
    typer.echo(json.dumps(found, indent=2) if as_json else as_text(found))


@app.command(
    epilog="Example: fmbdask embeddings join astropt.zarr aion.zarr --names astropt,aion -o BOTH.zarr"
)
def join(
    left: Annotated[Path, typer.Argument(help="A store, whose objects come first.", metavar="A.zarr")],
    right: Annotated[Path, typer.Argument(help="Another store.", metavar="B.zarr")],
    out: NewStore,
    on: Annotated[On, typer.Option(help="What makes objects the same.")] = On.object_id,
    radius: Annotated[float, typer.Option(help="Largest separation [arcsec], with --on position.")] = 1.0,
    names: Annotated[
        str, typer.Option(help="Put before names of modalities that both have.", metavar="A,B")
    ] = "a,b",
    overwrite: Overwrite = False,
) -> None:
    """Make one store of two: all objects of both, and what one does not have is masked."""
    from fmbdask.store.embeddings import find_store, join_embeddings, open_embeddings, write_embeddings

    both = tuple(names.split(","))
    if len(both) != 2:
        raise typer.BadParameter(f"--names takes two names, A,B, not {names}")
    with progress() as report:
        datasets = [open_embeddings(find_store(path, progress=report)) for path in (left, right)]
        joined = join_embeddings(
            datasets[0], datasets[1], on=on.value, radius=radius, names=(both[0], both[1])
        )
        write_embeddings(joined, out, overwrite=overwrite, progress=report)
    a, b = (dataset.sizes["object"] for dataset in datasets)
    total = joined.sizes["object"]
    typer.echo(
        f"{out}: {total} objects, {a + b - total} in both, {total - b} only in {left}, "
        f"{total - a} only in {right}"
    )


@app.command(epilog="Example: fmbdask embeddings select EMB.zarr --ids ranked.csv -o TOP.zarr")
def select(
    store: Store,
    out: NewStore,
    ids: IdFile = None,
    one: Annotated[list[str] | None, typer.Option("--id", help="An object id; may be repeated.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Copy some objects into a store of their own, in the order of the first."""
    from fmbdask.store.embeddings import (
        find_store,
        open_embeddings,
        read_ids,
        select_objects,
        write_embeddings,
    )

    if (ids is None) == (not one):
        raise typer.BadParameter("name the objects: either --ids FILE or --id X")
    with progress() as report:
        dataset = open_embeddings(find_store(store, progress=report))
        chosen = select_objects(dataset, read_ids(ids) if ids is not None else one)
        write_embeddings(chosen, out, overwrite=overwrite, progress=report)
    typer.echo(f"{out}: {chosen.sizes['object']} of {dataset.sizes['object']} objects")


def named(words: list[str]) -> dict[str, str]:
    """`NAME=KEY` words as key by modality; a bare name stands for itself."""
    found: dict[str, str] = {}
    for word in words:
        name, _, key = word.partition("=")
        if not name or name in found:
            raise typer.BadParameter(f"--modality takes NAME=KEY, each name once, not {word}")
        found[name] = key or name
    return found
