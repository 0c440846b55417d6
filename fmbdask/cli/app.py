"""Entry point of `fmbdask`: the command groups, and what happens to errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

from fmbdask.cli import bench, config, ramps
from fmbdask.errors import FmbdaskError


class Root(TyperGroup):
    """Top of the command tree: turns errors into one line, and lets `--debug` stand anywhere."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move `--debug` to the front, where the top of the tree understands it."""
        end = args.index("--") if "--" in args else len(args)
        if "--debug" in args[:end]:
            args = ["--debug", *(word for word in args[:end] if word != "--debug"), *args[end:]]
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error becomes one line on stderr and exit status 1."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"Error: {one_line(error)}", err=True)
            raise typer.Exit(1) from None


def one_line(error: Exception) -> str:
    """What a user is told of an error: our own sentences as they are, others with a way to learn more."""
    text = " ".join(str(error).split())
    if isinstance(error, FmbdaskError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}."
    return f"{type(error).__name__}: {text or 'no message'} (unexpected; --debug shows where it happened)"


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: fmbdask demo, then open demo/report.html",
)
app.add_typer(ramps.app, name="ramps")
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
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
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
    from fmbdask.survey.demo import run

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


def main() -> None:
    """Run the command line."""
    app()
