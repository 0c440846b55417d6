"""All lists of a search, from the scores of its stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...anomaly.detector import Detector
from .detecting import SearchConfig
from .ensembles import write_ensembles
from .lists import Listing, write_all_scores, write_mismatches, write_outliers, write_rates
from .multimodal import write_multimodal
from .scored import Scored
from .stores import described

if TYPE_CHECKING:
    from ...store.embeddings.opening import Store

#: Scores, evenly spaced, that a drift is looked for in.
MOST = 1_000_000


def write_lists(
    search: SearchConfig,
    detectors: Mapping[str, Detector],
    stores: Sequence[tuple[str, Store]],
    scored: Scored,
    target: Path,
    scratch: Path,
    *,
    overwrite: bool = False,
) -> tuple[list[Path], list[str]]:
    """Write the lists that a search is for.

    Parameters
    ----------
    search : SearchConfig
    detectors : mapping
        Those that made the scores.
    stores : sequence of (name, Store)
        In the order of the scores.
    scored : Scored
    target, scratch : Path
        Folders for the lists, and for files that are removed afterwards.
    overwrite : bool
        Whether lists that are there are replaced.

    Returns
    -------
    list of Path, list of str
        What was written, and what the user should know.
    """
    kept = search.chosen(described(stores[0][1]))
    listing = Listing(scored, detectors, kept, [name for name, _ in stores], target, scratch, overwrite)
    if search.find == "scores":
        paths = write_all_scores(listing)
    elif search.find == "ensemble":
        paths = write_ensembles(listing)
    else:
        paths = write_outliers(listing) + write_mismatches(listing)
    notes: list[str] = drifts(listing)
    if search.find == "multimodal":
        more, said = write_multimodal(search, listing, [store for _, store in stores])
        paths, notes = paths + more, notes + said
    return [*paths, write_rates(listing)], notes


def drifts(listing: Listing) -> list[str]:
    """Detectors whose scores drift from their calibration."""
    notes = []
    for name, detector in listing.detectors.items():
        scores = listing.scored.columns[name]
        assert detector.calibration is not None
        step = max(1, len(scores) // MOST)
        drift = detector.calibration.drift(np.asarray(scores[::step]))
        if drift.drifted:
            notes.append(
                f"scores of {name} drift from what it was calibrated on (distance {drift.distance:.3f}, "
                f"{drift.threshold:.3f} would be no surprise): its p-values cannot be trusted, train it on "
                "this store"
            )
    return notes
