"""Columns of the truth tables and their units, and the codes of the kinds of events."""

from __future__ import annotations

#: Code of each kind of event in masks; 0 is background.
KINDS = {"cosmic_ray": 1, "telegraph_noise": 2, "snowball": 3}

#: Unit of every column of the events table; "1" has none.
EVENT_UNITS = {
    "event_id": "1",
    "type": "1",
    "integration": "1",
    "y": "pixel",
    "x": "pixel",
    "first_frame": "frame",
    "time": "s",
    "amplitude": "electron",
    "n_pixels": "pixel",
    "snr": "1",
    "peak_sigma": "1",
    "n_saturated": "pixel",
    "length": "pixel",
    "angle": "degree",
    "core_radius": "pixel",
    "halo_amplitude": "electron",
    "halo_scale": "pixel",
    "axis_ratio": "1",
    "period": "frame",
    "duty": "1",
    "transitions": "1",
    "dwell_min": "frame",
    "dwell_mean": "frame",
}
#: Unit of every column of the pixels table.
PIXEL_UNITS = {
    "event_id": "1",
    "type": "1",
    "integration": "1",
    "y": "pixel",
    "x": "pixel",
    "first_frame": "frame",
    "amplitude": "electron",
    "sigma": "electron",
    "rate": "electron / frame",
    "snr": "1",
    "saturated": "1",
    "period": "frame",
    "duty": "1",
    "transitions": "1",
    "dwell_min": "frame",
    "dwell_mean": "frame",
}
