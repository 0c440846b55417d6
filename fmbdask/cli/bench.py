"""`fmbdask bench`: how fast this machine is, how surveys scale, and how good the detector is."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from fmbdask.cli.elsewhere import ClusterFile, Slurm, submitted
from fmbdask.cli.progress import progress

app = typer.Typer(no_args_is_help=True, help="Measure speed and quality on this machine.")

Number = TypeVar("Number", int, float)
Quick = Annotated[bool, typer.Option("--quick", help="A small version, in less than a minute.")]


class Where(StrEnum):
    """What runs the kernels that are measured."""

    cpu = "cpu"
    gpu = "gpu"


@app.callback()
def group() -> None:
    """Measure speed and quality on this machine."""


@app.command(epilog="Example: fmbdask bench kernels")
def kernels(
    frames: Annotated[int, typer.Option(min=4, help="Frames of the block that is measured.")] = 450,
    size: Annotated[
        int | None, typer.Option(min=8, help="Pixels along each side of the block: 256, or 1024 on a GPU.")
    ] = None,
    device: Annotated[Where, typer.Option(help="What is measured: cpu, or gpu.")] = Where.cpu,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Measure the kernels against NumPy and against reading the same data, in one run.

    On a GPU: against its memory bandwidth and its rate of instructions, and end to end from Zarr.
    """
    if submitted(cluster, slurm):
        return
    from rich.console import Console
    from rich.table import Table

    if device is Where.gpu:
        from fmbdask.survey.bench.kernels.gpu import gpu_kernels

        size = size or 1024
        rows, what = gpu_kernels(frames, size), "wall time on the GPU"
    else:
        from fmbdask.survey.bench.kernels import kernels as measure

        size = size or 256
        rows, what = measure(frames, size), "CPU time of one core"
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = Table("", "", "", "", title=f"{frames} x {size} x {size} uint16, {what}")
    for row in rows:
        table.add_row(row.name, f"{row.value:.3g}", row.unit, row.note)
    table.columns[1].justify = "right"
    Console().print(table)


@app.command(epilog="Example: fmbdask bench truth -o truth --quick")
def truth(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of tables and figures.")] = Path("bench"),
    quick: Quick = False,
    seeds: Annotated[int, typer.Option(min=1, help="Exposures of each setting and size.")] = 3,
    ramps: Annotated[
        int | None, typer.Option(min=1, help="Clean ramps of each kind of noise and length.")
    ] = None,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Hold the detector against simulated exposures, and its false-alarm rate against clean ramps."""
    if submitted(cluster, slurm):
        return
    from fmbdask.survey.bench.truth.run import plan_of, truth_files

    with progress() as report:
        text, paths = truth_files(plan_of(quick, seeds, ramps), out, report)
    typer.echo(text)
    for path in paths:
        typer.echo(path)


@app.command(epilog="Example: fmbdask bench overhead -o overhead --quick")
def overhead(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of exposures and tables.")] = Path("bench"),
    quick: Quick = False,
    rounds: Annotated[int, typer.Option(min=1, help="How often each way is measured, in turns.")] = 5,
    workers: Annotated[int, typer.Option(min=1, help="Processes of the survey and of the loop.")] = 2,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Hold a survey against a bare loop over the same regions, and against copying the same bytes."""
    if submitted(cluster, slurm):
        return
    from fmbdask.survey.bench.overhead import overhead_files, plan_of

    with progress() as report:
        text, paths = overhead_files(plan_of(quick, rounds, workers), out, report)
    typer.echo(text)
    for path in paths:
        typer.echo(path)


@app.command(epilog="Example: fmbdask bench embeddings -o embeddings --quick")
def embeddings(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the tables.")] = Path("bench"),
    quick: Quick = False,
    seeds: Annotated[int, typer.Option(min=1, help="Stores of each harder kind.")] = 5,
    alignment: Annotated[str, typer.Option(help="How modalities are matched: mlp or ridge.")] = "mlp",
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Search embeddings with planted anomalies: what is found, and how much of what is listed is false."""
    if submitted(cluster, slurm):
        return
    from fmbdask.survey.bench.embeddings.report import embeddings_files

    with progress() as report:
        text, paths = embeddings_files(out, quick=quick, seeds=seeds, alignment=alignment, report=report)
    typer.echo(text)
    for path in paths:
        typer.echo(path)


@app.command(epilog="Example: fmbdask bench peers -o peers --quick")
def peers(
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of table and figure.")] = Path("bench"),
    quick: Quick = False,
    env: Annotated[
        Path | None, typer.Option("--env", help="Environment of the other tools; in the cache by default.")
    ] = None,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Search the same exposures with stcal and ohana, in an environment of their own that is built once."""
    if submitted(cluster, slurm):
        return
    from fmbdask.survey.bench.peers.compare import peers_files

    with progress() as report:
        text, paths = peers_files(out, quick=quick, env=env, report=report)
    typer.echo(text)
    for path in paths:
        typer.echo(path)


@app.command(
    epilog="Example: fmbdask bench scaling --task sleep --task compute --workers 1,2,4,8 -o scaling. "
    "Saturation: fmbdask bench scaling --mode saturation --slots 100,1000 --task-seconds 10,1 -o scaling"
)
def scaling(
    cluster: Annotated[
        str, typer.Option("--cluster", help="local, threads, or the YAML file of a Slurm.", metavar="CLUSTER")
    ] = "local",
    workers: Annotated[
        str | None, typer.Option("--workers", help="Numbers of workers, from few to many.", metavar="N,N,...")
    ] = None,
    slots: Annotated[
        str | None,
        typer.Option("--slots", help="With --mode saturation: numbers of threads.", metavar="N,N,..."),
    ] = None,
    task_seconds: Annotated[
        str | None, typer.Option("--task-seconds", help="Lengths of a task [s].", metavar="S,S,...")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="weak: work grows with the workers; strong: the same work for all; saturation: sleeping "
            "tasks on many threads of few processes, until the scheduler is what limits.",
        ),
    ] = "weak",
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help="sleep, compute (arithmetic), memory (arrays larger than caches), io (files in the folder "
            "of the run) or ramps (detection on simulated exposures); again for several.",
        ),
    ] = None,
    repeat: Annotated[int | None, typer.Option(min=1, help="Runs of each; tables show medians.")] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Work of each thread in a run, at least five tasks [s].")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="With --mode saturation: processes that share the threads.")
    ] = 4,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder of table, figures and rows; workers must see it.")
    ] = Path("bench"),
    quick: Quick = False,
) -> None:
    """Measure how surveys scale: through plan, coordinator, workers and journals, as a run does.

    Prints efficiency, throughput with the Universal Scalability Law, and where the time went; appends a row a
    run to DIR/scaling.csv, which `fmbdask bench compare` reads.
    """
    from fmbdask.survey.bench.scaling.session import plan_of
    from fmbdask.survey.bench.scaling.session import scaling as measure

    if (slots is not None) != (mode == "saturation") and (slots or workers):
        raise typer.BadParameter("--slots belongs to --mode saturation, --workers to the others")
    made = plan_of(
        cluster, mode, task, numbers(slots or workers, int), numbers(task_seconds, float), repeat, seconds,
        processes, quick,
    )  # fmt: skip
    with progress() as report:
        text, paths = measure(made, out, report)
    typer.echo(text)
    for path in paths:
        typer.echo(path)


@app.command(epilog="Example: fmbdask bench io --folder /scratch/me -o io")
def io(
    folder: Annotated[
        Path | None, typer.Option("--folder", help="On the file system to measure; that of DIR by default.")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the tables.")] = Path("bench"),
    quick: Quick = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Measure chunks, codecs and shards on a file system, and say which to use there."""
    if submitted(cluster, slurm):
        return
    from fmbdask.survey.bench.io.report import io_files

    with progress() as report:
        text, paths = io_files(folder, out, quick=quick, report=report)
    typer.echo(text)
    for path in paths:
        typer.echo(path)


@app.command(epilog="Example: fmbdask bench compare before/scaling.csv after/scaling.csv")
def compare(
    before: Annotated[Path, typer.Argument(help="Rows of before.", metavar="A.csv")],
    after: Annotated[Path, typer.Argument(help="Rows of after.", metavar="B.csv")],
    tolerance: Annotated[
        float, typer.Option(min=0, help="By how much something may be slower: .1 is 10 %.")
    ] = 0.1,
) -> None:
    """Say what got slower or faster between two files of rows, with its uncertainty from the repeats.

    Exit status 1 if something is slower by more than the tolerance, and its interval leaves no doubt that it
    is slower.
    """
    from fmbdask.survey.bench.scaling.comparing import compare_files, describe

    found = compare_files(before, after, tolerance)
    typer.echo(describe(found, tolerance))
    if (found["verdict"] == "slower").any():
        raise typer.Exit(1)


def numbers(text: str | None, kind: type[Number]) -> tuple[Number, ...] | None:
    """Numbers separated by commas."""
    try:
        return None if text is None else tuple(kind(word) for word in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text} are no numbers: write them like 1,2,4,8") from None
