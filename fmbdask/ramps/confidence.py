"""How probable it is that an event is real, given what chance alone would have found in the same exposure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from . import calibration
from .calibration import USUAL_RATE
from .prepare import Prepared
from .region import RegionResult

#: Log-odds of a cosmic ray of one, two, or more pixels: constant and slope with its excess over the
#: threshold, less the doubt in it [sigma]. Logistic regression on 21 400 detections in 64 simulated
#: exposures, as ``benchmarks/confidence.py`` makes it.
COSMIC_RAY = ((-0.60, 0.81), (1.18, 0.78), (1.77, 1.39))
#: Log-odds for hits that are beyond doubt per false alarm expected (natural logarithm): an exposure with few
#: hits has as many false alarms. From exposures of 4 to 350 hits.
PER_HIT = 0.353
#: Hits that are beyond doubt for each real one per sigma at the threshold, times the false alarms per sigma
#: there for each one beyond it; and what each further pixel does to the number of false alarms of noise.
NEAR, NEIGHBOUR = 30.0, 0.25
#: Significances between which the exceedance of noise is interpolated [sigma].
CHANCE_GRID = np.arange(2.0, 9.0, 0.25)
#: Excess from which a hit is beyond doubt, and ranges outside of which the regression has seen too little.
CERTAIN, EXCESS, HITS = 4.0, (-1.3, 4.0), (0.0, 6.0)

#: Log-odds of a telegraph pixel: slope with its evidence [natural logarithm], and the evidence of even odds;
#: from the 13 700 telegraph pixels of the same exposures.
TELEGRAPH_ODDS, TELEGRAPH_EVEN = 0.62, 4.3

#: No false snowball was among the 300 found in simulated exposures: the rule of succession.
SNOWBALL = 301 / 302


def add_confidence(
    events: pd.DataFrame, prepared: Sequence[Prepared], results: Sequence[RegionResult]
) -> pd.DataFrame:
    """Add the column ``confidence``: the probability that the event is real.

    A false cosmic ray is nearly always a single pixel little above the threshold, so number of pixels and
    excess, less the doubt in the best step, tell most; what chance is expected to find among the pixels
    tested, against the hits of the same exposure that are beyond doubt, sets the odds to start from. Where
    steps are accepted below the usual threshold, noise alone makes most of them: how many is known without a
    simulation, and is added. The odds of telegraph pixels follow from their evidence. The coefficients are
    measured on simulated exposures.

    Parameters
    ----------
    events : DataFrame
        Columns ``type``, ``significance``, ``excess`` and ``spatial_extent``.
    prepared, results : sequences
        What was searched, and how.

    Returns
    -------
    DataFrame
    """
    confidence = np.full(len(events), SNOWBALL)
    kind = events["type"].to_numpy()
    z = events["significance"].to_numpy(np.float64)
    hits = kind == "cosmic_ray"
    first, tested = prepared[0], sum(r.tested for r in results)
    correlations = calibration.neighbour_correlations(first.pattern, float(first.tables.rho[0]))
    threshold = float(np.median([p.isolated[0] for p in prepared]))
    usual = float(calibration.thresholds(first.pattern, first.tables.rho[:1].astype(float), USUAL_RATE)[0])
    pixels = events.loc[hits, "spatial_extent"].to_numpy(np.float64)
    certain = int(np.count_nonzero(z[hits] - usual > CERTAIN))
    excess = events.loc[hits, "excess"].to_numpy(np.float64) + threshold - usual
    odds = _cosmic_ray(excess, pixels, certain, USUAL_RATE * tested)
    beyond = np.array([calibration.exceedance(level, correlations) for level in CHANCE_GRID])
    # the regression knows the noise that passes the usual threshold, so only what is looser is added
    looser = np.exp(np.interp(z[hits], CHANCE_GRID, np.log(beyond))) - USUAL_RATE
    noise = NEAR * np.maximum(looser, 0) * tested * NEIGHBOUR ** (pixels - 1)
    confidence[hits] = 1 / (1 + np.exp(-odds) + noise / (certain + 1))
    telegraph = kind == "telegraph_noise"
    # the significance of a telegraph pixel is the root of twice its evidence
    confidence[telegraph] = special.expit(TELEGRAPH_ODDS * (z[telegraph] ** 2 / 2 - TELEGRAPH_EVEN))
    return events.assign(confidence=confidence)


def _cosmic_ray(
    excess: NDArray[np.float64], pixels: NDArray[np.float64], certain: int, chance: float
) -> NDArray[np.float64]:
    """Log-odds of cosmic rays among ``certain`` hits; ``chance`` is the number of false alarms expected."""
    start = np.log((certain + 1) / max(chance, 1e-9))
    constant, slope = np.array(COSMIC_RAY)[np.clip(pixels, 1, len(COSMIC_RAY)).astype(np.int64) - 1].T
    odds: NDArray[np.float64] = constant + slope * np.clip(excess, *EXCESS) + PER_HIT * np.clip(start, *HITS)
    return odds
