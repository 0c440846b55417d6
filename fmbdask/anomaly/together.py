"""Detectors fitted to one summary of a store, and calibrated on its sample."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .calibration import FEWEST
from .protocol import Learner, Report
from .summary import Summary
from .threads import one_thread

#: Objects of the sample that are scored at a time.
PART = 8192


def learn_together(
    detectors: Mapping[str, Learner], summary: Summary, progress: Report | None = None
) -> None:
    """Fit detectors that know their modalities to one summary, as each would be by itself.

    The sample is scored by all of them part by part, so that they share what they make of it.

    Raises
    ------
    InputError
        If there are too few objects for one of them.
    """
    whole, summary = summary, summary.ordinary()
    sample = summary.sample
    for name, detector in detectors.items():
        count = int(sample.all_valid(detector.modalities).sum())
        if count < FEWEST:
            raise InputError(
                f"{count} objects with finite vectors of {' and '.join(detector.modalities)} are too few for "
                f"{name}: give at least {FEWEST}"
            )
    text = ": ".join([*detectors, "calibration"] if len(detectors) == 1 else ["calibration"])
    with one_thread():
        for detector in detectors.values():
            detector.learn(whole if detector.supervised else summary, progress)
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in detectors}
        for begin, part in zip(range(0, len(sample), PART), sample.parts(PART), strict=True):
            for name, detector in detectors.items():
                found[name].append(detector.to_calibrate(part))
            if progress is not None:
                progress(begin + len(part), len(sample), text)
    for name, detector in detectors.items():
        detector.calibrate(np.concatenate(found[name]))
