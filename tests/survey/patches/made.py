"""A training set of three small exposures that tests share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fmbdask.store.patches import PatchStore
from fmbdask.survey.config import SurveyConfig
from fmbdask.survey.patches.making import RECIPES
from fmbdask.survey.patches.recipes import recipes, write_recipes
from fmbdask.survey.patches.settings import UNetConfig
from fmbdask.survey.pipelines.patches import PATCHES, PatchPipeline

from ..pipelines.runner import run_all

#: Hits that the rules miss, as many as small exposures need to hold some.
FAINT = {"cosmic_ray_charge_range": [100, 1200], "cosmic_ray_per_exp_range": [90, 90]}
CONFIG: dict[str, Any] = {
    "exposures": [
        {"setting": "dark", "count": 2, "frames": 40, "shape": [96, 96], "simulation": FAINT},
        {"setting": "effects", "count": 2, "frames": 72, "shape": [96, 96], "simulation": FAINT},
    ],
    "validation": 0.5,
    "patches": {"events": 20, "background": 6},
    "network": {"widths": [4, 8]},
    "training": {"epochs": 2, "batch": 8, "device": "cpu", "precision": "float32"},
}


def config(**changes: Any) -> UNetConfig:
    """The configuration of that set, with other values."""
    return UNetConfig.model_validate(CONFIG | changes)


def made_here(settings: UNetConfig, folder: Path) -> PatchStore:
    """Make a training set in this process, where :func:`make_set` finds it."""
    paths = [str(path) for path in write_recipes(folder / RECIPES, recipes(settings))]
    pipeline = PatchPipeline(SurveyConfig(pipeline="patches", options=settings.patches.model_dump()))
    items = [replace(item, name=Path(item.path).stem) for item in pipeline.items(paths, 0)]
    run_all(pipeline, items, folder)
    return PatchStore.open(folder / "catalog" / PATCHES)
