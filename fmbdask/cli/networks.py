"""What commands let say about the network that is asked beside the rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from fmbdask.cli.options import Device

Model = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|small",
        help="Network asked beside the rules: folder from `train unet`, or small, which comes with fmbdask.",
    ),
]
ModelConfidence = Annotated[
    float | None, typer.Option(min=0, max=1, help="Confidence from which a proposal is an event.")
]
ModelDevice = Annotated[Device | None, typer.Option(help="Where the network runs; auto by default.")]
Everywhere = Annotated[
    bool, typer.Option("--everywhere", help="Let the network look at the whole exposure as well.")
]


def asked(params: Mapping[str, Any]) -> dict[str, Any]:
    """Detection settings of the network, out of the parameters of a command; None where none was given."""
    model, device = params.get("model"), params.get("model_device")
    return {
        "model": model,
        "model_confidence": params.get("model_confidence"),
        "model_device": None if device is None else device.value,
        "model_everywhere": params.get("everywhere") or None,
    }
