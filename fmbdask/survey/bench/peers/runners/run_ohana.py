"""ohana's rules on one corrected exposure: ``python run_ohana.py JOB.json``, where ohana is installed.

Its own reference-pixel step gives zeros for frames that are not 2048 x 2048, so it gets what comes after that
step: corrected frames minus the first. Leaves ``<exposure>_<name>_events.json``: events with their pixels.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from meter import measured, memory, read_job, write_result  # type: ignore[import-not-found]

#: ohana's kinds in our words.
KINDS = {
    "cosmic_ray": "cosmic_ray", "rtn": "telegraph_noise", "snowball": "snowball",
}  # fmt: skip


def search(cube: Any, notes: list[str]) -> list[dict[str, Any]]:
    """Events of all three detectors with ohana's default settings; a detector that fails leaves a note."""
    stack = cube[1:] - cube[0]
    config = import_module("ohana.config").DetectorConfig()
    analyzer = import_module("ohana.preprocessing.temporal_analyzer").TemporalAnalyzer(config.sigma_threshold)
    features = analyzer.analyze_temporal_patterns(stack)
    predict = import_module("ohana.predict.predictor")
    events: list[dict[str, Any]] = []
    for name in ("CosmicRayDetector", "TelegraphNoiseDetector", "SnowballDetector"):
        detector = getattr(predict, name)(config)
        try:
            events += detector.classify(detector.detect(features, stack))
        except Exception as error:
            notes.append(f"{name} stopped with {type(error).__name__}")
    return events


def plain(event: dict[str, Any], used: Any) -> dict[str, Any]:
    """Put an event into plain numbers, its first frame as counted in the exposure."""
    centre = event["centroid"] if "centroid" in event else event["position"]
    return {
        "type": KINDS[event["type"].removesuffix("_candidate")],
        "y": float(centre[0]),
        "x": float(centre[1]),
        "first_frame": int(used[int(event.get("first_frame", 0)) + 1]),
        "significance": float(event["max_intensity"]),
        "pixels": [[int(y), int(x)] for y, x in event.get("pixel_coords") or [event["position"]]],
    }


def main() -> None:
    """Do one job."""
    job = read_job(sys.argv[1])
    folder = Path(job["folder"])
    import_module("ohana.predict.predictor")
    base = memory("VmRSS")
    results = []
    notes: list[str] = []
    for exposure in job["exposures"]:
        used = np.load(folder / f"{exposure}_used.npy")
        cube = np.load(folder / f"{exposure}_cube.npy")[used]
        with contextlib.redirect_stderr(io.StringIO()):
            events, numbers = measured(partial(search, cube, notes), base)
        results.append(numbers)
        path = folder / f"{exposure}_{job['name']}_events.json"
        path.write_text(json.dumps([plain(event, used) for event in events]))
    note = "; ".join(dict.fromkeys(notes))
    write_result(job, results[0] | {"version": version("ohana"), "note": note})


if __name__ == "__main__":
    main()
