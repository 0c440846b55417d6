"""A pipeline of a user for tests of whole runs: light, and it does what the first pixel says."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import fmbdask

#: First pixel of an exposure whose regions need too much memory, end their process, never end, or are slow.
HUNGRY, DEADLY, HANGING, SLOW = 60001, 60002, 60003, 60004


@fmbdask.survey.pipeline(
    memory="8MB",
    outputs={"median": {"dims": ("integration", "y", "x"), "dtype": "float32", "unit": "DN"}},
)
def median(region: Any) -> Any:
    first = int(region.values.flat[0])
    if first == HUNGRY:
        held = []
        while True:
            held.append(np.ones(2**23))
    if first == DEADLY:
        import os

        os._exit(9)
    if first in (HANGING, SLOW):
        time.sleep(3600 if first == HANGING else 0.5)
    return {"median": region.astype(np.float32).median("frame")}
