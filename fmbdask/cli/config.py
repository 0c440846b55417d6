"""`fmbdask config`: what is set, and where."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmbdask.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel

app = typer.Typer(no_args_is_help=True, help="Show the configuration in force.")


def model_of(section: str) -> type[BaseModel]:
    """Model of a section, imported when it is asked for."""
    if section == "ramps.detect":
        from fmbdask.ramps.config import DetectionConfig

        return DetectionConfig
    if section == "ramps.simulate":
        from fmbdask.ramps.simulation.config import SimulationConfig

        return SimulationConfig
    if section == "detect":
        from fmbdask.survey.objects.settings import DetectConfig

        return DetectConfig
    if section == "train.unet":
        from fmbdask.survey.patches.settings import UNetConfig

        return UNetConfig
    if section == "survey":
        from fmbdask.survey.config import SurveyConfig

        return SurveyConfig
    from fmbdask.config import SECTIONS, suggestion

    raise ConfigError(f"there is no section {section}{suggestion(section, list(SECTIONS))}")


@app.callback()
def group() -> None:
    """Show the configuration in force."""


@app.command(epilog="Example: fmbdask config show ramps.detect --config configs/ramps/h2rg.yaml")
def show(
    sections: Annotated[list[str] | None, typer.Argument(help="Sections to show; all by default.")] = None,
    task: Annotated[
        Path | None, typer.Option("--config", help="Task file laid over the local file, for one section.")
    ] = None,
) -> None:
    """Print each value and where it came from."""
    from fmbdask.config import SECTIONS, local_file, resolve

    wanted = sections or list(SECTIONS)
    if task is not None and len(wanted) != 1:
        raise typer.BadParameter(
            "a task file belongs to one section: name it, as in `config show ramps.detect`"
        )
    typer.echo(f"local file: {local_file() or 'none'}")
    for section in wanted:
        rows = [
            (key, str(value), origin)
            for key, value, origin in resolve(model_of(section), section, task).rows()
        ]
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        typer.echo(f"\n{section}")
        for key, value, origin in rows:
            typer.echo(f"  {key:<{widths[0]}}  {value:<{min(widths[1], 40)}}  {origin}")
