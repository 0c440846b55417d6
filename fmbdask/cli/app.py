"""Entry point of `fmbdask`: the command groups, and what happens to errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from fmbdask.cli import bench, cluster, config, detect, embeddings, ramps, survey, train
from fmbdask.cli.elsewhere import WORDS
from fmbdask.errors import FmbdaskError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: fmbdask demo, then open demo/report.html",
)
app.add_typer(ramps.app, name="ramps")
app.add_typer(embeddings.app, name="embeddings")
app.add_typer(detect.app, name="detect")
app.add_typer(train.app, name="train")
app.add_typer(survey.app, name="survey")
app.add_typer(cluster.app, name="cluster")
app.add_typer(config.app, name="config")
app.add_typer(bench.app, name="bench")


def show_version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"fmbdask {version('fmbdask')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Find anomalies in whole astronomical surveys, chunk by chunk."""


@app.command(epilog="Example: fmbdask demo --out demo")
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")] = Path("demo"),
    overwrite: Annotated[bool, typer.Option(help="Replace what an earlier demo left there.")] = False,
) -> None:
    """Simulate a small survey, find its anomalies on a local cluster, and write a report."""
    from fmbdask.cli.progress import progress
    from fmbdask.survey.exposures.demo import run

    with progress() as report:
        result = run(out, overwrite=overwrite, progress=report)
    typer.echo(result.summary())


@app.command(epilog="Example: fmbdask init mysurvey && cd mysurvey")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to write the templates into.")],
    overwrite: Annotated[bool, typer.Option(help="Replace files that are already there.")] = False,
) -> None:
    """Write the templates of configurations and of job scripts into a folder."""
    from fmbdask.cli.templates import write_templates

    for path in write_templates(folder, overwrite=overwrite):
        typer.echo(path)


def one_line(error: Exception) -> str:
    """What a user is told of an error: our own sentences as they are, others with a way to learn more."""
    text = " ".join(str(error).split())
    if isinstance(error, FmbdaskError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    return f"{type(error).__name__}: {text or 'no message'} (unexpected; --debug shows where it happened)"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: exit status 0 done, 1 failed, 2 bad arguments.

    Parameters
    ----------
    arguments
        Words after the name of the program; those of this process by default.
    """
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    WORDS.set(tuple(words))
    try:
        app([word for word in words if word != "--debug"])
    except Exception as error:
        if debug:
            raise
        typer.echo(f"Error: {one_line(error)}", err=True)
        raise SystemExit(1) from None
