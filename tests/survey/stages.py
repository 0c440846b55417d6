"""Two stages of a user, the second of which reads what the first made of the whole run."""

from __future__ import annotations

from typing import Any

import numpy as np

import fmbdask

MAPS = {"level": {"dims": ("integration", "y", "x"), "dtype": "float32", "unit": "DN"}}


@fmbdask.survey.pipeline(memory="8MB", outputs=MAPS)
def level(region: Any) -> Any:
    return {"level": region.astype(np.float32).mean("frame")}


@fmbdask.survey.pipeline(memory="8MB", outputs=MAPS)
def excess(region: Any, products: Any) -> Any:
    return {"level": region.astype(np.float32).max("frame") - products["level"]["level"]}


both = [level, excess]
