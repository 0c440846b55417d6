"""The Universal Scalability Law: what keeps n workers from doing n times the work of one.

    X(n) = lambda n / (1 + sigma (n - 1) + kappa n (n - 1))

``sigma`` (contention) is the share of the work that goes through something which serves one at a time;
``kappa`` (coherence) what workers spend on each other. With kappa = 0 it is Amdahl's law, with both 0
proportional. The throughput is largest at n = sqrt((1 - sigma) / kappa).

Source: N. J. Gunther, *Guerrilla Capacity Planning*, Springer 2007, chapter 4; N. J. Gunther, P. Puglia and
K. Tomasette, "Hadoop superlinear scalability", Communications of the ACM 58 (4), 2015.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.stats import f as fisher

#: Beyond this sigma and kappa have no meaning that a run could show.
LARGEST = 1e6
#: With fewer points beyond the three parameters the intervals are wide, and said to be of few points.
FEW = 3


@dataclass(frozen=True)
class Law:
    """The law as it was fitted.

    Attributes
    ----------
    rate : float
        lambda: throughput of one worker.
    sigma, kappa : float
        Contention and coherence; at least 0.
    sigma_interval, kappa_interval : (float, float)
        Where the true values lie with the stated confidence; NaN where there are no points to spare.
    points : int
        Measurements that were fitted.
    confidence : float
    """

    rate: float
    sigma: float
    kappa: float
    sigma_interval: tuple[float, float]
    kappa_interval: tuple[float, float]
    points: int
    confidence: float

    def __call__(self, n: ArrayLike) -> NDArray[np.float64]:
        """Throughput of n workers."""
        n = np.asarray(n, np.float64)
        found: NDArray[np.float64] = self.rate * n / (1 + self.sigma * (n - 1) + self.kappa * n * (n - 1))
        return found

    @property
    def peak(self) -> float:
        """Number of workers with the largest throughput; infinite where more is always more."""
        if self.kappa <= 0 or self.sigma >= 1:
            return float("inf") if self.sigma < 1 else 1.0
        return float(np.sqrt((1 - self.sigma) / self.kappa))

    def text(self) -> str:
        """The parameters in one line."""
        few = f" ({self.points} points for 3 parameters)" if self.points < 3 + FEW else ""
        peak = f", most at n = {self.peak:.3g}" if np.isfinite(self.peak) else ""
        return (
            f"lambda {self.rate:.4g}/s, sigma {self.sigma:.3g} {_span(self.sigma_interval)}, "
            f"kappa {self.kappa:.3g} {_span(self.kappa_interval)}{peak}{few}"
        )


def _span(interval: tuple[float, float]) -> str:
    if not np.isfinite(interval[0]):
        return "[no interval: too few points]"
    high = "any" if interval[1] >= LARGEST else f"{interval[1]:.2g}"
    return f"[{interval[0]:.2g}, {high}]"


def fit(n: Sequence[float], throughput: Sequence[float], *, confidence: float = 0.95) -> Law | None:
    """Fit the law to measured throughputs, of equal relative error.

    n / X is linear in 1 / lambda, sigma / lambda and kappa / lambda, which are at least 0: the best values
    come from linear least squares without negative coefficients, so there is nothing to converge. The
    intervals are those of the profile likelihood: the values for which the sum of squares, with the other
    two fitted, exceeds the smallest one by no more than F(1, N - 3) allows. Repeats of a measurement are
    points of their own.

    Parameters
    ----------
    n : sequence of float, (N,)
        Workers.
    throughput : sequence of float, (N,)
        Work done in a second; above 0.
    confidence : float

    Returns
    -------
    Law or None
        None with fewer than three different numbers of workers.

    Examples
    --------
    >>> law = fit([1, 2, 4, 8], [1.0, 1.9, 3.4, 5.4])
    >>> round(law.rate, 2), law.sigma >= 0
    (1.0, True)
    """
    count, rate = np.asarray(n, np.float64), np.asarray(throughput, np.float64)
    good = (count > 0) & (rate > 0) & np.isfinite(rate)
    count, rate = count[good], rate[good]
    if len(np.unique(count)) < 3:
        return None
    columns = _columns(count, rate)
    best, norm = nnls(columns, np.ones(len(count)))
    if best[0] <= 0:  # all of it is contention: one worker's share cannot be told
        return None
    spare = len(count) - 3
    intervals = [(float("nan"), float("nan"))] * 2
    if spare > 0:
        smallest = max(norm**2, 1e-18)
        allowed = smallest * (1 + float(fisher.ppf(confidence, 1, spare)) / spare)
        intervals = [_interval(columns, which, best[which] / best[0], allowed) for which in (1, 2)]
    return Law(
        float(1 / best[0]), float(best[1] / best[0]), float(best[2] / best[0]), intervals[0], intervals[1],
        len(count), confidence,
    )  # fmt: skip


def _columns(count: NDArray[np.float64], rate: NDArray[np.float64]) -> NDArray[np.float64]:
    """Design of X / n times (a + b (n - 1) + c n (n - 1)) = 1: its residuals are relative errors."""
    terms = np.stack([np.ones_like(count), count - 1, count * (count - 1)], axis=1)
    found: NDArray[np.float64] = terms * (rate / count)[:, None]
    return found


def _excess(columns: NDArray[np.float64], which: int, value: float) -> float:
    """Smallest sum of squares with one of sigma and kappa given."""
    other = columns[:, 3 - which]
    design = np.stack([columns[:, 0] + value * columns[:, which], other], axis=1)
    return float(nnls(design, np.ones(len(columns)))[1] ** 2)


def _interval(columns: NDArray[np.float64], which: int, best: float, allowed: float) -> tuple[float, float]:
    """Values on both sides of the best at which the sum of squares is just allowed."""
    low = 0.0
    if _excess(columns, which, 0.0) > allowed:
        low = _root(columns, which, best, 0.0, allowed)
    far = max(2 * best, 1e-9)
    while _excess(columns, which, far) <= allowed:
        far *= 2
        if far > LARGEST:
            return low, LARGEST
    return low, _root(columns, which, best, far, allowed)


def _root(columns: NDArray[np.float64], which: int, inside: float, outside: float, allowed: float) -> float:
    """Bisect between a value that is allowed and one that is not."""
    for _ in range(60):
        middle = 0.5 * (inside + outside)
        if _excess(columns, which, middle) <= allowed:
            inside = middle
        else:
            outside = middle
    return inside
