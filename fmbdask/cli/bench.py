"""`fmbdask bench`: how fast this machine is."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Measure speed on this machine.")


@app.callback()
def group() -> None:
    """Measure speed on this machine."""


@app.command(epilog="Example: fmbdask bench kernels")
def kernels(
    frames: Annotated[int, typer.Option(min=4, help="Frames of the block that is measured.")] = 450,
    size: Annotated[int, typer.Option(min=8, help="Pixels along each side of the block.")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure the kernels against NumPy and against reading the same data, in one run."""
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
