"""Ramps of infrared detectors: simulate them, take their features, find their events."""

from __future__ import annotations

from .config import DetectionConfig
from .detect import Detection, detect
from .examples import examples
from .features import features
from .simulation import simulate

__all__ = ["Detection", "DetectionConfig", "detect", "examples", "features", "simulate"]
