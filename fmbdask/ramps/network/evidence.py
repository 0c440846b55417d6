"""What the network says of a proposal, and how probable that makes it that the proposal is real."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import InputError
from .proposals import LEAST
from .windows import PATCH

Float = NDArray[np.float64]

#: Reads from the first one of a proposal on that are looked at: one after the other says more of the same.
READS = 8
#: Probabilities are taken as at least this, and at most one less this, before their logarithm.
EDGE = 1e-4
#: What the evidence is: a calibration is for no other.
POOLED = "mean log-odds"
#: Log-odds that a line is real per sigma of its significance, which decides where nothing but chance makes
#: lines, up to where chance makes none any more: beyond, only the network tells what else made one.
SLOPE, ENOUGH = 3.0, 6.0
#: How strongly slopes are drawn towards zero: as much as one proposal would.
RIDGE = 1.0
#: Most steps of the fit.
STEPS = 100


def padded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill a patch of a short ramp, or of a small exposure, up to the usual size: nothing is valid there.

    Parameters
    ----------
    values : (channels, reads, rows, columns) float32 array
        Of at most :data:`~fmbdask.ramps.network.windows.PATCH`.
    """
    missing = [(0, size - n) for size, n in zip(PATCH, values.shape[1:], strict=True)]
    return np.pad(values, [(0, 0), *missing]) if any(n for _, n in missing) else values


def evidence(probability: NDArray[np.float32], group: NDArray[np.bool_], read: int) -> float:
    """What a network says of a proposal: the mean log-odds of its pixels and the reads from its first one on.

    Faint pixels that agree add up so, where a mean of probabilities is that of the surest few. Trainings pool
    in the same way (:func:`fmbdask.models.voxels.region_odds`).

    Parameters
    ----------
    probability : (reads, rows, columns) float32 array
        Of the class that was proposed, in a patch.
    group : (rows, columns) bool array
        Pixels of the proposal in that patch.
    read : int
        Of the proposal, in the patch.

    Returns
    -------
    float
        The probability that has these log-odds; 0 where the patch holds none of its pixels.
    """
    seen = probability[read : read + READS][:, group].astype(np.float64)
    return float(_expit(_logit(seen).mean())) if seen.size else 0.0


def known_odds(score: ArrayLike) -> Float:
    """Log-odds that proposals are real by the significances of their lines alone [sigma], but for a constant.

    Networks are trained to add what these leave open (:func:`fmbdask.models.voxels.proposal_loss`).
    """
    return SLOPE * _above(score)


def odds(found: ArrayLike, score: ArrayLike) -> Float:
    """Log-odds that proposals are real by their evidence and their lines, but for a constant."""
    return _logit(np.asarray(found, np.float64)) + known_odds(score)


def best_f1(found: Float, real: NDArray[np.bool_]) -> tuple[float, float]:
    """Largest harmonic mean of completeness and purity that any threshold gives.

    Parameters
    ----------
    found : (n,) float64 array
        Evidence of each proposal.
    real : (n,) bool array

    Returns
    -------
    f1, threshold : float
        What is at least the threshold is accepted; (0, inf) where nothing is real.

    Examples
    --------
    >>> best_f1(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False]))
    (0.8, 0.3)
    """
    if not real.any():
        return 0.0, float("inf")
    order = np.argsort(-found, kind="stable")
    right, taken = np.cumsum(real[order]), np.arange(1, len(found) + 1)
    f1 = 2 * right / (taken + np.count_nonzero(real))
    f1[:-1][found[order][1:] == found[order][:-1]] = -1  # what is equal is accepted together
    best = int(f1.argmax())
    return float(f1[best]), float(found[order][best])


def average_precision(found: Float, real: NDArray[np.bool_]) -> float:
    """Mean purity over all thresholds, weighted by the completeness that each adds.

    Parameters
    ----------
    found : (n,) float64 array
        Evidence of each proposal.
    real : (n,) bool array

    Returns
    -------
    float
        0 where nothing is real.

    Examples
    --------
    >>> round(average_precision(np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False])), 3)
    0.833
    """
    if not real.any():
        return 0.0
    order = np.argsort(-found, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(found[order]) != 0, True))  # what is equal is accepted together
    right = np.cumsum(real[order])[ends]
    return float((np.diff(right, prepend=0) * right / (ends + 1)).sum() / right[-1])


@dataclass(frozen=True)
class Confidence:
    """Probability that a proposal is real, from its evidence and its own significance.

    Attributes
    ----------
    intercept, evidence, score : float
        Log-odds: a constant, per unit of the logit of the evidence, and per sigma of the significance of the
        line above :data:`~fmbdask.ramps.network.proposals.LEAST`, up to :data:`ENOUGH`.
    proposals, real : int
        On how many it was fitted, and how many of them were real.
    """

    intercept: float
    evidence: float
    score: float
    proposals: int = 0
    real: int = 0

    def __call__(self, found: Float, score: Float) -> Float:
        """Probability that each proposal is real.

        Parameters
        ----------
        found : (n,) array
            From :func:`evidence`.
        score : (n,) array
            :attr:`~fmbdask.ramps.network.proposals.Proposals.score` [sigma].
        """
        weights = np.array([self.intercept, self.evidence, self.score])
        return _expit(_model(found, score) @ weights)

    @classmethod
    def fit(cls, found: Float, score: Float, real: NDArray[np.bool_]) -> Confidence:
        """Logistic regression, slopes drawn towards zero.

        Parameters
        ----------
        found, score : (n,) arrays
        real : (n,) bool array

        Raises
        ------
        InputError
            If all of them are real, or none is.
        """
        if real.all() or not real.any():
            raise InputError(
                f"{np.count_nonzero(real)} of {real.size} proposals are real, which calibrates nothing: "
                "give more validation exposures"
            )
        model, wanted = _model(found, score), real.astype(np.float64)
        penalty = np.array([0.0, RIDGE, RIDGE])
        weights = np.array([np.log(wanted.mean() / (1 - wanted.mean())), 0.0, 0.0])

        def cost(weights: Float) -> float:
            odds = model @ weights
            loss = np.logaddexp(0, odds).sum() - odds @ wanted
            return float(loss + 0.5 * (penalty * weights**2).sum())

        for _ in range(STEPS):
            mean = _expit(model @ weights)
            slope = model.T @ (mean - wanted) + penalty * weights
            curve = (model.T * (mean * (1 - mean))) @ model + np.diag(penalty)
            step = np.linalg.lstsq(curve, slope, rcond=None)[0]
            before, length = cost(weights), 1.0
            while cost(weights - length * step) > before and length > 1e-6:
                length /= 2
            weights = weights - length * step
            if np.abs(length * step).max() < 1e-9:
                break
        constant, slope_of_evidence, slope_of_score = weights.tolist()
        return cls(constant, slope_of_evidence, slope_of_score, int(real.size), int(np.count_nonzero(real)))

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with what the evidence is."""
        return {
            "pooled": POOLED,
            "reads": READS,
            "edge": EDGE,
            "least": LEAST,
            "enough": ENOUGH,
            **asdict(self),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Confidence:
        """Inverse of :meth:`as_dict`.

        Raises
        ------
        InputError
            If a value is missing, no number, or of an evidence that is taken in another way.
        """
        try:
            how = tuple(values[name] for name in ("pooled", "reads", "edge", "least", "enough"))
            if how != (POOLED, READS, EDGE, LEAST, ENOUGH):
                raise ValueError("its evidence is another")
            made = cls(float(values["intercept"]), float(values["evidence"]), float(values["score"]))
            if not np.isfinite([made.intercept, made.evidence, made.score]).all():
                raise ValueError("it is not finite")
            return made
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"the calibration of a network cannot be used ({error}): train it again"
            ) from None


def _above(score: ArrayLike) -> Float:
    return np.minimum(np.asarray(score, np.float64), ENOUGH) - LEAST


def _model(found: Float, score: Float) -> Float:
    said = _logit(np.asarray(found, np.float64))
    return np.stack([np.ones(said.shape), said, _above(score)], axis=-1)


def _logit(probability: Float) -> Float:
    sure = np.clip(probability, EDGE, 1 - EDGE)
    return np.log(sure / (1 - sure))


def _expit(odds: Float) -> Float:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * odds)))
