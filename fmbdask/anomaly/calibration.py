"""From scores to p-values: the bulk of cross-fitted scores as it is, its tail as a fitted Pareto law.

Anomalies sit in the tail of the scores they are to be told from: taken from the tail itself, their p-values
would never be small. So the law is fitted where scores are still ordinary, censored above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..errors import InputError

#: The tail is fitted between these quantiles of the scores.
TAIL_FROM, TAIL_TO = 0.90, 0.995
#: Fewest scores.
FEWEST = 100
#: Smallest p-value.
LEAST = 1e-300


@dataclass(frozen=True)
class Calibration:
    """What scores of ordinary objects look like.

    Attributes
    ----------
    count : int
        Scores it was fitted to.
    mean, deviation : float
        Of these.
    bulk : (m,) float64
        Quantiles of the scores below the tail, equally spaced in probability from 0 to :data:`TAIL_FROM`.
    scale, shape : float
        Of the generalised Pareto law of the excess over the last of them.
    """

    count: int
    mean: float
    deviation: float
    bulk: NDArray[np.float64]
    scale: float
    shape: float

    @staticmethod
    def fit(scores: NDArray[np.float64]) -> Calibration:
        """Fit to cross-fitted scores; those that are not finite are left out.

        Raises
        ------
        InputError
            If there are too few.
        """
        known = np.sort(scores[np.isfinite(scores)].astype(np.float64))
        if len(known) < FEWEST:
            raise InputError(
                f"{len(known)} scores are too few to say what is ordinary: give at least {FEWEST} objects"
            )
        bulk = np.quantile(known, np.linspace(0.0, TAIL_FROM, 181))
        end = float(np.quantile(known, TAIL_TO))
        scale, shape = _fit_tail(known[known > bulk[-1]] - bulk[-1], end - bulk[-1])
        return Calibration(len(known), float(known.mean()), float(known.std()), bulk, scale, shape)

    def p_value(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of an ordinary object to have such a score or a higher one; in (0, 1], NaN stays."""
        below = np.interp(scores, self.bulk, np.linspace(0.0, TAIL_FROM, len(self.bulk)))
        excess = np.maximum(scores - self.bulk[-1], 0.0) / self.scale
        if abs(self.shape) < 1e-9:
            tail = np.exp(-excess)
        else:
            tail = np.maximum(1.0 + self.shape * excess, 0.0) ** (-1.0 / self.shape)
        p = np.where(scores > self.bulk[-1], (1.0 - TAIL_FROM) * tail, 1.0 - below)
        return np.where(np.isnan(scores), np.nan, np.clip(p, LEAST, 1.0))

    def quantile(self, probability: float) -> float:
        """Score that a share ``probability``, in [0, 1), of ordinary objects does not exceed.

        Examples
        --------
        >>> scores = Calibration.fit(np.random.default_rng(0).normal(size=10_000))
        >>> float(scores.p_value(np.array([scores.quantile(0.99)])).round(6)[0])
        0.01
        """
        if probability <= TAIL_FROM:
            return float(np.interp(probability, np.linspace(0.0, TAIL_FROM, len(self.bulk)), self.bulk))
        left = (1.0 - probability) / (1.0 - TAIL_FROM)
        if abs(self.shape) < 1e-9:
            return float(self.bulk[-1] - self.scale * np.log(left))
        return float(self.bulk[-1] + self.scale * (left**-self.shape - 1.0) / self.shape)

    def sigma(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores in deviations from the mean of the calibration."""
        return (scores - self.mean) / (self.deviation or 1.0)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """What is saved with a model."""
        head = np.array([self.count, self.mean, self.deviation, self.scale, self.shape], np.float64)
        return {"calibration": head, "calibration_bulk": self.bulk}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Calibration:
        """Inverse of :meth:`arrays`."""
        count, mean, deviation, scale, shape = (float(v) for v in arrays["calibration"])
        return Calibration(int(count), mean, deviation, arrays["calibration_bulk"], scale, shape)


def _fit_tail(excess: NDArray[np.float64], end: float) -> tuple[float, float]:
    """Scale and shape of a generalised Pareto law, by likelihood, censored above ``end``."""
    inside = excess[excess <= end]
    above = len(excess) - len(inside)
    start = float(inside.mean()) if len(inside) and inside.mean() > 0 else 1.0

    def loss(parameters: NDArray[np.float64]) -> float:
        scale, shape = float(np.exp(parameters[0])) * start, float(parameters[1])
        if abs(shape) < 1e-9:
            return float(len(inside) * np.log(scale) + inside.sum() / scale + above * end / scale)
        grown = 1.0 + shape * np.append(inside, end) / scale
        if (grown <= 0).any():
            return float("inf")
        logs = np.log(grown)
        return float(
            len(inside) * np.log(scale) + (1.0 + 1.0 / shape) * logs[:-1].sum() + above * logs[-1] / shape
        )

    found = minimize(
        loss, np.array([0.0, 0.05]), method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9}
    )
    return float(np.exp(found.x[0])) * start, float(found.x[1])
