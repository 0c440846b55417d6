"""From scores to p-values: the bulk of cross-fitted scores as it is, its tail as a fitted law.

Anomalies sit in the tail of the scores they are to be told from: taken from the tail itself, their p-values
would never be small. So the law is fitted where scores are still ordinary, truncated above, and once more
without the scores that turn out to be no part of it. Its hazard does not fall and rises at most as a straight
line: exponential tails and those as light as a normal one's, none with an end. A heavier law, fitted to
anomalies of half a per cent, would list nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ..errors import InputError
from .discovery import largest_list

#: The tail is fitted between these quantiles of the scores, the first time up to the third.
TAIL_FROM, TAIL_TO, TAIL_FIRST = 0.90, 0.995, 0.96
#: Fewest scores, and fewest of them between these quantiles for a fit.
FEWEST, FEWEST_IN_TAIL = 100, 8
#: Smallest p-value.
LEAST = 1e-300
#: How fast the hazard of the tail rises, see :class:`Calibration`: what is expected and its spread, of
#: logarithms of positive scores and of others (log odds decay exponentially), and the values that are tried;
#: a normal law has about .13.
RISE_OF_LOGARITHMS, RISE_OF_OTHERS = (0.05, 0.05), (0.0, 0.02)
RISES = np.linspace(0.0, 0.3, 31)
#: Excess in scales beyond which p-values are the smallest.
FURTHEST = 1000.0
#: Scores that the first law lists at this false discovery rate are left out of the second.
LEFT_OUT = 0.1
#: Scores drift if their distribution is further than this from the calibration's, beyond what chance does.
DRIFT = 0.05


@dataclass(frozen=True)
class Drift:
    """How far the scores of other objects are from those of a calibration.

    Attributes
    ----------
    distance : float
        Largest difference of the cumulative distributions over the bulk.
    threshold : float
        What is still no surprise: :data:`DRIFT` and what chance adds in one of a hundred stores of such size.
    count : int
        Scores compared.
    """

    distance: float
    threshold: float
    count: int

    @property
    def drifted(self) -> bool:
        """Whether p-values of these scores cannot be trusted."""
        return self.distance > self.threshold


@dataclass(frozen=True)
class Calibration:
    """What scores of ordinary objects look like.

    Attributes
    ----------
    count : int
        Scores it was fitted to.
    mean, deviation : float
        Of these.
    logarithm : bool
        Whether the tail is that of the logarithms, as it is where all scores are positive: distances of
        ordinary objects may have tails of any weight, their logarithms hardly have heavier ones than
        exponential.
    bulk : (m,) float64
        Quantiles of the scores below the tail, equally spaced in probability from 0 to :data:`TAIL_FROM`.
    share : float
        Of the scores above the last of them.
    scale, shape : float
        Of the excess over the last of them, z in scales: it is exceeded with probability
        exp(-z - shape z^2), so the hazard is 1 + 2 shape z a scale; the shape is at least 0.
    """

    count: int
    mean: float
    deviation: float
    logarithm: bool
    bulk: NDArray[np.float64]
    share: float
    scale: float
    shape: float

    @staticmethod
    def fit(scores: NDArray[np.float64]) -> Calibration:
        """Fit to cross-fitted scores; those that are not finite are left out.

        Anomalies among them, a few per cent, do little: a first law of the lower tail alone decides which
        scores are no part of it (a list at a false discovery rate of :data:`LEFT_OUT`), and the law is
        fitted to the others.

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
        head = len(known), float(known.mean()), float(known.std()), bool(known[0] > 0)
        listed = largest_list(_fit(known, head, TAIL_FIRST).p_value(known[::-1]), LEFT_OUT)
        return _fit(known[: max(len(known) - listed, FEWEST)], head, TAIL_TO)

    def p_value(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probability of an ordinary object to have such a score or a higher one; in (0, 1], NaN stays."""
        values = np.asarray(scores, np.float64)
        last = self.bulk[-1]
        higher = np.where(values > last, values, last)
        above = (np.log(higher / last) if self.logarithm else higher - last) / self.scale
        above = np.minimum(above, FURTHEST)
        tail = self.share * np.exp(-above * (1.0 + self.shape * above))
        # Equal quantiles are one score of several objects: all of those count as having it or more.
        steps, first = np.unique(self.bulk, return_index=True)
        below = 1.0 - np.interp(values, steps, np.linspace(0.0, TAIL_FROM, len(self.bulk))[first])
        p = np.where(values > last, tail, below)
        return np.where(np.isnan(values), np.nan, np.clip(p, LEAST, 1.0))

    def quantile(self, probability: float) -> float:
        """Score that a share ``probability``, in [0, 1), of ordinary objects does not exceed.

        Examples
        --------
        >>> scores = Calibration.fit(np.random.default_rng(0).normal(size=10_000))
        >>> float(scores.p_value(np.array([scores.quantile(0.99)])).round(6)[0])
        0.01
        """
        left = (1.0 - probability) / self.share
        if left >= 1.0 or probability <= TAIL_FROM:
            return float(np.interp(probability, np.linspace(0.0, TAIL_FROM, len(self.bulk)), self.bulk))
        decay = -np.log(left)
        above = self.scale * 2.0 * decay / (1.0 + np.sqrt(1.0 + 4.0 * self.shape * decay))
        return float(self.bulk[-1] * np.exp(above) if self.logarithm else self.bulk[-1] + above)

    def sigma(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores in deviations from the mean of the calibration."""
        return (scores - self.mean) / (self.deviation or 1.0)

    def drift(self, scores: NDArray[np.float64]) -> Drift:
        """Compare the bulk of other scores with this: anomalies, being few, do not matter.

        The distance is that of Kolmogorov and Smirnov over the quantiles of the bulk.

        Parameters
        ----------
        scores : (n,) float64
            Those that are not finite are left out; with none, nothing has drifted.
        """
        known = np.sort(scores[np.isfinite(scores)])
        if not len(known):
            return Drift(0.0, DRIFT, 0)
        levels = np.linspace(0.0, TAIL_FROM, len(self.bulk))
        under = np.searchsorted(known, self.bulk, side="left") / len(known)
        upto = np.searchsorted(known, self.bulk, side="right") / len(known)
        distance = np.maximum(np.maximum(levels - upto, under - levels), 0.0).max()
        chance = 1.63 * np.sqrt(1.0 / len(known) + 1.0 / self.count)
        return Drift(float(distance), float(DRIFT + chance), len(known))

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """What is saved with a model."""
        head = np.array(
            [self.count, self.mean, self.deviation, self.logarithm, self.share, self.scale, self.shape],
            np.float64,
        )
        return {"calibration": head, "calibration_bulk": self.bulk}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Calibration:
        """Inverse of :meth:`arrays`."""
        count, mean, deviation, logarithm, *tail = (float(v) for v in arrays["calibration"])
        return Calibration(int(count), mean, deviation, bool(logarithm), arrays["calibration_bulk"], *tail)


def _fit(known: NDArray[np.float64], head: tuple[int, float, float, bool], upto: float) -> Calibration:
    """Fit to sorted scores, the tail to what is below a quantile."""
    logarithm = head[-1]
    bulk = np.quantile(known, np.linspace(0.0, TAIL_FROM, 181), method="inverted_cdf")
    values = np.log(known) if logarithm else known
    values = values - (np.log(bulk[-1]) if logarithm else bulk[-1])
    above = values[known > bulk[-1]]
    share = max(len(above), 1) / (len(values) + 1)
    end = float(np.quantile(values, upto))
    inside = above[above <= end]
    if len(inside) < FEWEST_IN_TAIL or end <= 0:  # nearly all scores are equal
        scale, shape = max(float(above.mean()) if len(above) else 0.0, float(values.std()), 1e-9), 0.0
    else:
        scale, shape = _truncated(inside, end, *(RISE_OF_LOGARITHMS if logarithm else RISE_OF_OTHERS))
    return Calibration(*head, bulk, share, scale, shape)


def _truncated(
    inside: NDArray[np.float64], end: float, expected: float, spread: float
) -> tuple[float, float]:
    """Scale and shape of a law of which only what is below ``end`` is known, by penalised likelihood."""
    mean, square = float(inside.mean()), float(np.square(inside).mean())

    def loss(logarithm: float, shape: float) -> float:
        scale = float(np.exp(logarithm)) * mean
        last = end / scale
        density = np.log1p(2.0 * shape / scale * inside).mean() - mean / scale - shape * square / scale**2
        return float(np.log(scale) - density + np.log(-np.expm1(-last * (1.0 + shape * last))))

    best = (np.inf, mean, 0.0)
    for shape in RISES:
        found = minimize_scalar(loss, bounds=(-1.0, 3.0), method="bounded", args=(shape,))
        penalty = 0.5 * ((shape - expected) / spread) ** 2 / len(inside)
        best = min(best, (float(found.fun + penalty), float(np.exp(found.x)) * mean, float(shape)))
    return best[1:]
