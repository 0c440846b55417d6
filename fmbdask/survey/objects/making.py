"""Detectors made as settings say."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ...anomaly.detector import Detector
from ...anomaly.kinds import class_of
from ...errors import ConfigError
from .settings import DetectConfig

#: Settings that detectors of some families take beside those that all do, and how their argument is called.
COMMON = {"folds": "folds", "seed": "seed"}
FLOW = (
    "model_type", "n_layers", "hidden_dim", "learning_rate", "components", "epochs", "batch", "patience",
    "device",
)  # fmt: skip
OWN: Mapping[str, Mapping[str, str]] = {
    "flow": {name: name for name in FLOW},
    "mahalanobis": {"robust": "robust"},
    "alignment": {"alignment": "model"},
    "autoencoder": {"device": "device"},
    "lstm": {"device": "device"},
}


def settings_of(kind: str) -> tuple[str, ...]:
    """Settings that matter to the detectors of a family."""
    return (*COMMON, *OWN.get(kind, {}), "group", "labels")


def detector_of(kind: str, settings: DetectConfig, options: Mapping[str, Any] | None = None) -> Detector:
    """Make a detector, not fitted.

    Parameters
    ----------
    kind : str
        Its family.
    settings : DetectConfig
    options : mapping, optional
        More arguments, which go before those of the settings.

    Raises
    ------
    ConfigError
        If it does not take one of the options.
    """
    family = class_of(kind)
    known = [p for p in inspect.signature(family).parameters if p not in ("members", "weights", "levels")]
    wanted = {name: getattr(settings, key) for key, name in (COMMON | dict(OWN.get(kind, {}))).items()}
    if wanted.get("model") == "auto":  # the alignment chooses by itself
        del wanted["model"]
    wanted |= dict(settings.detectors.get(kind, {})) | dict(options or {})
    for name in wanted:
        if name not in known:
            raise ConfigError(f"{kind} has no option {name}: it takes {', '.join(known)}")
    return family(**wanted)
