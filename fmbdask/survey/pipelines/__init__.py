"""The pipelines that a survey run can do: ramps, embeddings, patches, made-up work, functions of the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...cluster.memory import bound_arenas
from ..config import SurveyConfig
from .protocol import Pipeline


def make(config: SurveyConfig) -> Pipeline:
    """Make the pipeline of a configuration.

    Raises
    ------
    ConfigError
        If there is none of that name, or a function cannot be loaded.
    """
    if config.pipeline == "ramps":
        from .ramps import RampPipeline

        return RampPipeline(config)
    if config.pipeline == "synthetic":
        from .synthetic import SyntheticPipeline

        return SyntheticPipeline(config)
    if config.pipeline == "embeddings":
        from .embeddings import EmbeddingPipeline

        return EmbeddingPipeline(config)
    if config.pipeline == "patches":
        from .patches import PatchPipeline

        return PatchPipeline(config)
    from .function import FunctionPipeline

    return FunctionPipeline.load(config)


def load(name: str, run_json: Mapping[str, Any]) -> Pipeline:
    """Make the pipeline of a run from its ``run.json``; ``name`` is what the run calls it.

    Raises
    ------
    ConfigError
        If it cannot be loaded.
    """
    bound_arenas()  # freed buffers of chunks would stay with each thread
    config = SurveyConfig.model_validate(run_json["config"])
    return make(config.model_copy(update={"pipeline": name}))
