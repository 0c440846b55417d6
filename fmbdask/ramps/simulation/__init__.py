"""Simulated exposures with truth: see ``docs`` of :func:`simulate` and :class:`SimulationConfig`."""

from __future__ import annotations

from .config import SimulationConfig
from .exposure import ExposurePlan, Strip, plan_exposure, simulate_rows
from .memory import make_exposure, simulate
from .streams import Exposure
from .truth import EVENT_UNITS, KINDS, PIXEL_UNITS, Truth, make_truth

__all__ = [
    "EVENT_UNITS",
    "KINDS",
    "PIXEL_UNITS",
    "Exposure",
    "ExposurePlan",
    "SimulationConfig",
    "Strip",
    "Truth",
    "make_exposure",
    "make_truth",
    "plan_exposure",
    "simulate",
    "simulate_rows",
]
