"""Pages that need no other file: templates filled, pictures inside; and the page of the demo."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fmbdask.ramps.simulation.scoring import Limits
from fmbdask.viz.style import KINDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fmbdask.survey.exposures.tally import Demo


@dataclass(frozen=True)
class Picture:
    """A figure with its words."""

    title: str
    caption: str
    png: bytes

    @property
    def data(self) -> str:
        """The picture as an address that holds it."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    target = BytesIO()
    figure.savefig(target, format="png", bbox_inches="tight")
    return target.getvalue()


def render(template: str, **values: Any) -> str:
    """Fill a template of ``pages/``; every value is escaped."""
    environment = Environment(
        loader=PackageLoader("fmbdask.survey.reporting", "pages"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(template).render(**values)


def write_page(demo: Demo, pictures: list[Picture], path: Path) -> None:
    """Write the page whole or not at all."""
    text = render(
        "demo.html",
        title="What a small survey holds",
        lead=(
            f"{len(demo.numbers)} simulated exposures of {demo.size}, "
            f"searched on a local Dask cluster. Simulation, detection and scoring took {demo.seconds:.0f} s."
        ),
        kinds=[kind_row(demo, kind.name, kind.plural, kind.colour) for kind in KINDS],
        truth_note=f"{demo.beside} {truth_note(Limits())}",
        figures=pictures,
        exposures=[
            {"name": name, "numbers": [numbers[kind.name] for kind in KINDS]}
            for name, numbers in demo.numbers.items()
        ],
        footer=f"fmbdask {version('fmbdask')}",
    )
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def kind_row(demo: Demo, name: str, plural: str, colour: str) -> dict[str, object]:
    """What the page says of one kind of event."""
    tally = demo.tallies[name]
    return {
        "plural": plural,
        "colour": colour,
        "expected": tally.expected,
        "found": tally.found,
        "right": tally.right,
        "completeness": tally.completeness,
        "purity": tally.purity,
    }


def truth_note(limits: Limits) -> str:
    """Which true events count, in words."""
    return (
        f"The truth counts cosmic rays with an ideal signal-to-noise ratio of at least {limits.snr:g} or a "
        f"step of at least {limits.peak_sigma:g} sigma in one pixel, telegraph pixels of at least "
        f"{limits.telegraph_sigma:g} sigma that switch at least {limits.transitions} times, and all "
        "snowballs. A detection of a fainter true event is neither right nor wrong."
    )
