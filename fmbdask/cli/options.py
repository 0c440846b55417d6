"""Options that commands share: each is declared once, and named in the signatures of those that have it.

What was given is in the context of a command, ``ctx.params``, by the names of the parameters: a signature
declares options, and what does the work takes them from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class ModelType(StrEnum):
    """Kinds of flows."""

    coupling = "coupling"
    autoregressive = "autoregressive"


class Device(StrEnum):
    """Where networks run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


# What is read.
Stores = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Embedding stores, .pt files, or tables: CSV, Parquet, NPZ.", metavar="[EMB.zarr|TABLE...]"
    ),
]
ModelName = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model whose store paths.yaml knows by this name; may be repeated."),
]
Modality = Annotated[
    list[str] | None,
    typer.Option("--modality", help="Only this one; may be repeated. All that fit by default."),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="YAML file of settings, as configs/embeddings/anomalies.yaml."),
]

# What all detectors have.
Folds = Annotated[
    int | None, typer.Option("--folds", min=1, help="Models, each without the objects that it scores.")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Same seed, same models.")]
Group = Annotated[
    str | None, typer.Option("--group", help="Column whose equal values keep objects in one fold.")
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", help="Column that is 1 for anomalous objects, which are not learnt from."),
]

# Networks.
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Most passes over the sample.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Objects of one step.")]
Rate = Annotated[float | None, typer.Option("--learning-rate", help="At the begin of the training.")]
DeviceOption = Annotated[Device | None, typer.Option("--device", help="Where networks run.")]

# Flows.
FlowType = Annotated[ModelType | None, typer.Option("--model-type", help="Kind of the flow.")]
FlowLayers = Annotated[int | None, typer.Option("--layers", min=1, help="Layers of the flow.")]
FlowHidden = Annotated[int | None, typer.Option("--hidden", min=1, help="Width of its networks.")]
Components = Annotated[
    int | None, typer.Option("--components", min=2, help="Principal components that the flow sees.")
]

# What is written, and where it is done.
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")]


def given(params: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """What was given of the options of a command, but for some others."""
    nothing: tuple[Any, ...] = (None, [], ())
    return {name: value for name, value in params.items() if name not in others and value not in nothing}


def listed(text: str | None) -> list[str] | None:
    """Words between commas.

    >>> listed("autoencoder, lstm")
    ['autoencoder', 'lstm']
    """
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]
