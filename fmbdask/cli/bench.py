"""`fmbdask bench`: how fast this machine is."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")


@app.callback()
def group() -> None:
    """Measure speed on this machine."""


@app.command(epilog="Example: fmbdask bench kernels")
def kernels() -> None:
    """Measure the kernels against NumPy and against reading the same data, in one run."""
    from fmbdask.survey.bench import kernels as measure

    measure()
