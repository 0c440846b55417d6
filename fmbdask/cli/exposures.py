"""What commands let say about an exposure that its header does not, or says wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Layout(StrEnum):
    """Which columns an amplifier reads."""

    contiguous = "contiguous"
    interleaved = "interleaved"


Extension = Annotated[
    str | None, typer.Option(help="Which of several ramps: FITS extension, or name of an array or column.")
]
Accumulate = Annotated[
    bool, typer.Option("--accumulate", help="Integrate the fluxes of target pixel files over time.")
]
Gain = Annotated[str | None, typer.Option(help="Electrons per DN: a number or a map file.")]
ReadNoise = Annotated[str | None, typer.Option(help="Electrons in one read: a number or a map file.")]
Saturation = Annotated[str | None, typer.Option(help="DN: a number or a map file.")]
BadPixels = Annotated[Path | None, typer.Option(help="Map of pixels to leave out (not 0).")]
Linearity = Annotated[Path | None, typer.Option(help="Coefficients of the linearity correction.")]
Border = Annotated[str | None, typer.Option(help="Reference pixels: one number, or bottom,top,left,right.")]
Amplifiers = Annotated[int | None, typer.Option(min=1, help="Number of amplifiers.")]
AmplifierLayout = Annotated[Layout | None, typer.Option(help="Which columns an amplifier reads.")]
FrameTime = Annotated[float | None, typer.Option(min=0, help="Seconds between frames.")]


def overrides(params: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`fmbdask.open_ramp` takes, out of the parameters of a command that were given."""
    layout = params.get("amplifier_layout")
    found = {
        "extension": params.get("extension"),
        "accumulate": params.get("accumulate") or None,
        "gain": number_or_file(params.get("gain")),
        "read_noise": number_or_file(params.get("read_noise")),
        "saturation": number_or_file(params.get("saturation")),
        "bad_pixels": params.get("bad_pixels"),
        "linearity": params.get("linearity"),
        "reference_border": border(params.get("reference_border")),
        "amplifiers": params.get("amplifiers"),
        "amplifier_layout": layout.value if layout else None,
        "frame_time": params.get("frame_time"),
    }
    return {key: value for key, value in found.items() if value is not None}


def number_or_file(text: str | None) -> float | Path | None:
    """A number as it is, anything else as the path of a map."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return Path(text)


def border(text: str | None) -> list[int] | None:
    """`4` or `4,4,0,0` as reference pixels at the bottom, top, left and right."""
    if text is None:
        return None
    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if len(widths) == 1:
        widths *= 4
    if len(widths) != 4 or min(widths) < 0:
        raise typer.BadParameter(f"--reference-border takes one number or bottom,top,left,right, not {text}")
    return widths
