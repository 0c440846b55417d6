"""`--cluster FILE` and `--slurm` of commands that run in one process: the same command as a Slurm job."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated

import typer

#: Words of the command line in hand.
WORDS: ContextVar[tuple[str, ...]] = ContextVar("words", default=())

ClusterFile = Annotated[
    Path | None,
    typer.Option(
        "--cluster", help="Run this as a Slurm job, as this YAML file of a cluster says.", metavar="FILE"
    ),
]
Slurm = Annotated[
    bool,
    typer.Option("--slurm", help="Short for --cluster with the site's file, configs/cluster/slurm.yaml."),
]


def submitted(cluster: Path | None, slurm: bool) -> bool:
    """Submit the command in hand if a cluster is named, with all its other words; say where its log goes.

    Returns
    -------
    bool
        Whether it was submitted, so that there is nothing left to do here.
    """
    if cluster is None and not slurm:
        return False
    if cluster is not None and slurm:
        raise typer.BadParameter("--slurm is short for --cluster with the site's file: give one of them")
    from fmbdask.cluster.submit import site_file, submit

    sent = submit(without_cluster(WORDS.get()), cluster or site_file())
    typer.echo(f"Slurm job {sent.job} runs this command; its log is {sent.log}")
    return True


def without_cluster(words: Iterable[str]) -> list[str]:
    """The words of a command line but for those that name the cluster.

    >>> without_cluster(["ramps", "detect", "x.fits", "--cluster", "site.yaml", "-o", "out"])
    ['ramps', 'detect', 'x.fits', '-o', 'out']
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            kept += [word, *rest]
        elif word == "--cluster":
            next(rest, None)
        elif word != "--slurm" and not word.startswith("--cluster="):
            kept.append(word)
    return kept
