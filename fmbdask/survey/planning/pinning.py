"""The network that a run asks, chosen when it is planned: every worker opens this one and refuses another."""

from __future__ import annotations

import os
from pathlib import Path

from ...ramps.network.shipped import SHIPPED
from ..config import Places, SurveyConfig
from ..exposures.pinned import pinned


def pinned_config(config: SurveyConfig, file: Path | None = None) -> SurveyConfig:
    """The configuration with the network that its folder holds now, by place and checksum.

    Parameters
    ----------
    config : SurveyConfig
    file : Path, optional
        Where it was read from: names of places are looked for near it.

    Raises
    ------
    ConfigError
        If a place has no name.
    InputError
        If there is no such network, or the configuration gives another checksum.
    """
    detection = config.detection
    if detection.model is None or config.pipeline != "ramps":
        return config
    known = detection.model in SHIPPED
    place = detection.model if known else Places.near(file).absolute(detection.model)
    return config.model_copy(update={"detection": pinned(detection.model_copy(update={"model": place}))})


def pinned_again(now: SurveyConfig, before: SurveyConfig, file: Path | None) -> SurveyConfig:
    """The configuration of a run as it is now, with the network as it is now.

    Parameters
    ----------
    now : SurveyConfig
        As its file says, or as it was planned where there is no file.
    before : SurveyConfig
        As it was planned.
    file : Path or None
    """
    model, known = now.detection.model, before.detection.model
    if model is None:
        return now
    change: dict[str, str | None] = {}
    if file is None:
        change = {"model_sha256": None}  # that of the plan
    elif known is not None and known.endswith(os.sep + os.path.normpath(model)):
        change = {"model": known}  # a relative path belongs to the folder where the run was begun
    detection = now.detection.model_copy(update=change)
    return pinned_config(now.model_copy(update={"detection": detection}), file)
