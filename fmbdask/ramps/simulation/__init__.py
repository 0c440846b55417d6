"""Simulated exposures of an infrared detector, with the truth of what they hold, and a score against it."""

from __future__ import annotations

from .columns import EVENT_UNITS, KINDS, PIXEL_UNITS
from .config import Effects, SimulationConfig
from .exposure import ExposurePlan, Strip, plan_exposure, simulate_rows
from .memory import make_exposure, simulate
from .scoring import KindScore, Limits, Score, match
from .streams import Exposure
from .truth import Truth, make_truth

__all__ = [
    "EVENT_UNITS",
    "KINDS",
    "PIXEL_UNITS",
    "Effects",
    "Exposure",
    "ExposurePlan",
    "KindScore",
    "Limits",
    "Score",
    "SimulationConfig",
    "Strip",
    "Truth",
    "make_exposure",
    "make_truth",
    "match",
    "plan_exposure",
    "simulate",
    "simulate_rows",
]
