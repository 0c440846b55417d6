"""`fmbdask bench`: how fast this machine is, and how good the detector."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fmbdask.cli.elsewhere import ClusterFile, Slurm, submitted
from fmbdask.cli.progress import progress

app = typer.Typer(no_args_is_help=True, help="Measure speed and quality on this machine.")

Quick = Annotated[bool, typer.Option("--quick", help="A small version, in less than a minute.")]


@app.callback()
def group() -> None:
    """Measure speed and quality on this machine."""


@app.command(epilog="Example: fmbdask bench kernels")
def kernels(
    frames: Annotated[int, typer.Option(min=4, help="Frames of the block that is measured.")] = 450,
    size: Annotated[int, typer.Option(min=8, help="Pixels along each side of the block.")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Measure the kernels against NumPy and against reading the same data, in one run."""
    if submitted(cluster, slurm):
        return
    from rich.console import Console
    from rich.table import Table

    from fmbdask.survey.bench import kernels as measure

    rows = measure(frames, size)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = Table("", "", "", "", title=f"{frames} x {size} x {size} uint16, CPU time of one core")
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
    from fmbdask.survey.bench.truth import plan_of, truth_files

    with progress() as report:
        text, paths = truth_files(plan_of(quick, seeds, ramps), out, report)
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
    from fmbdask.survey.bench.peers import peers_files

    with progress() as report:
        text, paths = peers_files(out, quick=quick, env=env, report=report)
    typer.echo(text)
    for path in paths:
        typer.echo(path)
