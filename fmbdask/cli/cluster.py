"""`fmbdask cluster`: try the site's file, and show what it makes of jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Where surveys run: try and show the site's file.")

SiteFile = Annotated[Path, typer.Argument(help="YAML file of the cluster.", metavar="CLUSTER.yaml")]


@app.callback()
def group() -> None:
    """Where surveys run: try and show the site's file."""


@app.command(epilog="Example: fmbdask cluster check configs/cluster/slurm.yaml")
def check(
    site: SiteFile,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where runs will be written; the working directory by default."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="How long jobs may wait for their turn [s].")] = 180,
) -> None:
    """Submit a tiny job of each kind and say what is wrong with the settings, each with its cure."""
    from fmbdask.cluster.check import check as try_out
    from fmbdask.cluster.config import read_cluster
    from fmbdask.errors import ConfigError

    config = read_cluster(site)
    if config.kind != "slurm":
        raise ConfigError(f"{site} is of kind {config.kind}: only kind slurm has jobs to try")
    wrong = 0
    for checked in try_out(
        config, folder=folder, seconds=timeout, progress=lambda text: typer.echo(text, err=True)
    ):
        if checked.text and not checked.findings:
            typer.echo(f"{checked.pool}: {checked.text}")
        for finding in checked.findings:
            wrong += 1
            typer.echo(f"{checked.pool}: {finding}")
    if wrong:
        typer.echo(f"Error: correct {site} and check again", err=True)
        raise typer.Exit(1)
    typer.echo(f"{site} is right")


@app.command(epilog="Example: fmbdask cluster script configs/cluster/slurm.yaml --pool gpu")
def script(
    site: SiteFile,
    pool: Annotated[str, typer.Option(help="Kind of job: cpu, large or gpu.")] = "cpu",
) -> None:
    """Print the script of a worker job as it would be submitted."""
    from fmbdask.cluster.config import read_cluster
    from fmbdask.cluster.scripts import DEFAULT_MEMORY, DEFAULT_WORKERS, pools, worker_script
    from fmbdask.errors import ConfigError

    config = read_cluster(site)
    workers = DEFAULT_WORKERS if config.workers is None else config.workers
    known = pools(config, workers, config.memory or DEFAULT_MEMORY)
    if pool not in known:
        raise ConfigError(f"{site} describes no {pool} jobs, only {', '.join(known)}: add a section {pool}")
    typer.echo(
        worker_script(
            config,
            known[pool],
            name="fmbdask-RUN",
            worker=f"{pool}-1",
            scheduler="tcp://COORDINATOR:PORT",
            log_folder=Path("RUN/logs"),
        ),
        nl=False,
    )


@app.command(
    epilog="Example: fmbdask cluster prologue configs/cluster/slurm.yaml, evaluated by the scripts in jobs/"
)
def prologue(site: SiteFile) -> None:
    """Print what makes a job ready (modules, variables, commands), for a job script to evaluate."""
    from fmbdask.cluster.config import read_cluster
    from fmbdask.cluster.scripts import prologue as lines

    typer.echo("\n".join(lines(read_cluster(site))))
